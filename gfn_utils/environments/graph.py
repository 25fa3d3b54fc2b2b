"""The graph of an environment that lists its states, as arrays: for exact answers and checks."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils.environments.base import Environment
from gfn_utils.validation import check_instance

NUMBERS_AT_ONCE = 4_000_000
"""About how many entries of states or masks are worked out in one call."""


class Graph(NamedTuple):
    """The graph of an environment that lists its states; a state is its place in `env.states()`."""

    origin: int
    children: np.ndarray
    """The state that each action but the stop leads to, `[n_states, n_actions − 1]`; −1: none."""
    layers: list[np.ndarray]
    """All states, in layers such that every edge leads to a later layer."""


def graph_of(env: Environment) -> Graph:
    """The graph of an environment, which is kept as long as it stays the same."""
    check_instance("env", env, Environment, "an Environment")
    check_listed(env)
    return _graph_of_moves(env, moves_key(env))


@functools.lru_cache(maxsize=8)
def _graph_of_moves(env, key):
    children = children_of(env)
    layers = layers_of(children)
    if sum(map(len, layers)) < env.n_states:
        raise ValueError(
            f"exact answers need a graph without cycles, which {env!r} has: check_environment(env) "
            "tells where"
        )
    return Graph(int(env.index(env.initial_states(1))[0]), children, layers)


def edges_of(graph: Graph, layers) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Source, action and target of the edges that leave each of the layers, each `[E]`."""
    for sources in layers:
        rows, actions = np.nonzero(graph.children[sources] >= 0)
        rows = sources[rows]
        yield rows, actions, graph.children[rows, actions]


def log_counts(graph: Graph) -> np.ndarray:
    """The logarithm of the number of histories of each state in nats, float64 `[n_states]`."""
    log_count = np.full(len(graph.children), -np.inf)
    log_count[graph.origin] = 0.0
    for sources, _, targets in edges_of(graph, graph.layers):
        np.logaddexp.at(log_count, targets, log_count[sources])
    return log_count


def children_of(env: Environment) -> np.ndarray:
    """The state that each action but the stop leads to, int32 `[n_states, n_actions − 1]`.

    States are given by their place in `env.states()`; −1 where an action is not allowed.
    """
    states = env.states()
    allowed = np.asarray(env.forward_mask(states))[:, : env.stop_action]
    children = np.full(allowed.shape, -1, np.int32)
    rows, actions = np.nonzero(allowed)
    for pairs in blocks(len(rows), env):
        row, action = rows[pairs], actions[pairs]
        moved = env.step(tf.gather(states, row), tf.constant(action, tf.int32))
        children[row, action] = env.index(moved)
    return children


def moves_key(env: Environment) -> tuple[int, int]:
    """Another key as soon as the masks are others, or the results of one move from each state.

    The graph is kept, since it takes far longer to work out than what is asked about it: this tells
    whether it is still that of the environment. Takes 0.2 ms on a grid of 64 cells.
    """
    states = env.states()
    allowed = np.asarray(env.forward_mask(states))[:, : env.stop_action]
    action = np.arange(len(allowed)) % env.stop_action
    action = np.where(allowed[np.arange(len(allowed)), action], action, -1)
    moved = np.asarray(env.step(states, tf.constant(action, tf.int32)))
    return hash(allowed.tobytes()), hash(moved.tobytes())


def layers_of(children: np.ndarray) -> list[np.ndarray]:
    """The states in layers such that every edge leads to a later one.

    A state's layer is the number of actions on the longest path to it. States on a cycle, or that
    can be reached from one, are in no layer.
    """
    unseen_parents = np.bincount(children[children >= 0], minlength=len(children))
    layers, layer = [], np.flatnonzero(unseen_parents == 0)
    while len(layer):
        layers.append(layer)
        reached = children[layer]
        reached, times = np.unique(reached[reached >= 0], return_counts=True)
        unseen_parents[reached] -= times
        layer = reached[unseen_parents[reached] == 0]
    return layers


def check_listed(env: Environment) -> None:
    """Raise ValueError unless the environment lists its states."""
    if env.n_states is None:
        raise ValueError(f"exact answers need an environment that lists its states, got {env!r}")


def blocks(n: int, env: Environment) -> list[slice]:
    """0, …, n − 1 in slices of so many states that their masks fit in memory together."""
    size = max(1, NUMBERS_AT_ONCE // max(env.n_actions, int(np.prod(env.state_shape))))
    return [slice(first, first + size) for first in range(0, n, size)]
