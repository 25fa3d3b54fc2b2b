"""Environments as a learner would write them, none of them a grid."""

import itertools

import numpy as np
import tensorflow as tf

from gfn_utils import Environment


class Graph(Environment):
    """Any graph: state s is the number s, action a leads to `children[s][a]` (None: nowhere)."""

    state_shape = ()

    def __init__(self, children, stops, max_trajectory_length):
        self.children = np.array([[-1 if c is None else c for c in row] for row in children])
        self.parents = np.full_like(self.children, -1)
        for state, action in np.argwhere(self.children >= 0):
            self.parents[self.children[state, action], action] = state
        self.stops = stops
        self.n_states = len(children)
        self.n_actions = self.children.shape[1] + 1
        self.max_trajectory_length = max_trajectory_length

    def initial_states(self, batch_size):
        return tf.zeros([batch_size], tf.int32)

    def forward_mask(self, states):
        moves = tf.gather(self.children, states) >= 0
        return tf.concat([moves, tf.gather(self.stops, states)[:, None]], axis=1)

    def backward_mask(self, states):
        return tf.gather(self.parents, states) >= 0

    def step(self, states, actions):
        return self._move(self.children, states, actions)

    def back_step(self, states, actions):
        return self._move(self.parents, states, actions)

    def _move(self, table, states, actions):
        moves = (actions >= 0) & (actions < self.stop_action)
        rows = tf.gather(tf.constant(table, tf.int32), states)
        moved = tf.gather(rows, tf.where(moves, actions, 0), batch_dims=1)
        return tf.where(moves, moved, states)

    def encode(self, states):
        return tf.one_hot(states, self.n_states)

    def log_reward(self, states):
        return tf.cast(states, tf.float64) / 2

    def states(self):
        return tf.range(self.n_states)

    def index(self, states):
        return tf.convert_to_tensor(states)


class Subsets(Environment):
    """Sets of 2 or 3 of five items, put together one item at a time; state i: is item i in?

    Not a grid: a set of three has six histories, and not every state may be the last.
    """

    state_shape = (5,)
    n_actions = 6
    max_trajectory_length = 4
    value = np.array([0.2, 0.9, -0.4, 1.3, 0.5])

    def __init__(self):
        members = [m for m in itertools.product([0, 1], repeat=5) if sum(m) <= 3]
        self.members = np.array(members, np.int32)
        self.n_states = len(members)
        self.number = np.zeros(2**5, np.int32)
        self.number[self.members @ [1, 2, 4, 8, 16]] = np.arange(self.n_states)

    def initial_states(self, batch_size):
        return tf.zeros([batch_size, 5], tf.int32)

    def forward_mask(self, states):
        size = tf.reduce_sum(states, axis=1, keepdims=True)
        return tf.concat([(states == 0) & (size < 3), size >= 2], axis=1)

    def backward_mask(self, states):
        return tf.convert_to_tensor(states) == 1

    def step(self, states, actions):
        return tf.maximum(states, tf.one_hot(actions, 5, dtype=tf.int32))

    def back_step(self, states, actions):
        return states - tf.one_hot(actions, 5, dtype=tf.int32)

    def encode(self, states):
        return tf.cast(states, tf.float32)

    def log_reward(self, states):
        states = tf.cast(states, tf.float64)
        # Items 1 and 3 are worth more together than the sum of their values.
        return tf.linalg.matvec(states, self.value) + 1.5 * states[:, 1] * states[:, 3]

    def states(self):
        return tf.constant(self.members)

    def index(self, states):
        return tf.gather(self.number, tf.reduce_sum(states * [1, 2, 4, 8, 16], axis=1))


class Words(Environment):
    """Words of up to six letters of an alphabet of three, too many to list; 0 is no letter."""

    state_shape = (6,)
    n_actions = 4
    max_trajectory_length = 7

    def initial_states(self, batch_size):
        return tf.zeros([batch_size, 6], tf.int32)

    def forward_mask(self, states):
        may_grow = self._length(states) < 6
        return tf.stack([may_grow] * 3 + [tf.ones_like(may_grow)], axis=1)

    def backward_mask(self, states):
        last = tf.gather(states, tf.maximum(self._length(states) - 1, 0), batch_dims=1)
        return last[:, None] == tf.range(1, 4)

    def step(self, states, actions):
        is_letter = (actions >= 0) & (actions < 3)
        letter = tf.where(is_letter, actions + 1, 0)
        return states + letter[:, None] * tf.one_hot(self._length(states), 6, dtype=tf.int32)

    def back_step(self, states, actions):
        letter = tf.where(actions >= 0, actions + 1, 0)
        return states - letter[:, None] * tf.one_hot(self._length(states) - 1, 6, dtype=tf.int32)

    def encode(self, states):
        return tf.reshape(tf.one_hot(states, 4, dtype=tf.float32), [-1, 24])

    def log_reward(self, states):
        doubles = (states[:, 1:] == states[:, :-1]) & (states[:, 1:] > 0)
        return tf.reduce_sum(tf.cast(doubles, tf.float64), axis=1)

    def _length(self, states):
        return tf.math.count_nonzero(states, axis=1, dtype=tf.int32)
