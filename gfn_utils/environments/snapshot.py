"""An environment as it is at one moment: the key by which compiled programs are kept."""

import hashlib

import numpy as np
import tensorflow as tf

from gfn_utils.environments.base import Environment

LARGEST_TABLE = 10_000
"""Environments with more states than this do not hand their rewards to a program as a table."""


def has_table(env: Environment) -> bool:
    """Whether the rewards of `env` are handed to a compiled program as a table."""
    return env.n_states is not None and env.n_states <= LARGEST_TABLE and not env.python_reward


class Snapshot:
    """What a compiled program depends on in an environment.

    A program keeps what it read of its environment while it was traced, and would go on with it
    after that had changed. So programs are kept by a snapshot, taken anew for every call: two
    are equal only if masks, features and the results of steps are the same: on all states where
    at most 10,000 are listed, otherwise on the initial state and its children.

    Where that many are listed, `log_rewards` `[n_states]` in nats is an argument of the program,
    and environments that differ in nothing else share one. Elsewhere it is None. So they do where
    no program holds the reward: where it is Python, or without `asks`, when none are asked. A
    program that holds the rewards of listed states asks for snapshots that are equal only if these
    are the same, too: `with_rewards`.
    """

    def __init__(self, env: Environment, with_rewards: bool = False, asks: bool = True):
        self.env = env
        listed = env.n_states is not None and env.n_states <= LARGEST_TABLE
        states = env.states() if listed else first_states(env)
        in_table = asks and has_table(env)
        log_reward = env.log_reward(states) if in_table or with_rewards else None
        self.log_rewards = tf.cast(log_reward, tf.float64) if in_table else None
        mask = env.forward_mask(states)
        seen = (
            mask,
            env.backward_mask(states),
            env.encode(states),
            _one_step_each(env, states, mask),
            *([log_reward] if with_rewards else []),
        )
        holds_no_reward = listed or not (with_rewards or asks) or env.python_reward
        graph = env.graph_key() if holds_no_reward else env
        self._key = (graph, env.python_reward, *map(_digest, seen))

    def __eq__(self, other):
        return isinstance(other, Snapshot) and self._key == other._key

    def __hash__(self):
        return hash(self._key)


def first_states(env):
    """The initial state and its children."""
    origin = env.initial_states(1)
    moves = np.flatnonzero(np.asarray(env.forward_mask(origin))[0, : env.stop_action])
    children = env.step(tf.repeat(origin, len(moves), axis=0), tf.constant(moves, tf.int32))
    return tf.concat([origin, children], axis=0)


def _one_step_each(env, states, mask):
    """Each state after an action: the first ones take the first, the next ones the next."""
    actions = np.arange(len(states), dtype=np.int32) % env.n_actions
    allowed = np.take_along_axis(np.asarray(mask), actions[:, None], axis=1)[:, 0]
    return env.step(states, tf.constant(np.where(allowed, actions, -1), tf.int32))


def _digest(tensor):
    array = np.ascontiguousarray(tensor)
    return array.shape, array.dtype.str, hashlib.blake2b(array.tobytes()).digest()
