"""How probable trajectories are forward beside backward: Σ log P_F − Σ log P_B along each.

They are drawn as `sampling` draws them, but nothing is recorded and the policy is asked once a
state, so that the memory needed does not grow with their length or number.
"""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from gfn_utils.environments import Environment
from gfn_utils.environments.log_rewards import log_rewards_of
from gfn_utils.policy import LogPolicy, tabulate
from gfn_utils.random_numbers import stateless_uniform
from gfn_utils.sampling import PADDING, draw, entry_of_action

ROWS_AT_ONCE = 8192
"""Trajectories drawn at once."""
NUMBERS_AT_ONCE = 4_000_000
"""Numbers in log P_F of all these at most: where actions are many, fewer are drawn at once."""


def backward_log_ratios(agent, objects: tf.Tensor, n: int, seed: int) -> np.ndarray:
    """Those of `n` trajectories back from each object `[N, ...]` by P_B, float64 `[N, n]`."""
    n_rows = len(objects) * n
    walk = _compiled(agent, _go_back, n_rows)
    drawn = [
        walk(tf.gather(objects, np.array(rows) // n), block_seed)
        for rows, block_seed in _blocks(agent.env, n_rows, 2 * seed)
    ]
    return _checked(np.concatenate(drawn)).reshape(-1, n)


def own_log_weights(agent, n: int, seed: int) -> np.ndarray:
    """log R less those of `n` trajectories of the agent itself, float64 `[n]`, in nats."""
    walk = _compiled(agent, _go_forth, n)
    log_weights = []
    for rows, block_seed in _blocks(agent.env, n, 2 * seed + 1):
        terminal, log_ratio = walk(agent.env.initial_states(len(rows)), block_seed)
        log_weights.append(np.asarray(log_rewards_of(agent.env, terminal)) - log_ratio)
    return _checked(np.concatenate(log_weights))


def _compiled(agent, walk: Callable, n_rows: int):
    """`walk` along the agent's policy as it is now, from states `[B, ...]` with a seed `[2]`.

    A graph without XLA, since it is made anew for every question: 3 to 9 times as fast as eager,
    after a fraction of a second. Where fewer states are listed than trajectories are drawn, the
    policy is written out first and only looked up: 8 times as fast again on 1,000 cells of the 8×8
    grid.
    """
    env, log_policy = agent.env, agent.log_policy
    if env.n_states is not None and env.n_states <= min(n_rows, _at_once(env)):
        log_policy = tabulate(env, log_policy).log_policy
    # Once eagerly, too: an agent may have to put its weights in place first. P_F of NaN would lead
    # to states that there are not.
    _checked(log_policy(env.initial_states(1))[0])
    signature = [tf.TensorSpec([None, *env.state_shape], tf.int32), tf.TensorSpec([2], tf.int64)]
    program = tf.function(lambda *given: walk(env, log_policy, *given), signature, autograph=False)
    return program.get_concrete_function()


def _go_back(env: Environment, log_policy: LogPolicy, states, seed):
    """The ratio of one trajectory back from each of the states, float64 `[B]`."""

    def goes_on(t, states, *_):
        return (t < env.max_trajectory_length - 1) & tf.reduce_any(env.backward_mask(states))

    def back_step(t, states, log_pb, log_ratio):
        has_parents = tf.reduce_any(env.backward_mask(states), axis=-1)
        actions = tf.where(has_parents, _drawn(log_pb, seed, t), PADDING)
        log_ratio -= _entry(log_pb, actions)
        states = env.back_step(states, actions)
        log_pf, log_pb = log_policy(states)[:2]
        return t + 1, states, log_pb, log_ratio + _entry(log_pf, actions)

    log_pf, log_pb = log_policy(states)[:2]
    log_ratio = tf.cast(log_pf[:, env.stop_action], tf.float64)
    return tf.while_loop(goes_on, back_step, (0, states, log_pb, log_ratio))[-1]


def _go_forth(env: Environment, log_policy: LogPolicy, states, seed):
    """Where one trajectory on from each of the states ends, `[B, ...]`, and its ratio, `[B]`."""

    def goes_on(t, states, running, *_):
        return (t < env.max_trajectory_length) & tf.reduce_any(running)

    def step(t, states, running, came_by, log_ratio):
        log_pf, log_pb = log_policy(states)[:2]
        actions = tf.where(running, _drawn(log_pf, seed, t), PADDING)
        log_ratio += _entry(log_pf, actions) - _entry(log_pb, came_by)
        running &= actions != env.stop_action
        came_by = tf.where(running, actions, PADDING)
        return t + 1, env.step(states, actions), running, came_by, log_ratio

    came_by = tf.fill(tf.shape(states)[:1], PADDING)
    start = (0, states, came_by == PADDING, came_by, tf.zeros_like(came_by, tf.float64))
    _, states, _, _, log_ratio = tf.while_loop(goes_on, step, start)
    return states, log_ratio


def _drawn(log_probabilities, seed, t):
    seed = tf.stack([seed[0], seed[1] + tf.cast(t, tf.int64)])
    n = tf.shape(log_probabilities)[:1]
    return draw(log_probabilities, stateless_uniform(n, seed, log_probabilities.dtype))


def _entry(table, actions):
    return tf.cast(entry_of_action(table, actions), tf.float64)


def _blocks(env: Environment, n_rows: int, seed: int) -> Iterator[tuple[range, tf.Tensor]]:
    """The numbers of the trajectories of each block, and its seed; no agent has one below 0."""
    for first in range(0, n_rows, _at_once(env)):
        block_seed = tf.constant([-1 - seed, first * env.max_trajectory_length], tf.int64)
        yield range(first, min(first + _at_once(env), n_rows)), block_seed


def _at_once(env):
    return max(1, min(ROWS_AT_ONCE, NUMBERS_AT_ONCE // env.n_actions))


def _checked(numbers):
    if np.isnan(numbers).any():
        raise ValueError("agent must give log P_F and log P_B, and env log R, got NaN among them")
    return numbers
