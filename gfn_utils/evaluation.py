"""Did it learn the right distribution? Exact answers where the states can be listed, and estimates.

An *agent* here is anything with an `env` and a `log_policy` (see `gfn_utils.policy`): a GFNAgent or
a PolicyTable. Distributions are float64 arrays `[n_states]` in the order of `env.states()`.
"""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils.environments import Environment
from gfn_utils.environments.base import check_states
from gfn_utils.policy import PolicyTable
from gfn_utils.validation import check_integer

STATES_AT_ONCE = 8192


def terminating_distribution(agent) -> np.ndarray:
    """P_T(x), the exact probability that a trajectory of the agent stops in x, `[n_states]`.

    Found by sending one unit of probability through the graph, not by sampling.
    """
    p_forward = _forward_probabilities(agent)
    return _visit_probabilities(agent.env, p_forward) * p_forward[:, agent.env.stop_action]


class Flows(NamedTuple):
    """How much passes through each part of the graph, in units of reward."""

    state: np.ndarray
    """F(s), `[n_states]`."""
    edge: np.ndarray
    """F(s → s') of each action, `[n_states, n_actions]`; the stop's is the flow that leaves."""


def flows(agent, z: float = 1.0) -> Flows:
    """The exact flows when `z` units enter at the origin and divide as P_F says.

    (arXiv 2111.09266, section 2: F(s) = Z · P(a trajectory passes s).)
    """
    p_forward = _forward_probabilities(agent)
    state = z * _visit_probabilities(agent.env, p_forward)
    return Flows(state, state[:, None] * p_forward)


def answer_key(env: Environment, log_pb) -> tuple[PolicyTable, float]:
    """The one P_F and log Z that make every balance loss zero, given P_B.

    Takes log P_B `[n_states, n_actions − 1]`; sends every reward back along P_B and adds up what
    passes each state: F(s) = R(s) + Σ F(s')·P_B(s|s') (arXiv 2201.13259, section 3.1). Returns
    the table with P_F = F(s → s')/F(s), and log F in units of the reward, and log Z = log F(origin)
    in nats.
    """
    graph = _graph(env)
    p_backward = np.exp(np.asarray(log_pb, np.float64))
    expected = (env.n_states, env.n_actions - 1)
    if p_backward.shape != expected:
        raise ValueError(f"log_pb must be of shape {list(expected)}, got {list(p_backward.shape)}")
    target = env.target()
    flow = target.copy()
    edge = np.zeros((env.n_states, env.n_actions))
    edge[:, env.stop_action] = target
    for sources in reversed(graph.layers):
        rows, actions = np.nonzero(graph.children[sources] >= 0)
        rows = sources[rows]
        targets = graph.children[rows, actions]
        edge[rows, actions] = flow[targets] * p_backward[targets, actions]
        flow[sources] += edge[sources, : env.stop_action].sum(axis=1)
    with np.errstate(divide="ignore"):
        log_pf = np.log(edge / flow[:, None])
    log_z = env.log_partition()
    tables = (tf.constant(table) for table in (log_pf, log_pb, np.log(flow) + log_z))
    return PolicyTable(env, *tables), log_z


def count_trajectories(env: Environment) -> np.ndarray:
    """In how many ways each state can be built: paths from the origin, float64 `[n_states]`."""
    graph = _graph(env)
    return _propagate(graph, (graph.children >= 0).astype(np.float64))


def empirical_distribution(env: Environment, terminal) -> np.ndarray:
    """The fraction of the terminal states `[B, ...]` that is each state, `[n_states]`."""
    terminal = check_states(env, terminal, "terminal")
    counts = np.bincount(env.index(terminal), minlength=env.n_states)
    return counts / counts.sum()


def l1_error(p, q) -> float:
    """Σ |p − q|: 0 for equal distributions, 2 for disjoint ones (a sum, not a mean)."""
    p, q = _distributions(p, q)
    return float(np.abs(p - q).sum())


def total_variation(p, q) -> float:
    """The largest difference in the probability of any event: half the L1 error, in [0, 1]."""
    return l1_error(p, q) / 2


