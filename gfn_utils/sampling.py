"""Trajectories: drawn forward from the origin or backward from an object, and scored."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gfn_utils.environments import Environment
from gfn_utils.policy import LogPolicy

PADDING = -1


class Trajectories(NamedTuple):
    """B trajectories in forward order, padded to T = `env.max_trajectory_length` actions."""

    states: tf.Tensor
    """The state before each action, int32 `[B, T+1, ...]`; −1 once the trajectory has stopped."""
    actions: tf.Tensor
    """The actions, the stop included, int32 `[B, T]`; −1 after it."""
    terminal: tf.Tensor
    """The state in which each trajectory stopped, int32 `[B, ...]`."""
    log_reward: tf.Tensor
    """log R of that state in nats, float64 `[B]`."""


def sample_forward(
    env: Environment, log_policy: LogPolicy, batch_size, seed: tf.Tensor, gamma=0.0
) -> Trajectories:
    """Draw trajectories from the origin until they stop.

    The behaviour policy is (1−γ)·P_F + γ·uniform over the allowed actions: with γ = 0 that of
    the agent, with γ = 1 blind exploration.

    `seed` is an integer tensor `[2]`: the same seed gives the same trajectories.
    """
    length = env.max_trajectory_length

    def step(t, states, running, visited, actions):
        log_pf, _ = log_policy(states)
        log_behaviour = mix_with_uniform(log_pf, env.forward_mask(states), gamma)
        action = tf.where(running, _draw(log_behaviour, _seed_of_step(seed, t, length)), PADDING)
        visited = visited.write(t, _pad(states, running))
        actions = actions.write(t, action)
        running &= action != env.stop_action
        return t + 1, env.step(states, action), running, visited, actions

    _, terminal, _, visited, actions = tf.while_loop(
        lambda t, states, running, *_: (t < length) & tf.reduce_any(running),
        step,
        (
            0,
            env.initial_states(batch_size),
            tf.fill([batch_size], True),
            _padded_array(length + 1, [batch_size, *env.state_shape]),
            _padded_array(length, [batch_size]),
        ),
    )
    return Trajectories(
        _batch_first(visited.stack()),
        _batch_first(actions.stack()),
        terminal,
        env.log_reward(terminal),
    )


def sample_backward(
    env: Environment, log_policy: LogPolicy, terminal: tf.Tensor, seed: tf.Tensor, gamma=0.0
) -> Trajectories:
    """Draw trajectories from given terminal states back to the origin, returned origin first.

    P_B has no stop: that the last action was to stop is certain, so the first backward step costs
    nothing. `seed` as in `sample_forward`.
    """
    length, batch_size = env.max_trajectory_length, tf.shape(terminal)[0]

    def back_step(t, states, visited, actions):
        _, log_pb = log_policy(states)
        mask = env.backward_mask(states)
        drawn = _draw(mix_with_uniform(log_pb, mask, gamma), _seed_of_step(seed, t, length))
        action = tf.where(tf.reduce_any(mask, axis=-1), drawn, PADDING)
        states = env.back_step(states, action)
        return t + 1, states, visited.write(t + 1, states), actions.write(t, action)

    _, _, visited, actions = tf.while_loop(
        lambda t, *_: t < length - 1,
        back_step,
        (
            0,
            terminal,
            _padded_array(length + 1, [batch_size, *env.state_shape]).write(0, terminal),
            _padded_array(length, [batch_size]),
        ),
    )
    backward_states, backward_actions = visited.stack(), actions.stack()
    return _reverse(env, _batch_first(backward_states), _batch_first(backward_actions), terminal)


def log_probabilities(
    env: Environment, log_policy: LogPolicy, trajectories: Trajectories
) -> tuple[tf.Tensor, tf.Tensor]:
    """log P_F and log P_B of every step of the trajectories, each `[B, T]`, in nats.

    Entry t of the second is the log-probability of going back from state t+1 to state t: 0 for
    the stop, which is certain. Both are 0 in the padding.
    """
    actions = trajectories.actions
    batch_size, length = tf.shape(actions)[0], actions.shape[1]
    taken = actions != PADDING
    moved = taken & (actions != env.stop_action)

    # Where there is padding any state will do: what the policy says of it is not used.
    states = tf.reshape(trajectories.states[:, :length], [-1, *env.state_shape])
    states = _where_rows(tf.reshape(taken, [-1]), states, env.initial_states(1))
    log_pf, log_pb = log_policy(states)
    log_pf = tf.reshape(log_pf, [batch_size, length, env.n_actions])
    log_pb = tf.reshape(log_pb, [batch_size, length, env.n_actions - 1])

    def entry_of_action(table, valid):
        chosen = tf.gather(table, tf.where(valid, actions, 0), batch_dims=2)
        return tf.where(valid, chosen, tf.zeros([], table.dtype))

    # The last action can only be a stop, so it needs no state after it.
    log_pb = tf.concat([log_pb[:, 1:], log_pb[:, :1]], axis=1)
    return entry_of_action(log_pf, taken), entry_of_action(log_pb, moved)


def objects_seen(env: Environment, trajectories: Trajectories) -> np.ndarray:
    """Every object that the trajectories passed, or were one action away from, each once.

    A trajectory that ends in x has seen more than x: wherever it passed it could have stopped, and
    wherever it turned it could have turned another way. Returns states in which stop is allowed,
    int32 `[N, ...]`, in a fixed order.
    """
    passed = tf.boolean_mask(trajectories.states[:, :-1], trajectories.actions != PADDING)
    passed = np.unique(passed, axis=0)
    allowed = np.asarray(env.forward_mask(passed))
    seen = [passed]
    for action in range(env.stop_action):
        sources = passed[allowed[:, action]]
        seen.append(np.asarray(env.step(sources, tf.fill([len(sources)], action))))
    seen = np.unique(np.concatenate(seen), axis=0)
    return seen[np.asarray(env.forward_mask(seen))[:, env.stop_action]]


def mix_with_uniform(log_pf: tf.Tensor, mask: tf.Tensor, gamma) -> tf.Tensor:
    """log((1−γ)·P_F + γ·uniform over the allowed actions), `[B, n_actions]` in nats."""
    allowed = tf.cast(mask, log_pf.dtype)
    uniform = allowed / tf.reduce_sum(allowed, axis=-1, keepdims=True)
    gamma = tf.cast(gamma, log_pf.dtype)
    return tf.math.log((1 - gamma) * tf.exp(log_pf) + gamma * uniform)


def _draw(log_probabilities, seed):
    """One action a row from unnormalised log-probabilities `[B, n]`, by the Gumbel-max trick."""
    dtype = log_probabilities.dtype
    tiny = tf.constant(dtype.as_numpy_dtype(1e-30), dtype)
    uniform = tf.random.stateless_uniform(
        tf.shape(log_probabilities), seed, tiny, 1.0, dtype, alg="philox"
    )
    gumbel = -tf.math.log(-tf.math.log(uniform))
    return tf.argmax(log_probabilities + gumbel, axis=-1, output_type=tf.int32)


def _seed_of_step(seed, t, length):
    seed = tf.cast(seed, tf.int64)
    return tf.stack([seed[0], seed[1] * length + tf.cast(t, tf.int64)])


def _padded_array(size, element_shape):
    array = tf.TensorArray(tf.int32, size, clear_after_read=False)
    return array.unstack(tf.fill([size, *element_shape], PADDING))


def _pad(states, keep):
    return _where_rows(keep, states, PADDING)


def _where_rows(condition, rows, other):
    """`rows[i]` where `condition[i]`, else `other`: tf.where over states of any shape."""
    extra_axes = [1] * (len(rows.shape) - 1)
    return tf.where(tf.reshape(condition, [-1, *extra_axes]), rows, other)


def _batch_first(time_first):
    return tf.experimental.numpy.swapaxes(time_first, 0, 1)


def _reverse(env, states, actions, terminal):
    """Backward-ordered states `[B, T+1, ...]` and actions `[B, T]` (no stop) in forward order."""
    n_moves = tf.reduce_sum(tf.cast(actions != PADDING, tf.int32), axis=1, keepdims=True)

    def reverse(array, first):
        position = first - tf.range(array.shape[1])
        found = tf.gather(array, tf.maximum(position, 0), batch_dims=1)
        flat = tf.reshape(found, [-1, *array.shape[2:]])
        return tf.reshape(_pad(flat, tf.reshape(position >= 0, [-1])), tf.shape(array))

    moves = reverse(actions, n_moves - 1)
    is_stop = tf.range(actions.shape[1]) == n_moves
    return Trajectories(
        reverse(states, n_moves),
        tf.where(is_stop, env.stop_action, moves),
        terminal,
        env.log_reward(terminal),
    )
