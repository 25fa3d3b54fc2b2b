"""Chains of fragments, in which some pairs must not be neighbours: molecules, for example."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from gfn_utils.environments.sequences import LeftToRightSequences
from gfn_utils.validation import shown


@dataclasses.dataclass(frozen=True, repr=False)
class FragmentChains(LeftToRightSequences):
    """Sequences written from left to right, in which no letter follows one that forbids it.

    Args:
        forbidden: pairs of letters; the second never follows the first.
        The others as in `LeftToRightSequences`.

    Raises ValueError or TypeError, naming the argument, if one is out of bounds.
    """

    forbidden: tuple[str, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        pairs = self.forbidden
        if isinstance(pairs, str) or not all(isinstance(pair, str) for pair in pairs):
            raise TypeError(f"forbidden must be pairs of letters, got {shown(pairs)}")
        object.__setattr__(self, "forbidden", tuple(pairs))
        for pair in self.forbidden:
            if len(pair) != 2 or not set(pair) <= set(self.alphabet):
                raise ValueError(
                    f"forbidden must be pairs of letters of {self.alphabet!r}, got {pair!r}"
                )
        for letter, followers in zip(self.alphabet, self._may_follow[1:], strict=True):
            if not followers.any() and self.length > 1:
                raise ValueError(f"forbidden must leave {letter!r} a letter that may follow it")

    @functools.cached_property
    def _may_follow(self):
        """Which letters may follow nothing, and each letter, bool `[1 + n_letters, n_letters]`."""
        number = {letter: i for i, letter in enumerate(self.alphabet)}
        allowed = np.ones([1 + self.n_letters, self.n_letters], bool)
        for first, second in self.forbidden:
            allowed[1 + number[first], number[second]] = False
        return allowed

    @functools.cached_property
    def _listed(self):
        """Which of all words are chains, as their places in the list of these words, `[N]`."""
        return np.flatnonzero(self.contains(self._all_words()))

    @functools.cached_property
    def _place(self):
        """Where each of all words stands among the chains, −1 if it is none, int32 `[n_words]`."""
        place = np.full(super().n_states, -1, np.int32)
        place[self._listed] = np.arange(len(self._listed))
        return place

    @property
    def n_states(self):
        """All chains, or None if there are more words than are ever listed."""
        return None if super().n_states is None else len(self._listed)

    def states(self):
        self._check_listed()
        return tf.gather(self._all_words(), self._listed)

    def index(self, states):
        self._check_listed()
        return tf.gather(tf.constant(self._place), self._number(states))

    def contains(self, states):
        states = np.asarray(states)
        words = super().contains(states)
        first = np.where(words[:, None], states[:, :-1], 0)
        second = np.where(words[:, None], states[:, 1:], 0)
        return words & (self._may_follow[first, second - 1] | (second == 0)).all(axis=1)

    def forward_mask(self, states):
        may_follow = tf.gather(tf.constant(self._may_follow), self._last(states))
        stop = tf.ones_like(may_follow[:, :1])
        return super().forward_mask(states) & tf.concat([may_follow, stop], axis=1)

    def graph_key(self):
        key = super().graph_key()
        return key if key is self else (*key, self.forbidden)

    def settings(self):
        return super().settings() | {"forbidden": list(self.forbidden)}