def jensen_shannon(p, q) -> float:
    """The Jensen-Shannon divergence in nats, in [0, log 2]: mean KL of p and q to their middle."""
    p, q = _distributions(p, q)
    middle = (p + q) / 2

    def kl_to_middle(r):
        seen = r > 0
        return float(np.sum(r[seen] * np.log(r[seen] / middle[seen])))

    return (kl_to_middle(p) + kl_to_middle(q)) / 2


def noise_floor(target, n_samples: int) -> float:
    """The L1 error to expect of a *perfect* sampler's histogram of `n_samples` samples.

    Exact: a count is binomial, and E|count/n − π| has de Moivre's closed form
    2·(m+1)·C(n, m+1)·π^(m+1)·(1−π)^(n−m) / n with m = ⌊nπ⌋.
    """
    n = check_integer("n_samples", n_samples, minimum=1)
    p = np.asarray(target, np.float64)
    p = p[(p > 0) & (p < 1)]
    m = np.floor(n * p)
    log_choose = _log_factorial(n) - _log_factorial(m + 1) - _log_factorial(n - m - 1)
    log_deviation = log_choose + (m + 1) * np.log(p) + (n - m) * np.log1p(-p)
    return float(np.sum(2 * (m + 1) * np.exp(log_deviation)) / n)


def is_mode(env: Environment) -> np.ndarray:
    """Which listed states have the highest reward of all, bool `[n_states]`."""
    target = env.target()
    return np.isclose(target, target.max(), rtol=1e-9, atol=0)


def modes_found(env: Environment, terminal) -> int:
    """How many of the modes are among the terminal states `[B, ...]`."""
    return int(np.count_nonzero(empirical_distribution(env, terminal)[is_mode(env)]))


class _Graph(NamedTuple):
    children: np.ndarray
    """The state that each action but the stop leads to, `[n_states, n_actions − 1]`; −1: none."""
    layers: list[np.ndarray]
    """All states, in layers such that every edge leads to a later layer."""


@functools.lru_cache(maxsize=8)
def _graph(env: Environment) -> _Graph:
    if env.n_states is None:
        raise ValueError(f"exact answers need an environment that lists its states, got {env!r}")
    states = env.states()
    allowed = np.asarray(env.forward_mask(states))[:, : env.stop_action]
    children = np.full(allowed.shape, -1, np.int32)
    for action in range(env.stop_action):
        rows = np.flatnonzero(allowed[:, action])
        moved = env.step(tf.gather(states, rows), tf.fill([len(rows)], action))
        children[rows, action] = env.index(moved)

    # A state's layer is the number of actions on the longest path to it.
    layer = np.zeros(env.n_states, int)
    frontier = np.asarray(env.index(env.initial_states(1)))
    for depth in range(env.max_trajectory_length):
        layer[frontier] = depth
        reached = np.unique(children[frontier])
        frontier = reached[reached >= 0]
    order = np.argsort(layer, kind="stable")
    return _Graph(children, np.split(order, np.flatnonzero(np.diff(layer[order])) + 1))


def _propagate(graph: _Graph, edge_weight: np.ndarray) -> np.ndarray:
    """One unit sent from the origin, multiplied along each edge, added up in each state."""
    amount = np.zeros(len(edge_weight))
    amount[graph.layers[0]] = 1.0
    for sources in graph.layers:
        rows, actions = np.nonzero(graph.children[sources] >= 0)
        rows = sources[rows]
        passed_on = amount[rows] * edge_weight[rows, actions]
        amount += np.bincount(graph.children[rows, actions], passed_on, minlength=len(amount))
    return amount


def _visit_probabilities(env, p_forward):
    return _propagate(_graph(env), p_forward[:, : env.stop_action])


def _forward_probabilities(agent):
    """P_F of every state, `[n_states, n_actions]`.

    In blocks: the network's features and activations for all of many states would fill gigabytes.
    """
    states = agent.env.states()
    log_pf = [
        agent.log_policy(states[first : first + STATES_AT_ONCE])[0]
        for first in range(0, len(states), STATES_AT_ONCE)
    ]
    return np.exp(np.concatenate(log_pf).astype(np.float64))


def _distributions(p, q):
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    if p.shape != q.shape:
        raise ValueError(f"p and q must have the same shape, got {p.shape} and {q.shape}")
    return p, q


def _log_factorial(n):
    return np.asarray(tf.math.lgamma(tf.constant(n, tf.float64) + 1))
