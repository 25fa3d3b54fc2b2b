"""What an environment answers about some of its states, to notice when it has changed."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils.environments.base import Environment
from gfn_utils.environments.log_rewards import log_rewards_of

MOST_LISTED = 1_000_000
"""Environments with more states than this are walked through, not listed."""
MOST_STATES, MOST_MASKS, MOST_FEATURES = 100_000, 4_096, 64
MOST_NUMBERS = 2**20
"""Of wide masks and encodings fewer are asked for, so that each holds no more numbers than this."""
MOST_PYTHON_REWARDS = 64
"""A reward in Python may be slow, so no more than these are asked for."""
MOST_WALKS, LONGEST_WALK = 256, 5_000
BLOCK = 8_192
TOLERANCE = 1e-4
"""A difference below this part of the usual size is taken for rounding.

A reward that a float32 network computes differs by some 1e-6 of its size from one processor, or one
set of kernels, to the next; 1e-4 leaves room for processors that multiply less exactly. A change of
1e-4 nats is one of 0.01 % in the reward, and no training tells such rewards apart.
"""


class Fingerprint(NamedTuple):
    """What an environment answers about N of its states."""

    states: np.ndarray
    """The states asked about, int32 `[N, *state_shape]`; the first is the initial state."""
    log_reward: np.ndarray
    """log R of each in nats, float64 `[N]`; 0 where it was not asked."""
    masks: np.ndarray
    """The forward and the backward mask of the first M states, bool `[M, 2·n_actions − 1]`."""
    children: np.ndarray
    """Where one of the allowed moves leads from each of these, int32 `[M, *state_shape]`."""
    features: np.ndarray
    """The encodings of the first K states, float64 `[K, ...]`."""


def fingerprint(env: Environment) -> Fingerprint:
    """Ask `env` about its states, always about the same ones.

    Where states are listed these are up to 100,000, first of all those in which stop is allowed, so
    that one reward of 65,536 counts. Where they are not, or are more than a million, these are the
    states that 256 random walks pass. M is at most 4,096 and K at most 64; all these numbers are
    lower where states, masks or encodings are wide.
    """
    rng = np.random.default_rng(0)
    n_masks = _rows(MOST_MASKS, max(2 * env.n_actions - 1, math.prod(env.state_shape)))
    listed = env.n_states is not None and env.n_states <= MOST_LISTED
    chosen = _listed_states(env, rng, n_masks) if listed else _states_of_walks(env, rng)
    states = np.concatenate([np.asarray(env.initial_states(1), np.int32), chosen])
    some = tf.constant(states[:n_masks])
    forward = np.asarray(env.forward_mask(some), bool)
    masks = np.concatenate([forward, np.asarray(env.backward_mask(some), bool)], axis=1)
    children = np.asarray(env.step(some, _random_moves(forward, rng)))
    n_features = math.prod(env.encode(some[:1]).shape)
    features = np.asarray(env.encode(some[: _rows(MOST_FEATURES, n_features)]), np.float64)
    can_stop = _can_stop(env, states)
    log_reward = np.zeros(len(states))
    asked = np.flatnonzero(can_stop)[: MOST_PYTHON_REWARDS if env.python_reward else None]
    if asked.size:
        log_reward[asked] = _in_blocks(lambda block: log_rewards_of(env, block), states[asked])
    return Fingerprint(states, log_reward, masks, children, features)


def difference(saved: Fingerprint, found: Fingerprint) -> str | None:
    """A sentence that says in what `found` differs from `saved`, or None if only by rounding."""
    for name, old, new in zip(Fingerprint._fields, saved, found, strict=True):
        if old.shape != new.shape:
            shapes = f"{list(new.shape)} where it was {list(old.shape)}"
            return f"the shape of {name}, asked of some states, is {shapes}"
    if (saved.states != found.states).any():
        return "its states are others than they were"
    for name, old, new in (
        ("the masks", saved.masks.astype(int), found.masks.astype(int)),
        ("the child by one of its moves", saved.children, found.children),
        ("the log_reward", saved.log_reward, found.log_reward),
        ("the encoding", saved.features, found.features),
    ):
        differs = _differs(old, new).reshape(len(old), -1).any(axis=1)
        if differs.any():
            row = int(np.argmax(differs))
            others = f" ({differs.sum() - 1:,} more states differ)" if differs.sum() > 1 else ""
            return (
                f"{name} of state {saved.states[row].tolist()} is {new[row].tolist()} "
                f"where it was {old[row].tolist()}{others}"
            )
    return None


def _differs(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Which numbers differ; floats do by more than rounding, given their own and the usual size."""
    if old.dtype != np.float64:
        return old != new
    finite = np.abs(old[np.isfinite(old)])
    usual = max(1.0, np.median(finite)) if finite.size else 1.0
    return ~np.isclose(new, old, rtol=TOLERANCE, atol=TOLERANCE * usual, equal_nan=True)


def _rows(most: int, width: float) -> int:
    return max(1, min(most, int(MOST_NUMBERS // max(width, 1))))


def _listed_states(env, rng, n_masks):
    """The listed states, shuffled; of too many, a few of all kinds and then those that can stop."""
    states = np.asarray(env.states(), np.int32)
    states = states[rng.permutation(len(states))]
    if len(states) <= MOST_STATES:
        return states
    some, rest = states[:n_masks], states[n_masks:]
    can_stop = _can_stop(env, rest)
    return np.concatenate([some, rest[can_stop], rest[~can_stop]])[:MOST_STATES]


def _states_of_walks(env, rng):
    """The states that random walks from the initial one pass; of long walks not every step."""
    size = math.prod(env.state_shape)
    most, n_walks = _rows(MOST_STATES, size / 4), _rows(MOST_WALKS, 16 * size)
    states = np.asarray(env.origins(n_walks, tf.constant([0, 0], tf.int64)), np.int32)
    seen, every = [states], 1
    for step in range(1, min(env.max_trajectory_length, LONGEST_WALK)):
        moves = _random_moves(np.asarray(env.forward_mask(tf.constant(states)), bool), rng)
        if (moves < 0).all():
            break
        states = np.asarray(env.step(tf.constant(states), tf.constant(moves)))
        if step % every == 0:
            seen.append(states)
        if len(seen) * n_walks > most:
            seen, every = seen[::2], 2 * every
    return rng.permutation(np.unique(np.concatenate([*seen, states]), axis=0))


def _random_moves(forward_mask, rng):
    """One of the allowed actions of each row but stop, int32 `[B]`; −1 where there is none."""
    moves = forward_mask[:, :-1]
    chosen = np.where(moves, rng.random(moves.shape), -1.0).argmax(axis=1)
    return np.where(moves.any(axis=1), chosen, -1).astype(np.int32)


def _can_stop(env, states):
    return _in_blocks(lambda block: env.forward_mask(block)[:, env.stop_action], states)


def _in_blocks(method: Callable[[tf.Tensor], tf.Tensor], states: np.ndarray) -> np.ndarray:
    """`method` of the states `[N, ...]`, a block of them at a time."""
    blocks = [states[i : i + BLOCK] for i in range(0, len(states), BLOCK)]
    return np.concatenate([np.asarray(method(tf.constant(block))) for block in blocks])
