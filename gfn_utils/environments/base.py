"""The contract between an environment and everything else in the package."""

import abc
import dataclasses
import functools
import json

import numpy as np
import tensorflow as tf

from gfn_utils.environments.log_rewards import log_rewards_of
from gfn_utils.validation import shown

MAX_LISTED_STATES = 10_000_000
"""An environment with more states than this does not list them."""


class Environment(abc.ABC):
    """A directed acyclic graph of states, and a reward for ending in one of them.

    All methods are batched (B states at a time), never change the environment, and are made of
    TensorFlow operations that compile under XLA, so that the same code runs eagerly in a lesson
    and inside the compiled training loop. States are int32 tensors `[B, *state_shape]` with
    entries of at least 0 (−1 marks padding). Actions are int32 tensors `[B]`; the last action,
    `n_actions − 1`, is *stop*. B may be unknown while a method is compiled, and `batch_size` a
    tensor: take `tf.shape(states)[0]`, not `states.shape[0]`, where a method needs the number.

    What is said of a state depends on that state alone: not on the others in the batch, on chance,
    or on anything that changes later. A compiled program keeps what it read (an attribute, a global
    table, a closure) as it was then. So an environment never changes once it is made, nor does what
    it reads: for another reward make another environment.

    Two environments are equal if they are the same object. Those of a class that is a frozen
    dataclass itself are equal if all their fields are, and share their compiled programs.

    Two actions may lead from one state to the same next one. They count as two edges: each has its
    own flow and its own entry in P_B, and `count_trajectories` tells them apart.

    `check_environment` verifies the whole contract for a class that fills it in.
    """

    state_shape: tuple[int, ...]
    """Shape of one state."""
    n_actions: int
    """Number of forward actions, stop included. P_B has one logit for each but the stop."""
    max_trajectory_length: int
    """Number of actions in the longest trajectory, stop included, or an upper bound on it. Every
    trajectory is padded to this length, so a loose bound costs memory."""
    n_states: int | None = None
    """Number of states, where they can be listed."""
    python_reward: bool = False
    """Whether `log_reward` is ordinary Python: it then gets int32 NumPy states `[B, *state_shape]`
    in which stop is allowed, and gives NumPy `[B]`. It is asked once for each batch, between the
    compiled parts of an update. An exception that it raises reaches the caller as it is."""
    cache_rewards: bool = False
    """Whether a reward in Python is asked for each object only once. All answers are kept."""
    n_condition_features: int = 0
    """How many numbers tell the condition, where there are many: see `Conditional`."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # Its own, so that no dataclass decorator makes one: a plain subclass would inherit that,
        # and be equal to another whose reward differs in something that is no field.
        cls.__eq__ = cls.__eq__
        if "encode" in vars(cls) and "hot_features" not in vars(cls):
            cls.hot_features = Environment.hot_features

    def __eq__(self, other):
        if type(other) is not type(self) or not is_dataclass_itself(self):
            return self is other
        names = [field.name for field in dataclasses.fields(self) if field.compare]
        return all(getattr(self, name) == getattr(other, name) for name in names)

    __hash__ = object.__hash__

    @property
    def stop_action(self) -> int:
        """The number of the stop action: the last."""
        return self.n_actions - 1

    @abc.abstractmethod
    def initial_states(self, batch_size) -> tf.Tensor:
        """`batch_size` copies of the one state without parents, `[B, *state_shape]`."""

    def origins(self, batch_size, seed: tf.Tensor) -> tf.Tensor:
        """Where `batch_size` trajectories begin, `[B, *state_shape]`; `seed` is int64 `[2]`.

        Copies of the one initial state, unless the environment has many (see `Conditional`).
        """
        return self.initial_states(batch_size)

    def is_origin(self, states) -> np.ndarray:
        """Which of the states `[B, ...]` trajectories begin in, bool `[B]`."""
        return same_rows(np.asarray(states), np.asarray(self.initial_states(1)))

    def encode_condition(self, states: tf.Tensor) -> tf.Tensor:
        """The condition of each state as numbers, `[B, n_condition_features]`."""
        raise ValueError(f"{self!r} has no conditions")

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
        """The network's view of the states, floats or integers `[B, ...]`.

        One shape for all states: numbers in a row for the default network, which takes floats alone
        and flattens them; for one's own (`GFNAgent(network=...)`) also tokens, or a picture.
        """

    def hot_features(self, states: tf.Tensor) -> tf.Tensor | None:
        """Which features are 1, int32 `[B, k]`, where `encode` is a sum of k one-hot vectors.

        Optional: the default network then adds up k rows of its first layer, which spares the
        product with all the zeros. A subclass that encodes otherwise has none, unless it says so.
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
        states = np.asarray(states)
        if self.n_states is None:
            return np.ones(len(states), bool)
        position = position_or_none(self, states)
        inside = (position >= 0) & (position < self.n_states)
        listed = _listing(self)[np.where(inside, position, 0)]
        return inside & same_rows(listed, states)

    def is_mode(self, states) -> np.ndarray:
        """Which of the states `[B, ...]` have the highest reward of all, bool `[B]`.

        Only where they can be listed, unless an environment knows better.
        """
        target = self.target()
        return np.isclose(target, target.max(), rtol=1e-9, atol=0)[np.asarray(self.index(states))]

    def graph_key(self):
        """A hashable value, equal for environments that differ in their rewards alone.

        Such environments share their compiled programs where few states are listed, where the
        reward is Python, and where rewards are given. By default the environment itself, which
        shares with nothing that is not equal to it.
        """
        return self

    def settings(self) -> dict:
        """What tells this environment from another of its class, in values that JSON can hold.

        By default the fields of a dataclass. Of another class all public attributes of the object:
        arrays by their shape, what JSON cannot hold left out. A saved agent remembers them.
        """
        if is_dataclass_itself(self):
            return dataclasses.asdict(self)
        described = {}
        for name, value in vars(self).items():
            cached = isinstance(getattr(type(self), name, None), functools.cached_property)
            if hasattr(value, "dtype") and hasattr(value, "shape"):
                value = f"{value.dtype} {list(value.shape)}"
            if not name.startswith("_") and not cached and _fits_json(value):
                described[name] = value
        return described

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
        states = np.asarray(self.states())
        can_stop = np.asarray(self.forward_mask(tf.constant(states)))[:, self.stop_action]
        log_reward = np.full(len(states), -np.inf)
        log_reward[can_stop] = log_rewards_of(self, tf.constant(states[can_stop]))
        return log_reward


