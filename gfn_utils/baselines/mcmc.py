"""Metropolis–Hastings on the objects of an environment: the MCMC of arXiv 2106.04399, section 4.1.

It walks from object to object, and is right in the limit.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils.environments import Environment
from gfn_utils.environments.base import check_states
from gfn_utils.environments.contract import check_attributes
from gfn_utils.environments.log_rewards import check_compiled_reward
from gfn_utils.environments.snapshot import Snapshot
from gfn_utils.sampling import LARGEST_RECORD, PADDING, stateless_uniform
from gfn_utils.validation import check_integer

LARGEST_MATRIX = 10_000
"""States for which the matrix of transitions may be worked out: it takes 800 MB then."""


class Chains(NamedTuple):
    """Where K chains were after each of T steps. A rejected move is a visit too: it stays."""

    states: np.ndarray
    """int32 `[T, K, *state_shape]`."""
    accepted: np.ndarray
    """Whether the step was a move, bool `[T, K]`."""


def metropolis_hastings(
    env: Environment, n_chains: int, n_steps: int, seed: int = 0, start=None
) -> Chains:
    """Metropolis–Hastings on the objects of `env` (Hastings 1970, Biometrika 57, 97).

    Each step draws one of the 2·(n_actions − 1) ways to do or to undo an action, all equally
    likely. The way back is as likely as the way there, so the move from x to y is accepted with
    probability min(1, R(y)/R(x)); one that the environment does not allow is rejected.

    Args:
        n_chains, n_steps: how many chains, and the steps of each.
        seed: the same seed gives the same chains.
        start: where they start, int `[n_chains, *state_shape]`; by default all at the
            initial state, as a GFlowNet's trajectories do.

    Raises ValueError if an argument is out of bounds, the record would exceed 4 GB, the states
    cannot be listed, or stop is not allowed in one of them: it has no reward to compare.
    """
    n_chains = check_integer("n_chains", n_chains, minimum=1)
    n_steps = check_integer("n_steps", n_steps, minimum=1)
    seed = check_integer("seed", seed, minimum=0)
    _states_that_pay(env)
    if n_chains * n_steps * math.prod(env.state_shape) > LARGEST_RECORD:
        raise ValueError(
            f"n_chains · n_steps states must be at most {LARGEST_RECORD:,} numbers, got "
            f"{n_chains:,} · {n_steps:,} states of {math.prod(env.state_shape)}"
        )
    start = check_states(env, env.initial_states(n_chains) if start is None else start, "start")
    if len(start) != n_chains:
        raise ValueError(f"start must hold {n_chains} states, one a chain, got {len(start)}")
    visited, accepted = _compile_walk(Snapshot(env, with_rewards=True), n_steps)(
        start, tf.constant(seed, tf.int64)
    )
    return Chains(visited.numpy(), accepted.numpy())


def transition_matrix(env: Environment) -> np.ndarray:
    """The probabilities of one step of `metropolis_hastings` from each state (row) to each.

    float64 `[n_states, n_states]` in the order of `env.states()`. Raises ValueError as there, and
    for more than 10,000 states.
    """
    states = _states_that_pay(env)
    if len(states) > LARGEST_MATRIX:
        raise ValueError(
            f"env must have at most {LARGEST_MATRIX:,} states for a matrix of all pairs, "
            f"got {len(states):,}"
        )
    log_reward, rows = env.log_reward(states).numpy(), np.arange(len(states))
    matrix = np.zeros([len(states)] * 2)
    n_ways = 2 * (env.n_actions - 1)
    for way in range(n_ways):
        neighbours, allowed = _neighbours(env, states, tf.fill([len(states)], way))
        to = env.index(neighbours).numpy()
        accept = np.exp(np.minimum(0, log_reward[to] - log_reward))
        matrix[rows, to] += np.where(allowed, accept, 0) / n_ways
    matrix[rows, rows] += 1 - matrix.sum(axis=1)
    return matrix


def _states_that_pay(env):
    check_attributes(env)
    check_compiled_reward(env)
    states = env.states()
    can_stop = env.forward_mask(states)[:, env.stop_action].numpy()
    if not can_stop.all():
        raise ValueError(
            "env must allow stop in all of its states, since only these have a reward; it does "
            f"not in {states[int(np.argmin(can_stop))].numpy().tolist()}"
        )
    return states


def _neighbours(env, states, way):
    """The states that each `way` `[B]` leads to (itself where not allowed), and whether it may."""
    n_moves = env.n_actions - 1
    ways = tf.concat([env.forward_mask(states)[:, :n_moves], env.backward_mask(states)], axis=1)
    allowed = tf.gather(ways, way, batch_dims=1)
    forward = tf.where(allowed & (way < n_moves), way, PADDING)
    backward = tf.where(allowed & (way >= n_moves), way - n_moves, PADDING)
    return env.back_step(env.step(states, forward), backward), allowed


@functools.lru_cache(maxsize=16)
def _compile_walk(snapshot, n_steps):
    env = snapshot.env
    n_ways = 2 * (env.n_actions - 1)

    def walk(start, seed):
        n_chains = start.shape[0]

        def step(t, states, log_reward, visited, accepted):
            drawn = stateless_uniform(
                [2, n_chains], tf.stack([seed, tf.cast(t, tf.int64)]), tf.float64
            )
            way = tf.cast(drawn[0] * n_ways, tf.int32)
            proposed, allowed = _neighbours(env, states, way)
            proposed_log_reward = env.log_reward(proposed)
            accept = allowed & (tf.math.log(drawn[1]) < proposed_log_reward - log_reward)
            log_reward = tf.where(accept, proposed_log_reward, log_reward)
            rows = tf.reshape(accept, [-1, *[1] * len(env.state_shape)])
            states = tf.where(rows, proposed, states)
            return t + 1, states, log_reward, visited.write(t, states), accepted.write(t, accept)

        visited = tf.TensorArray(tf.int32, n_steps, element_shape=start.shape)
        accepted = tf.TensorArray(tf.bool, n_steps, element_shape=[n_chains])
        loop = (0, start, env.log_reward(start), visited, accepted)
        *_, visited, accepted = tf.while_loop(lambda t, *_: t < n_steps, step, loop)
        return visited.stack(), accepted.stack()

    return tf.function(walk, jit_compile=True, autograph=False)
