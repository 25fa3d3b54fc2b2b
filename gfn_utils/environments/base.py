"""The contract between an environment and everything else in the package."""

import abc
import dataclasses

import numpy as np
import tensorflow as tf

MAX_LISTED_STATES = 10_000_000
"""An environment with more states than this does not list them."""


class Environment(abc.ABC):
    """A directed acyclic graph of states, and a reward for ending in one of them.

    All methods are batched (B states at a time), never change the environment, and are made of
    TensorFlow operations that compile under XLA, so that the same code runs eagerly in a lesson
    and inside the compiled training loop. States are int32 tensors `[B, *state_shape]` with
    entries of at least 0 (−1 marks padding). Actions are int32 tensors `[B]`; the last action,
    `n_actions − 1`, is *stop*.

    `check_environment` verifies the whole contract for a class that fills it in.
    """

    state_shape: tuple[int, ...]
    """Shape of one state."""
    n_actions: int
    """Number of forward actions, stop included. P_B has one logit for each but the stop."""
    max_trajectory_length: int
    """Number of actions in the longest trajectory, stop included."""
    n_states: int | None = None
    """Number of states, where they can be listed."""

    @property
    def stop_action(self) -> int:
        """The number of the stop action: the last."""
        return self.n_actions - 1

    @abc.abstractmethod
    def initial_states(self, batch_size) -> tf.Tensor:
        """`batch_size` copies of the one state without parents, `[B, *state_shape]`."""

    @abc.abstractmethod
    def forward_mask(self, states: tf.Tensor) -> tf.Tensor:
        """Which actions are allowed in each state, bool `[B, n_actions]`."""

    @abc.abstractmethod
    def backward_mask(self, states: tf.Tensor) -> tf.Tensor:
        """Which actions can have led to each state, bool `[B, n_actions − 1]`."""

    @abc.abstractmethod
    def step(self, states: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
        """The states after the actions. Stop, and padding (−1), leave a state as it is."""

    @abc.abstractmethod
    def back_step(self, states: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
        """The states before the actions: undoes `step`. Padding (−1) leaves a state as it is."""

    @abc.abstractmethod
    def encode(self, states: tf.Tensor) -> tf.Tensor:
        """The network's view of the states, float `[B, n_features]`."""

    def hot_features(self, states: tf.Tensor) -> tf.Tensor | None:
        """Which features are 1, int32 `[B, k]`, where `encode` is a sum of k one-hot vectors.

        Optional: the network then adds up k rows of its first layer, which spares the product
        with all the zeros.
        """
        return None

    @abc.abstractmethod
    def log_reward(self, states: tf.Tensor) -> tf.Tensor:
        """log R of the states in nats, float64 `[B]`."""

    def states(self) -> tf.Tensor:
        """All states, `[n_states, *state_shape]`. Only where they can be listed."""
        raise ValueError(f"the states of {self!r} cannot be listed")

    def index(self, states: tf.Tensor) -> tf.Tensor:
        """Where each state stands in `states()`, int32 `[B]`. Only where they can be listed."""
        raise ValueError(f"the states of {self!r} cannot be listed")

    def contains(self, states) -> np.ndarray:
        """Which of the int32 states `[B, *state_shape]` are states of this environment, bool `[B]`.

        Looked up in the list of states; where there is none all are taken for such, unless an
        environment knows better.
        """
        if self.n_states is None:
            return np.ones(len(states), bool)
        states, position = np.asarray(states), np.asarray(self.index(states))
        inside = (position >= 0) & (position < self.n_states)
        listed = np.asarray(self.states())[np.where(inside, position, 0)]
        return inside & (listed == states).reshape(len(states), -1).all(axis=1)

    def graph_key(self):
        """A hashable value, equal for environments that differ in their rewards alone.

        Where few states are listed, such environments share their compiled programs. By default
        the environment itself, which shares with nothing that is not equal to it.
        """
        return self

    def settings(self) -> dict:
        """What tells this environment from another of its class, in values that JSON can hold.

        By default the fields of a dataclass. A saved agent remembers them.
        """
        return dataclasses.asdict(self) if dataclasses.is_dataclass(self) else {}

    def target(self) -> np.ndarray:
        """R/Z in the order of `states()`, float64 `[n_states]`; 0 where stop is not allowed."""
        log_reward = self._log_reward_of_terminating_states()
        reward = np.exp(log_reward - log_reward.max())
        return reward / reward.sum()

    def log_partition(self) -> float:
        """The exact log Z = log Σ R(x) over all states in which stop is allowed, in nats."""
        log_reward = self._log_reward_of_terminating_states()
        return float(log_reward.max() + np.log(np.exp(log_reward - log_reward.max()).sum()))

    def _log_reward_of_terminating_states(self) -> np.ndarray:
        states = self.states()
        can_stop = self.forward_mask(states)[:, self.stop_action]
        return np.where(can_stop, self.log_reward(states), -np.inf)


def check_states(env: Environment, states, name: str) -> tf.Tensor:
    """Return `states` as int32 `[B, *state_shape]`; raise ValueError unless each can terminate."""
    form = f"an integer array of shape [B, {', '.join(map(str, env.state_shape))}]"
    try:
        states = np.asarray(states)
    except ValueError as error:
        raise ValueError(f"{name} must be {form}, got {states!r}") from error
    if states.ndim != 1 + len(env.state_shape) or states.shape[1:] != tuple(env.state_shape):
        raise ValueError(f"{name} must be {form} with B ≥ 1, got shape {list(states.shape)}")
    if len(states) == 0:
        raise ValueError(f"{name} must hold at least one state, got none")
    if not np.issubdtype(states.dtype, np.integer):
        raise TypeError(f"{name} must be {form}, got dtype {states.dtype}")
    narrow = states.astype(np.int32)
    inside = (narrow == states).reshape(len(states), -1).all(axis=1)
    inside[inside] = env.contains(narrow[inside])
    if not inside.all():
        row = int(np.argmin(inside))
        raise ValueError(f"{name}[{row}] must be a state of {env!r}, got {states[row].tolist()}")
    can_stop = np.asarray(env.forward_mask(narrow))[:, env.stop_action]
    if not can_stop.all():
        row = int(np.argmin(can_stop))
        raise ValueError(
            f"{name}[{row}] must be a state in which stop is allowed, got {states[row].tolist()}"
        )
    return tf.constant(narrow)


def check_any_states(env, states, name):
    return states