def is_dataclass_itself(env: Environment) -> bool:
    """Whether the fields are all that tells `env` from others of its class: not so for a plain
    subclass of a dataclass, which may have attributes of its own."""
    dataclass = type(env).__dict__.get("__dataclass_params__")
    return dataclass is not None and dataclass.eq


def check_states(env: Environment, states, name: str) -> tf.Tensor:
    """Return `states` as int32 `[B, *state_shape]`; raise ValueError unless each can terminate."""
    states = check_any_states(env, states, name, at_least=1)
    can_stop = np.asarray(env.forward_mask(states))[:, env.stop_action]
    if not can_stop.all():
        row = int(np.argmin(can_stop))
        raise ValueError(
            f"{name}[{row}] must be a state in which stop is allowed, "
            f"got {states[row].numpy().tolist()}"
        )
    return states


def check_any_states(env: Environment, states, name: str, at_least: int = 0) -> tf.Tensor:
    """Return `states` as int32 `[B, *state_shape]`; raise unless each is a state of `env`.

    TypeError for what is no array of integers, ValueError for another shape or another value. The
    states that a program is compiled for are not known yet, and are returned as they are.
    """
    if isinstance(states, tf.Tensor) and not hasattr(states, "numpy"):
        return states
    form = f"an integer array of shape [{', '.join(map(str, ['B', *env.state_shape]))}]"
    if np.ma.is_masked(states):
        raise TypeError(f"{name} must be {form}, none of it masked, got {shown(states)}")
    try:
        states = np.asarray(states)
    except Exception as error:  # ragged lists, and objects that refuse in a way of their own
        raise ValueError(f"{name} must be {form}, got {shown(states)}") from error
    if states.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be {form}, got {shown(states.tolist())}")
    if states.ndim != 1 + len(env.state_shape) or states.shape[1:] != tuple(env.state_shape):
        raise ValueError(
            f"{name} must be {form} with B ≥ {at_least}, got shape {list(states.shape)}"
        )
    if len(states) < at_least:
        raise ValueError(f"{name} must hold at least one state, got none")
    if states.dtype.kind == "f":
        raise TypeError(f"{name} must be {form}, got dtype {states.dtype}")
    narrow = states.astype(np.int32)
    inside = same_rows(narrow, states)
    inside[inside] = env.contains(narrow[inside])
    if not inside.all():
        row = int(np.argmin(inside))
        raise ValueError(f"{name}[{row}] must be a state of {env!r}, got {states[row].tolist()}")
    return tf.constant(narrow)


def same_rows(one, other) -> np.ndarray:
    """Which rows of two arrays `[B, ...]` are equal, bool `[B]`."""
    return np.all(one == other, axis=tuple(range(1, np.ndim(one))))


def position_or_none(env, states):
    """`env.index` of each, or −1 where it cannot look a state up, `[B]`.

    A table raises an error for the whole batch when one state lies outside of it: so a batch that
    does is halved until only those are left.
    """
    try:
        return np.asarray(env.index(tf.constant(states, tf.int32)))
    except Exception:  # a table of one's own can fail in any way
        if len(states) <= 1:
            return np.full(len(states), -1)
        halves = np.array_split(states, 2)
        return np.concatenate([position_or_none(env, half) for half in halves])


@functools.lru_cache(maxsize=4)
def _listing(env):
    return np.asarray(env.states())


def _fits_json(value):
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
