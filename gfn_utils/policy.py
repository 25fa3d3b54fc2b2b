"""Log-policies: the masks that turn logits into P_F and P_B, tables, and mixing with uniform.

Everywhere else in the package a policy is a *log-policy*: a function from states `[B, ...]` to
log P_F `[B, n_actions]` and log P_B `[B, n_actions − 1]` in nats, −inf where an action is not
allowed. Where state flows are learned too, log F `[B]` is the third of its results. Sampler and
losses need not know whether a network or a table answers.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils.environments import Environment
from gfn_utils.environments.graph import edges_of, graph_of, log_counts, moves_key
from gfn_utils.networks.log_z import log_z_of
from gfn_utils.validation import check_function, check_instance

LogPolicy = Callable[[tf.Tensor], tuple[tf.Tensor, ...]]

BACKWARD_POLICIES = ("learned", "uniform", "maximum_entropy")

MOST_COUNTED = 10_000_000
"""Entries of the table that P_B may fill where histories are counted: 80 MB."""


def masked_log_softmax(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Log-probabilities `[B, n]` in nats of the allowed actions alone, −inf for the others.

    A row without an allowed action (P_B at the origin) is −inf throughout.
    """
    logits = tf.convert_to_tensor(logits)
    lowest = tf.constant(-1e30, logits.dtype)
    log_probabilities = tf.nn.log_softmax(tf.where(mask, logits, lowest))
    return tf.where(mask, log_probabilities, tf.constant(float("-inf"), logits.dtype))


class NetworkPolicy(NamedTuple):
    """A network as a log-policy: a pure function, which is what compiled training needs."""

    env: Environment
    network: NamedTuple
    """The network with its weights: see `gfn_utils.networks`."""
    fixed_log_pb: np.ndarray | None
    """log P_B of the listed states `[n_states, n_actions − 1]` where it is neither learned nor
    uniform; otherwise None."""
    backward_policy: str
    log_z: tuple[tf.Tensor, ...]
    """The weights that tell log Z (see `networks.log_z`) if state flows are learned, and otherwise
    nothing."""

    @property
    def parameters(self):
        """The tensors by which to differentiate what the policy says."""
        return self.network.parameters, self.log_z

    def __call__(self, states: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return self.evaluate(states)[0]

    def evaluate(
        self, states: tf.Tensor, known: Sequence[tf.Tensor] | None = None
    ) -> tuple[tuple[tf.Tensor, ...], list[tf.Tensor]]:
        """What the policy says of the states, and what the network would have kept of its work.

        Where that is `known`, from an earlier evaluation of the same states with the same weights,
        it is differentiated but not worked out again.
        """
        logits, kept = self.network.evaluate(states, known)
        n_actions = self.env.n_actions
        forward, backward = logits[:, :n_actions], logits[:, n_actions : 2 * n_actions - 1]
        if self.backward_policy == "uniform":
            backward = tf.zeros_like(backward)
        if self.fixed_log_pb is not None:
            fixed = tf.gather(self.fixed_log_pb, self.env.index(states))
            backward = tf.cast(fixed, backward.dtype)
        backward_mask = self.env.backward_mask(states)
        log_pf = masked_log_softmax(forward, self.env.forward_mask(states))
        log_pb = masked_log_softmax(backward, backward_mask)
        if not self.log_z:
            return (log_pf, log_pb), kept
        has_parents = tf.reduce_any(backward_mask, axis=-1)
        log_flow = tf.where(has_parents, logits[:, -1], log_z_of(self.env, self.log_z, states))
        return (log_pf, log_pb, log_flow), kept


def network_log_policy(
    env: Environment,
    network,
    weights: Sequence[tf.Tensor],
    backward_policy: str = "learned",
    log_z: Sequence[tf.Tensor] = (),
) -> NetworkPolicy:
    """The log-policy of a network (see `gfn_utils.networks`) with the given weights.

    It keeps the weights as they are now. With `backward_policy="uniform"` P_B is 1 / (number of
    parents) and its logits go unused, as with "maximum_entropy" (see `maximum_entropy_log_pb`).
    With `log_z`, the weights that tell it, the `weights` of a state flow come last, and log F is
    given too: log Z at the origin, elsewhere what the network says.
    """
    logits = network.logits(env, weights, state_flow=bool(log_z))
    fixed_log_pb = None
    if backward_policy == "maximum_entropy":
        with tf.init_scope():  # worked out now, and not by the program that is being traced
            fixed_log_pb = maximum_entropy_log_pb(env)
    return NetworkPolicy(env, logits, fixed_log_pb, backward_policy, tuple(log_z))


def maximum_entropy_log_pb(env: Environment) -> np.ndarray:
    """log P_B(s|s') = log n(s) − log n(s') in nats, `[n_states, n_actions − 1]` (2312.14331).

    n counts the histories of a state: the paths that lead to it from the origin. By this P_B all
    histories of an object are equally likely. Raises ValueError where states cannot be listed, or
    are so many that the table would fill 80 MB.
    """
    check_instance("env", env, Environment, "an Environment")
    if env.n_states is None or env.n_states * (env.n_actions - 1) > MOST_COUNTED:
        raise ValueError(
            "backward_policy must not be 'maximum_entropy' unless states are listed, with at most "
            f"{MOST_COUNTED:,} actions in all: it counts the histories of every state, got {env!r}"
        )
    return _log_pb_by_counts(env, moves_key(env))


@functools.lru_cache(maxsize=8)
def _log_pb_by_counts(env, key):
    graph = graph_of(env)
    log_count = log_counts(graph)
    log_pb = np.full(graph.children.shape, -np.inf)
    for sources, actions, targets in edges_of(graph, graph.layers):
        log_pb[targets, actions] = log_count[sources] - log_count[targets]
    return log_pb


class PolicyTable(NamedTuple):
    """A policy written out for every listed state: evaluated once, then only looked up."""

    env: Environment
    log_pf: tf.Tensor
    """log P_F in the order of `env.states()`, `[n_states, n_actions]`, in nats."""
    log_pb: tf.Tensor
    """log P_B likewise, `[n_states, n_actions − 1]`."""
    log_flow: tf.Tensor | None = None
    """log F likewise, `[n_states]`, where it is known."""

    def log_policy(self, states: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The rows of the given states: this table as a log-policy."""
        rows = self.env.index(states)
        return tuple(tf.gather(table, rows) for table in self[1:] if table is not None)


def tabulate(env: Environment, log_policy: LogPolicy) -> PolicyTable:
    """Evaluate a log-policy on all listed states at once."""
    check_instance("env", env, Environment, "an Environment")
    check_function("log_policy", log_policy)
    return PolicyTable(env, *log_policy(env.states()))


def uniform_log_policy(env: Environment) -> LogPolicy:
    """The log-policy that prefers no allowed action to another, forward or backward."""

    def log_policy(states):
        masks = env.forward_mask(states), env.backward_mask(states)
        return tuple(masked_log_softmax(tf.zeros_like(mask, tf.float64), mask) for mask in masks)

    return log_policy


def mix_with_uniform(log_pf: tf.Tensor, mask: tf.Tensor, gamma) -> tf.Tensor:
    """log((1−γ)·P_F + γ·uniform over the allowed actions), `[B, n_actions]` in nats."""
    allowed = tf.cast(mask, log_pf.dtype)
    uniform = allowed / tf.reduce_sum(allowed, axis=-1, keepdims=True)
    gamma = tf.cast(tf.convert_to_tensor(gamma, dtype_hint=log_pf.dtype), log_pf.dtype)
    return tf.math.log((1 - gamma) * tf.exp(log_pf) + gamma * uniform)
