"""How good the best objects are, how far apart and how new: scores of a set of objects.

They need no environment: objects are any array `[N, ...]`, with their log R `[N]` in nats. A
*distance* is a function from two arrays of B objects each, `[B, ...]`, to the distance in each of
the B pairs, `[B]`, finite and at least 0. It is asked about one object and all others at a time, so
the memory needed grows with N and not with N².
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gfn_utils.validation import (
    check_function,
    check_integer,
    check_log_numbers,
    check_number,
    check_numbers,
    shown,
)

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Scored(NamedTuple):
    """Distinct objects, the best first."""

    objects: np.ndarray
    """`[N, ...]`."""
    log_rewards: np.ndarray
    """log R in nats, float64 `[N]`."""


def hamming(a, b) -> np.ndarray:
    """In how many places two objects differ, for each pair of `[B, ...]` and `[B, ...]`, `[B]`.

    Raises ValueError unless both have the same shape.
    """
    a, b = _check_objects("a", a), _check_objects("b", b)
    if a.shape != b.shape:
        raise ValueError(f"a and b must have the same shape, got {a.shape} and {b.shape}")
    return np.sum(a != b, axis=tuple(range(1, a.ndim)))


def ranked(objects, log_rewards) -> Scored:
    """Each of the objects `[N, ...]` once, the best first; equally good ones in order of value.

    Of an object with several log-rewards, as noisy measurements give, the highest counts. Raises
    ValueError or TypeError unless there is an object, and one number for each.
    """
    objects = _check_objects("objects", objects)
    log_rewards = check_log_numbers("log_rewards", log_rewards, len(objects))
    distinct, inverse = np.unique(objects, axis=0, return_inverse=True)
    best = np.full(len(distinct), -np.inf)
    np.maximum.at(best, inverse.ravel(), log_rewards)
    order = np.argsort(-best, kind="stable")
    return Scored(distinct[order], best[order])


def top_k(objects, log_rewards, k: int) -> Scored:
    """The k best of the distinct objects. Raises ValueError if there are fewer; see `ranked`."""
    found = ranked(objects, log_rewards)
    k = check_integer("k", k, minimum=1)
    if k > len(found.objects):
        raise ValueError(
            f"k must be at most {len(found.objects)}, the number of distinct objects, got {k}"
        )
    return Scored(found.objects[:k], found.log_rewards[:k])


def top_k_mean(objects, log_rewards, k: int) -> float:
    """The mean reward R (not log R) of the k best distinct objects; see `top_k`."""
    return float(np.mean(np.exp(top_k(objects, log_rewards, k).log_rewards)))


def diversity(objects, distance: Distance) -> float:
    """The mean distance of two different ones of the objects `[N, ...]`, N ≥ 2.

    Of all that are given, each as often as it is: take `top_k(...).objects` for that of the best
    (arXiv 2203.04115, section 5). Raises ValueError or TypeError for fewer objects, or if
    `distance` gives something else than distances.
    """
    objects = _check_objects("objects", objects)
    n = check_integer("the number of objects", len(objects), minimum=2)
    check_function("distance", distance)
    total = sum(_to_each(distance, objects[i], objects[i + 1 :]).sum() for i in range(n - 1))
    return float(total / (n * (n - 1) / 2))


def novelty(objects, known, distance: Distance) -> float:
    """The mean distance of the objects `[N, ...]` to the nearest of `known` `[M, ...]`.

    (arXiv 2203.04115, section 5.) Raises ValueError or TypeError if either is empty, if they differ
    in shape, or if `distance` gives something else than distances.
    """
    objects, known = _check_objects("objects", objects), _check_objects("known", known)
    if objects.shape[1:] != known.shape[1:]:
        raise ValueError(
            "known must hold objects of the same shape as objects, "
            f"got {known.shape} and {objects.shape}"
        )
    check_function("distance", distance)
    return float(np.mean([_to_each(distance, x, known).min() for x in objects]))


def separate_modes(
    objects, log_rewards, is_mode: Callable, distance: Distance, min_distance: float
) -> Scored:
    """The distinct objects that are modes, no two of them closer than `min_distance`.

    Their number, `len(….objects)`, is how many modes were found. `is_mode` is a function from
    objects `[B, ...]` and log R `[B]` to bool `[B]`; a threshold c on R is
    `lambda objects, log_rewards: log_rewards >= math.log(c)`.

    Chosen greedily from the best down: an object counts if its distance to all that count already
    is at least `min_distance`. That is the usual way to count and gives a set to which none can be
    added, not the largest such set. Raises ValueError or TypeError for what is none of these.
    """
    found = ranked(objects, log_rewards)
    check_function("is_mode", is_mode)
    check_function("distance", distance)
    min_distance = check_number("min_distance", min_distance, minimum=0.0)
    left = np.flatnonzero(_check_flags(is_mode(*found), len(found.objects)))
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        far = _to_each(distance, found.objects[best], found.objects[left]) >= min_distance
        left = left[far]
    return Scored(found.objects[kept], found.log_rewards[kept])


def _to_each(distance, one, others):
    """The distance of one object `[...]` to each of the others `[B, ...]`, float64 `[B]`."""
    if not len(others):
        return np.zeros(0)
    result = distance(np.broadcast_to(one, others.shape), others)
    distances = check_numbers("what distance gives", result)
    if distances.shape != (len(others),) or not (np.isfinite(distances) & (distances >= 0)).all():
        raise ValueError(
            f"distance must give {len(others)} numbers of at least 0 for so many pairs, "
            f"got {shown(result)}"
        )
    return distances


def _check_objects(name, value):
    allowed = f"{name} must be an array of numbers [N, ...]"
    try:
        objects = np.asarray(value)
    except Exception as error:  # ragged lists, and objects that refuse in a way of their own
        raise TypeError(f"{allowed}, got {shown(value)}") from error
    if objects.dtype.kind not in "biuf":
        raise TypeError(f"{allowed}, got {shown(value)}")
    if objects.ndim == 0 or not len(objects):
        raise ValueError(f"{name} must hold at least one object, got shape {list(objects.shape)}")
    return objects


def _check_flags(value, n):
    flags = np.asarray(value)
    if flags.dtype != bool or flags.shape != (n,):
        raise ValueError(f"is_mode must give {n} times True or False, got {shown(value)}")
    return flags
