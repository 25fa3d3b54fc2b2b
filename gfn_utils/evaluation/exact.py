"""Did it learn the right distribution? Exact answers where the states can be listed.

An *agent* here is anything with an `env` and a `log_policy` (see `gfn_utils.policy`): a GFNAgent or
a PolicyTable. Distributions are float64 arrays `[n_states]` in the order of `env.states()`.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils.environments import Environment
from gfn_utils.environments.base import check_states
from gfn_utils.environments.graph import Graph, check_listed, edges_of, graph_of, log_counts
from gfn_utils.policy import PolicyTable
from gfn_utils.validation import (
    check_instance,
    check_integer,
    check_number,
    check_numbers,
    shown,
)

STATES_AT_ONCE = 8192
LARGEST_ERROR_OF_A_SUM = 1e-3
"""By how much the sum of a distribution may differ from 1: single precision, and long paths."""


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

    (arXiv 2111.09266, section 2: F(s) = Z · P(a trajectory passes s).) Raises ValueError if z is
    negative or not finite.
    """
    z = check_number("z", z, minimum=0.0)
    p_forward = _forward_probabilities(agent)
    state = z * _visit_probabilities(agent.env, p_forward)
    return Flows(state, state[:, None] * p_forward)


def answer_key(env: Environment, log_pb) -> tuple[PolicyTable, float]:
    """The one P_F and log Z that make every balance loss zero, given P_B.

    Takes log P_B `[n_states, n_actions − 1]`; sends every reward back along P_B and adds up what
    passes each state: F(s) = R(s) + Σ F(s')·P_B(s|s') (arXiv 2201.13259, section 3.1). Returns
    the table with P_F = F(s → s')/F(s), and log F in units of the reward, and log Z = log F(origin)
    in nats. Raises ValueError if `log_pb` is not such a policy, of this environment.
    """
    graph = graph_of(env)
    log_pb = _check_log_pb(env, graph, log_pb)
    p_backward = np.exp(log_pb)
    target = env.target()
    flow = target.copy()
    edge = np.zeros((env.n_states, env.n_actions))
    edge[:, env.stop_action] = target
    for sources, actions, targets in edges_of(graph, reversed(graph.layers)):
        edge[sources, actions] = flow[targets] * p_backward[targets, actions]
        np.add.at(flow, sources, edge[sources, actions])
    with np.errstate(divide="ignore"):
        log_pf = np.log(edge / flow[:, None])
    log_z = env.log_partition()
    tables = (tf.constant(table) for table in (log_pf, log_pb, np.log(flow) + log_z))
    return PolicyTable(env, *tables), log_z


def count_trajectories(env: Environment) -> np.ndarray:
    """In how many ways each state can be built: paths from the origin, float64 `[n_states]`.

    Two actions with the same child count as two. Raises OverflowError beyond about 1e308.
    """
    graph = graph_of(env)
    with np.errstate(over="ignore"):
        count = _propagate(graph, (graph.children >= 0).astype(np.float64))
    if np.isinf(count).any():
        raise OverflowError(
            f"there are more ways to build a state of {env!r} than a float holds: "
            "log_count_trajectories gives their logarithm"
        )
    return count


def log_count_trajectories(env: Environment) -> np.ndarray:
    """The logarithm of `count_trajectories` in nats, float64 `[n_states]`."""
    return log_counts(graph_of(env))


def empirical_distribution(env: Environment, terminal) -> np.ndarray:
    """The fraction of the terminal states `[B, ...]` that is each state, `[n_states]`."""
    check_instance("env", env, Environment, "an Environment")
    terminal = check_states(env, terminal, "terminal")
    check_listed(env)
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
    p = check_distribution("target", target)
    p = p[(p > 0) & (p < 1)]
    m = np.floor(n * p)
    log_choose = _log_factorial(n) - _log_factorial(m + 1) - _log_factorial(n - m - 1)
    log_deviation = log_choose + (m + 1) * np.log(p) + (n - m) * np.log1p(-p)
    return float(np.sum(2 * (m + 1) * np.exp(log_deviation)) / n)


def is_mode(env: Environment) -> np.ndarray:
    """Which listed states have the highest reward of all, bool `[n_states]`."""
    check_instance("env", env, Environment, "an Environment")
    return env.is_mode(env.states())


