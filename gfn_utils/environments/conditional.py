"""One environment for many rewards: the condition that chooses one is a part of the state."""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from gfn_utils.environments.base import Environment
from gfn_utils.environments.contract import check_attributes
from gfn_utils.random_numbers import stateless_uniform
from gfn_utils.validation import check_function, check_integer, check_numbers


class Conditional(Environment):
    """An environment whose reward depends on a condition: a preference, a temperature, a target.

    A conditional GFlowNet (arXiv 2111.09266, section 3; 2210.12765) is a flow network with many
    origins. A state is one of `base` in a row, and last the number of its condition, which no
    action changes: `[B, size of a base state + 1]`. Trajectories begin in origins whose conditions
    are drawn from the table, uniformly, by the seed; log Z is a function of the condition, which
    the agent learns with a small network of its own.

    Args:
        base: what is built, whatever the condition. Its own reward is not asked.
        conditions: the table, `[K, D]`: K conditions of D numbers each.
        log_reward_of: (states of `base` `[B, ...]`, conditions `[B, D]`, float64) → log R in nats,
            `[B]`. TensorFlow operations, or with `python_reward` NumPy arrays to a NumPy array.
        encode_condition_of: conditions `[B, D]` → what the networks see of them, `[B, F]`; by
            default the D numbers as they are. Let these be of the order of 1.
        trajectories_per_condition: how many trajectories of a batch share a condition. The
            log-variance objective compares these with each other, so it needs at least 2.
        python_reward, cache_rewards: as in `Environment`.

    Raises ValueError or TypeError, naming the argument, if one is out of bounds.
    """

    def __init__(
        self,
        base: Environment,
        conditions,
        log_reward_of: Callable,
        encode_condition_of: Callable | None = None,
        trajectories_per_condition: int = 1,
        python_reward: bool = False,
        cache_rewards: bool = False,
    ):
        check_attributes(base)
        if base.n_condition_features:
            raise ValueError(f"base must be an environment without conditions, got {base!r}")
        self.base = base
        self.conditions = _check_conditions(conditions)
        self._log_reward_of = check_function("log_reward_of", log_reward_of)
        if encode_condition_of is not None:
            check_function("encode_condition_of", encode_condition_of)
        self._encode_condition_of = encode_condition_of
        self.trajectories_per_condition = check_integer(
            "trajectories_per_condition", trajectories_per_condition, minimum=1
        )
        self.python_reward, self.cache_rewards = python_reward, cache_rewards
        self.state_shape = (math.prod(base.state_shape) + 1,)
        self.n_actions = base.n_actions
        self.max_trajectory_length = base.max_trajectory_length
        check_attributes(self)
        self._features = self._encoded(self.conditions)
        self.n_condition_features = self._features.shape[1]

    def __repr__(self):
        return f"Conditional({self.base!r}, {len(self.conditions):,} conditions)"

    def base_states(self, states) -> tf.Tensor:
        """The part of the states `[B, size + 1]` that is built, `[B, *base.state_shape]`."""
        return tf.reshape(states[:, :-1], [-1, *self.base.state_shape])

    def with_condition(self, base_states, number) -> tf.Tensor:
        """States `[B, size + 1]` of these of `base` `[B, ...]` and these conditions, int `[B]`."""
        flat = tf.reshape(base_states, [-1, self.state_shape[0] - 1])
        number = tf.broadcast_to(tf.cast(number, tf.int32), tf.shape(flat)[:1])
        return tf.concat([flat, number[:, None]], axis=1)

    def with_conditions(self, conditions) -> "Conditional":
        """The same for another table of conditions, `[K, D]`."""
        return Conditional(
            self.base,
            conditions,
            self._log_reward_of,
            self._encode_condition_of,
            self.trajectories_per_condition,
            self.python_reward,
            self.cache_rewards,
        )

    def given(self, condition) -> Environment:
        """The ordinary environment of one condition `[D]`, which need not be in the table.

        It is `base` with another reward: what draws, lists or evaluates `base` takes it.
        """
        condition = self.check_condition(condition)
        kind = type(self.base)
        given = object.__new__(type(f"Given{kind.__name__}", (_Given, kind), {}))
        vars(given).update(vars(self.base))
        own = {"python_reward": self.python_reward, "cache_rewards": self.cache_rewards}
        vars(given).update(own, condition=condition, log_reward_of_condition=self._log_reward_of)
        vars(given).update(without_condition=self.base)
        return given

    def check_condition(self, condition) -> np.ndarray:
        """Return it as float64 `[D]`; raise unless it is like those of the table."""
        size = self.conditions.shape[1]
        condition = check_numbers("condition", condition)
        if condition.shape != (size,) or not np.isfinite(condition).all():
            raise ValueError(f"condition must be {size} finite numbers, got {condition.tolist()}")
        return condition.astype(np.float64)

    def initial_states(self, batch_size):
        return self.with_condition(self.base.initial_states(batch_size), 0)

    def origins(self, batch_size, seed):
        """Initial states of conditions that the seed draws, `trajectories_per_condition` of each
        one after another."""
        times = self.trajectories_per_condition
        seed = tf.random.experimental.stateless_fold_in(tf.cast(seed, tf.int64), 1, alg="philox")
        uniform = stateless_uniform([-(-batch_size // times)], seed, tf.float64)
        number = tf.cast(uniform * len(self.conditions), tf.int32)
        number = tf.repeat(number, times)[:batch_size]
        return self.with_condition(self.base.initial_states(batch_size), number)

    def is_origin(self, states):
        states = np.asarray(states)
        return self.base.is_origin(states[:, :-1].reshape(-1, *self.base.state_shape))

    def forward_mask(self, states):
        return self.base.forward_mask(self.base_states(states))

    def backward_mask(self, states):
        return self.base.backward_mask(self.base_states(states))

    def step(self, states, actions):
        return self.with_condition(self.base.step(self.base_states(states), actions), states[:, -1])

    def back_step(self, states, actions):
        moved = self.base.back_step(self.base_states(states), actions)
        return self.with_condition(moved, states[:, -1])

    def encode(self, states):
        """The features of `base` in a row, then those of the condition, `[B, ...]`."""
        features = tf.cast(self.base.encode(self.base_states(states)), tf.float32)
        size = math.prod(features.shape[1:])
        return tf.concat([tf.reshape(features, [-1, size]), self.encode_condition(states)], axis=1)

    def encode_condition(self, states):
        return tf.gather(self._features, states[:, -1])

    def log_reward(self, states):
        if self.python_reward:
            base_states = np.asarray(states)[:, :-1].reshape(-1, *self.base.state_shape)
            return self._log_reward_of(base_states, self.conditions[np.asarray(states)[:, -1]])
        conditions = tf.gather(tf.constant(self.conditions), states[:, -1])
        return tf.cast(self._log_reward_of(self.base_states(states), conditions), tf.float64)

    def contains(self, states):
        states = np.asarray(states)
        number = states[:, -1]
        inside = self.base.contains(states[:, :-1].reshape(-1, *self.base.state_shape))
        return inside & (number >= 0) & (number < len(self.conditions))

    def _encoded(self, conditions):
        """What the networks see of these conditions, float32 `[K, F]`."""
        features = conditions
        if self._encode_condition_of is not None:
            features = np.asarray(self._encode_condition_of(conditions))
        if features.ndim != 2 or len(features) != len(conditions) or not features.shape[1]:
            raise ValueError(
                f"encode_condition_of must give features of shape [{len(conditions)}, F], "
                f"got shape {list(features.shape)}"
            )
        if not np.isfinite(features).all():
            raise ValueError("encode_condition_of must give finite numbers, got one that is not")
        return tf.constant(features, tf.float32)


class _Given(Environment):
    """What an environment becomes under one condition: it pays by another rule."""

    def __repr__(self):
        return f"{super().__repr__()} given {self.condition.tolist()}"

    def graph_key(self):
        key = self.without_condition.graph_key()
        own = self.python_reward, self.cache_rewards
        return self if key is self.without_condition else ("given", key, *own)

    def log_reward(self, states):
        condition = np.tile(self.condition, [len(states), 1]) if self.python_reward else None
        if condition is None:
            condition = tf.tile(tf.constant(self.condition)[None], [tf.shape(states)[0], 1])
            states = tf.convert_to_tensor(states)
        log_reward = self.log_reward_of_condition(states, condition)
        return log_reward if self.python_reward else tf.cast(log_reward, tf.float64)


def _check_conditions(conditions) -> np.ndarray:
    table = check_numbers("conditions", conditions)
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"conditions must be of shape [K, D], got shape {list(table.shape)}")
    if not np.isfinite(table).all():
        raise ValueError("conditions must be finite, got a number that is not")
    return table.astype(np.float64)
