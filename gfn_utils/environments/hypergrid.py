"""The hypergrid of the first GFlowNet paper (arXiv 2106.04399, section 4.1), and its like."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from gfn_utils.environments.base import MAX_LISTED_STATES, Environment, is_dataclass_itself
from gfn_utils.validation import check_integer, check_number, check_numbers

MAX_FEATURES = 1_000_000


class Grid(Environment):
    """A grid of `height` cells along each of `ndim` axes, entered at the origin.

    Action i < ndim adds 1 to coordinate i, action ndim stops. Every cell can be the last one; what
    it pays is for the subclasses to say.
    """

    ndim: int
    height: int

    @property
    def state_shape(self):
        return (self.ndim,)

    @property
    def n_actions(self):
        return self.ndim + 1

    @property
    def max_trajectory_length(self):
        return self.ndim * (self.height - 1) + 1

    @property
    def n_states(self):
        """`height ** ndim`, or None if that is more than are ever listed."""
        n_states = self.height**self.ndim
        return n_states if n_states <= MAX_LISTED_STATES else None

    def initial_states(self, batch_size):
        return tf.zeros([batch_size, self.ndim], tf.int32)

    def forward_mask(self, states):
        return tf.pad(states < self.height - 1, [[0, 0], [0, 1]], constant_values=True)

    def backward_mask(self, states):
        return tf.convert_to_tensor(states) > 0

    def step(self, states, actions):
        # Stop and padding have no place in the one-hot vector: they move nothing.
        return states + tf.one_hot(actions, self.ndim, dtype=tf.int32)

    def back_step(self, states, actions):
        return states - tf.one_hot(actions, self.ndim, dtype=tf.int32)

    def encode(self, states):
        one_hot = tf.one_hot(states, self.height, dtype=tf.float32)
        return tf.reshape(one_hot, [-1, self.ndim * self.height])

    def hot_features(self, states):
        return states + self.height * tf.range(self.ndim)

    def states(self):
        self._check_listed()
        return tf.range(self.n_states)[:, None] // self._strides() % self.height

    def index(self, states):
        self._check_listed()
        return tf.reduce_sum(states * self._strides(), axis=-1)

    def contains(self, states):
        states = np.asarray(states)
        return np.all((states >= 0) & (states < self.height), axis=-1)

    def graph_key(self):
        return (type(self), self.ndim, self.height) if is_dataclass_itself(self) else self

    def _check_listed(self):
        if self.n_states is None:
            raise ValueError(
                f"{self!r} has {self.height}^{self.ndim} states, which cannot be listed: "
                f"at most {MAX_LISTED_STATES:,} are"
            )

    def _strides(self):
        return tf.constant([self.height**i for i in reversed(range(self.ndim))], tf.int32)


@dataclasses.dataclass(frozen=True)
class HyperGrid(Grid):
    """A `Grid` with the reward

        R(x) = r0 + r1·∏ᵢ 1[0.25 < |xᵢ/(H−1) − ½|] + r2·∏ᵢ 1[0.3 < |xᵢ/(H−1) − ½| ≤ 0.4]

    (arXiv 2106.04399, section 4.1): low almost everywhere, higher near the corners, highest at
    the modes inside those. On the default 8×8 grid the four modes lie one step in from each
    corner (R = 1.51) and log Z = 2.5369 nats.

    Raises ValueError if ndim < 1, height < 4, ndim·height > 1,000,000, r0 ≤ 0, r1 < 0, r2 < 0, or
    if the highest reward is not finite.
    """

    ndim: int = 2
    height: int = 8
    r0: float = 0.01
    r1: float = 0.5
    r2: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "ndim", check_integer("ndim", self.ndim, minimum=1))
        object.__setattr__(self, "height", check_integer("height", self.height, minimum=4))
        if self.ndim * self.height > MAX_FEATURES:
            raise ValueError(
                f"ndim · height, the number of features, must be at most {MAX_FEATURES:,}, "
                f"got {self.ndim} · {self.height}"
            )
        object.__setattr__(self, "r0", check_number("r0", self.r0, above=0.0))
        object.__setattr__(self, "r1", check_number("r1", self.r1, minimum=0.0))
        object.__setattr__(self, "r2", check_number("r2", self.r2, minimum=0.0))
        if math.isinf(self.r0 + self.r1 + self.r2):
            raise ValueError(
                "r0 + r1 + r2, the highest reward, must be finite, "
                f"got {self.r0:g} + {self.r1:g} + {self.r2:g}"
            )

    def log_reward(self, states):
        # |x/(H−1) − ½| = offset / (2·span), so that every comparison is one of integers: at
        # height 11 a coordinate falls on 0.4 exactly, and rounding would move the mode.
        span = self.height - 1
        offset = tf.abs(2 * states - span)
        near_corner = tf.reduce_all(2 * offset > span, axis=-1)
        at_mode = tf.reduce_all((5 * offset > 3 * span) & (5 * offset <= 4 * span), axis=-1)
        reward = (
            self.r0
            + self.r1 * tf.cast(near_corner, tf.float64)
            + self.r2 * tf.cast(at_mode, tf.float64)
        )
        return tf.math.log(reward)

    @property
    def n_modes(self) -> int:
        """How many cells have the highest reward of all.

        Where there is a cell between the bounds 0.3 and 0.4, as from height 7 on, these are
        2^ndim blocks of equal size, one near each corner: x > (H−1)/2 tells which.
        """
        if self._has_own_reward():
            return int(np.count_nonzero(self.is_mode(self.states())))
        return int(np.count_nonzero(self.is_mode(self._diagonal()))) ** self.ndim

    def is_mode(self, states):
        """Which of the cells `[B, ndim]` have the highest reward of all, bool `[B]`: by the rule,
        so that no list is needed (unless a subclass has a reward of its own)."""
        if self._has_own_reward():
            return super().is_mode(states)
        highest = np.max(self.log_reward(self._diagonal()))
        return np.asarray(self.log_reward(states)) >= highest - 1e-9

    def _has_own_reward(self):
        return type(self).log_reward is not HyperGrid.log_reward

    def _diagonal(self):
        """The cells (x, …, x), `[height, ndim]`. Each condition of the reward asks the same of
        every coordinate, so a coordinate that some mode has is here a mode itself."""
        return tf.repeat(tf.range(self.height)[:, None], self.ndim, axis=1)


@dataclasses.dataclass(frozen=True)
class PaintedGrid(Grid):
    """A square `Grid` whose reward is given for each cell.

    `rewards[x0][x1]` is R of the cell (x₀, x₁), `[height, height]`, all above 0; an array will do.
    Raises ValueError if it is not square, smaller than 2×2 or not positive, TypeError if it
    does not hold numbers.
    """

    rewards: tuple[tuple[float, ...], ...]

    ndim = 2

    def __post_init__(self):
        rewards = check_numbers("rewards", self.rewards)
        if rewards.ndim != 2 or rewards.shape[0] != rewards.shape[1] or len(rewards) < 2:
            raise ValueError(
                f"rewards must be square, of at least 2×2 cells, got shape {list(rewards.shape)}"
            )
        if not np.all(np.isfinite(rewards) & (rewards > 0)):
            raise ValueError(f"rewards must be finite and above 0, got {rewards.min():g} at least")
        object.__setattr__(self, "rewards", tuple(map(tuple, rewards.tolist())))

    def __repr__(self):
        return f"PaintedGrid({self.height}×{self.height})"

    @property
    def height(self):
        return len(self.rewards)

    def log_reward(self, states):
        return tf.gather(np.log(self.rewards).ravel(), self.index(states))