def modes_found(env: Environment, terminal) -> int:
    """How many of the modes, the states of the highest reward, are among `terminal` `[B, ...]`.

    Each counts once, also where several lie side by side. Raises ValueError where the states cannot
    be listed, unless the environment knows its modes without a list, as a HyperGrid does.
    """
    check_instance("env", env, Environment, "an Environment")
    terminal = check_states(env, terminal, "terminal").numpy()
    return len(np.unique(terminal[env.is_mode(terminal)], axis=0))


def check_distribution(name: str, value) -> np.ndarray:
    """Return `value` as float64; raise TypeError if it holds no numbers, ValueError if they are
    negative or do not add up to 1."""
    p = check_numbers(name, value)
    if p.ndim == 0 or p.size == 0:
        raise ValueError(f"{name} must be an array of probabilities, got {shown(value)}")
    allowed = f"{name} must be a distribution: probabilities of at least 0 that add up to 1"
    if not (p >= 0).all():
        raise ValueError(f"{allowed}, got {p[~(p >= 0)].flat[0]} among them")
    if not abs(p.sum() - 1) <= LARGEST_ERROR_OF_A_SUM:
        raise ValueError(f"{allowed}, got a sum of {p.sum()}")
    return p


def check_agent(agent):
    """Return `agent`; raise TypeError unless it has an `env` and a `log_policy`."""
    is_agent = isinstance(getattr(agent, "env", None), Environment)
    if not is_agent or not callable(getattr(agent, "log_policy", None)):
        raise TypeError(
            f"agent must be a GFNAgent, or something else with env and log_policy, got "
            f"{shown(agent)}"
        )
    return agent


def _propagate(graph: Graph, edge_weight: np.ndarray) -> np.ndarray:
    """One unit sent from the origin, multiplied along each edge, added up in each state."""
    amount = np.zeros(len(edge_weight))
    amount[graph.origin] = 1.0
    for sources, actions, targets in edges_of(graph, graph.layers):
        np.add.at(amount, targets, amount[sources] * edge_weight[sources, actions])
    return amount


def _visit_probabilities(env, p_forward):
    return _propagate(graph_of(env), p_forward[:, : env.stop_action])


def _forward_probabilities(agent):
    """P_F of every state, `[n_states, n_actions]`.

    In blocks: the network's features and activations for all of many states would fill gigabytes.
    """
    env = check_agent(agent).env
    states = env.states()
    log_pf = [
        agent.log_policy(states[first : first + STATES_AT_ONCE])[0]
        for first in range(0, len(states), STATES_AT_ONCE)
    ]
    p_forward = np.exp(np.concatenate(log_pf).astype(np.float64))
    expected = (env.n_states, env.n_actions)
    if p_forward.shape != expected or not _add_up(p_forward):
        raise ValueError(
            f"agent must give log P_F of shape {list(expected)}, of probabilities that add up to 1 "
            f"in each state, got shape {list(p_forward.shape)}: {shown(p_forward)}"
        )
    return p_forward


def _add_up(probabilities):
    return np.allclose(probabilities.sum(axis=-1), 1, rtol=0, atol=LARGEST_ERROR_OF_A_SUM)


def _distributions(p, q):
    p, q = check_distribution("p", p), check_distribution("q", q)
    if p.shape != q.shape:
        raise ValueError(f"p and q must have the same shape, got {p.shape} and {q.shape}")
    return p, q


def _check_log_pb(env, graph, log_pb):
    log_pb = check_numbers("log_pb", log_pb)
    expected = (env.n_states, env.n_actions - 1)
    if log_pb.shape != expected:
        raise ValueError(f"log_pb must be of shape {list(expected)}, got {list(log_pb.shape)}")
    total, p_backward = np.zeros(env.n_states), np.exp(log_pb)
    for _, actions, targets in edges_of(graph, graph.layers):
        np.add.at(total, targets, p_backward[targets, actions])
    has_parents = np.arange(env.n_states) != graph.origin
    wrong = ~(np.abs(total - has_parents) <= LARGEST_ERROR_OF_A_SUM)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            "log_pb must be logarithms of probabilities that add up to 1 over the parents of each "
            f"state, got {log_pb[row].tolist()} in state {env.states()[row].numpy().tolist()}"
        )
    return log_pb


def _log_factorial(n):
    return np.asarray(tf.math.lgamma(tf.constant(n, tf.float64) + 1))
