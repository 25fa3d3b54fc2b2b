"""Sequences of letters, of one length or of many, built in three ways (arXiv 2203.04115).

The three classes build the same objects along different graphs: a tree (left to right), a graph in
which a word has at most two parents (either end), and one in which it has as many as it has letters
(any position).
"""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

from gfn_utils.environments.base import (
    MAX_LISTED_STATES,
    Environment,
    check_any_states,
    is_dataclass_itself,
)
from gfn_utils.validation import check_flag, check_function, check_integer, check_numbers, shown

MAX_FEATURES = 100_000
EMPTY = "·"
"""How a place without a letter is written."""


@dataclasses.dataclass(frozen=True, repr=False)
class Sequences(Environment):
    """What the three ways to build a sequence share. Use one of them, not this class.

    A state is int32 `[length]`: 0 for an empty place, i for the i-th letter of `alphabet`. Stop is
    allowed when the sequence is complete: when it is full, and with `min_length` earlier.

    Args:
        log_reward_of: log R in nats, `[B]`, of complete sequences given as numbers of letters,
            int32 `[B, length]` from 0 to n_letters − 1, and −1 after the last letter of a shorter
            one; a function of TensorFlow operations, or of NumPy arrays with `python_reward`.
        length: letters in the longest sequence.
        alphabet: the letters, each one character.
        block: neighbouring places that the network sees as one: each block of so many letters is
            a one-hot vector of its own. Larger blocks learn faster what only whole blocks tell,
            smaller ones carry over more from word to word.
        min_length: letters in the shortest complete sequence, for those built at the ends; by
            default `length`, so that all have one length.
        python_reward, cache_rewards: as in `Environment`.

    Raises ValueError or TypeError, naming the argument, if one is out of bounds.
    """

    log_reward_of: Callable[[tf.Tensor], tf.Tensor]
    length: int = 8
    alphabet: str = "ACGT"
    block: int = 1
    python_reward: bool = False
    cache_rewards: bool = False

    def __post_init__(self):
        object.__setattr__(self, "length", check_integer("length", self.length, minimum=1))
        letters = self.alphabet
        if not isinstance(letters, str):
            raise TypeError(f"alphabet must be a string of letters, got {shown(letters)}")
        if len(letters) < 2 or len(set(letters)) < len(letters) or EMPTY in letters:
            raise ValueError(
                f"alphabet must have at least two letters, each once, none {EMPTY!r}, "
                f"got {shown(letters)}"
            )
        block = check_integer("block", self.block, minimum=1, maximum=self.length)
        object.__setattr__(self, "block", block)
        if self._n_features > MAX_FEATURES:
            raise ValueError(
                f"block must be so small that there are at most {MAX_FEATURES:,} features, got "
                f"{block}, which makes {self._n_features:,}"
            )
        for name in ("python_reward", "cache_rewards"):
            check_flag(name, getattr(self, name))
        check_function("log_reward_of", self.log_reward_of)
        two = np.zeros([2, self.length], np.int32)
        some = self.log_reward_of(two if self.python_reward else tf.constant(two))
        shape = check_numbers("what log_reward_of gives", some).shape
        if shape != (2,):
            raise ValueError(
                "log_reward_of must give one number for each of [B, length] sequences, "
                f"got shape {list(shape)} for B = 2"
            )

    def __repr__(self):
        reward = getattr(self.log_reward_of, "__name__", repr(self.log_reward_of))
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings().items())
        return f"{type(self).__name__}({reward}, {settings})"

    @property
    def n_letters(self) -> int:
        """How many letters the alphabet has."""
        return len(self.alphabet)

    @property
    def state_shape(self):
        return (self.length,)

    @property
    def max_trajectory_length(self):
        return self.length + 1

    def initial_states(self, batch_size):
        return tf.zeros([batch_size, self.length], tf.int32)

    def encode(self, states):
        one_hot = tf.one_hot(self._contents_of_blocks(states), self._n_contents, dtype=tf.float32)
        return tf.reshape(one_hot, [-1, self._n_features])

    def hot_features(self, states):
        return self._contents_of_blocks(states) + self._n_contents * tf.range(self._n_blocks)

    def _contents_of_blocks(self, states):
        """Which of all possible contents each block has, int32 `[B, n_blocks]`."""
        padded = tf.pad(states, [[0, 0], [0, self._n_blocks * self.block - self.length]])
        blocks = tf.reshape(padded, [-1, self._n_blocks, self.block])
        return tf.reduce_sum(blocks * _place_values(self.n_letters + 1, self.block), axis=-1)

    @property
    def _n_blocks(self):
        return -(-self.length // self.block)

    @property
    def _n_contents(self):
        return (self.n_letters + 1) ** self.block

    @property
    def _n_features(self):
        return self._n_blocks * self._n_contents

    def log_reward(self, states):
        """log R of complete sequences in nats; −inf for the others, in which none may stop."""
        if self.python_reward:
            return self.log_reward_of(states - 1)
        complete = self._is_complete(states)
        letters = tf.where(complete[:, None], states - 1, 0)
        log_reward = tf.cast(self.log_reward_of(letters), tf.float64)
        return tf.where(complete, log_reward, tf.constant(-np.inf, tf.float64))

    def complete_states(self) -> tf.Tensor:
        """All complete sequences, shorter ones first, then in alphabetical order, `[N, length]`."""
        states = self.states()
        return states[self._is_complete(states)]

    def words(self, states) -> list[str]:
        """The states `[B, length]` as text, with `·` for an empty place.

        Raises ValueError or TypeError if one is not a state of this environment.
        """
        letters = np.array([*EMPTY, *self.alphabet])
        numbers = check_any_states(self, states, "states").numpy()
        return ["".join(row) for row in letters[numbers]]

    def states_of(self, words: Iterable[str]) -> tf.Tensor:
        """The states of words written as by `words`, `[B, length]`.

        Raises TypeError if they are not a list of strings, ValueError if a word has another length
        or other letters, or a gap where words have none.
        """
        if isinstance(words, str | bytes) or not np.iterable(words):
            raise TypeError(f"words must be a list of strings, got {shown(words)}")
        words = list(words)
        number = {letter: i for i, letter in enumerate([EMPTY, *self.alphabet])}
        for word in words:
            if not isinstance(word, str):
                raise TypeError(f"words must be a list of strings, got {shown(word)} among them")
            if len(word) != self.length or not set(word) <= set(number):
                raise ValueError(
                    f"words must be of {self.length} letters of {self.alphabet!r}, "
                    f"got {shown(word)}"
                )
        rows = [[number[letter] for letter in word] for word in words]
        if not rows:
            return tf.zeros([0, self.length], tf.int32)
        return check_any_states(self, rows, "words")

    def graph_key(self):
        key = type(self), self.length, self.alphabet, self.block
        return key if is_dataclass_itself(self) else self

    def settings(self):
        """The sizes. A saved agent's fingerprint tells one reward function from another."""
        return {"length": self.length, "alphabet": self.alphabet, "block": self.block}

    def _is_complete(self, states):
        return self._n_filled(states) == self.length

    def _n_filled(self, states):
        return tf.reduce_sum(tf.cast(states > 0, tf.int32), axis=-1)

    def _check_listed(self):
        if self.n_states is None:
            raise ValueError(
                f"the states of {self!r} cannot be listed: they are more than {MAX_LISTED_STATES:,}"
            )


@dataclasses.dataclass(frozen=True, repr=False)
class _Words(Sequences):
    """Sequences without gaps: k letters, then empty places."""

    min_length: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.min_length is not None:
            shortest = check_integer("min_length", self.min_length, minimum=1, maximum=self.length)
            object.__setattr__(self, "min_length", shortest)

    @property
    def n_states(self):
        """All words of up to `length` letters, or None if that is more than are ever listed."""
        n_states = (self.n_letters ** (self.length + 1) - 1) // (self.n_letters - 1)
        return n_states if n_states <= MAX_LISTED_STATES else None

    def states(self):
        self._check_listed()
        return self._all_words()

    def index(self, states):
        self._check_listed()
        return self._number(states)

    def _all_words(self):
        """Every word of up to `length` letters, in order of length, then of the alphabet."""
        words = [1 + _digits(self.n_letters**k, self.n_letters, k) for k in range(self.length + 1)]
        return tf.concat(
            [tf.pad(word, [[0, 0], [0, self.length - k]]) for k, word in enumerate(words)], axis=0
        )

    def _number(self, states):
        """Where each state `[B, length]` stands among all words."""
        # They count up in numerals without a zero.
        number = tf.zeros_like(states[..., 0])
        for place in range(self.length):
            letter = states[..., place]
            number = tf.where(letter > 0, number * self.n_letters + letter, number)
        return number

    def contains(self, states):
        states = np.asarray(states)
        in_range = ((states >= 0) & (states <= self.n_letters)).all(axis=-1)
        return in_range & ~((states[:, 1:] > 0) & (states[:, :-1] == 0)).any(axis=-1)

    def graph_key(self):
        key = super().graph_key()
        return key if key is self else (*key, self.min_length)

    def settings(self):
        return super().settings() | ({"min_length": self.min_length} if self.min_length else {})

    def _is_complete(self, states):
        return self._n_filled(states) >= (self.min_length or self.length)

    def _append(self, states, letter):
        """Put `letter` `[B]` after the last one; 0 leaves the word as it is."""
        return states + letter[:, None] * tf.one_hot(
            self._n_filled(states), self.length, dtype=tf.int32
        )

    def _without_last(self, states):
        last = tf.one_hot(self._n_filled(states) - 1, self.length, dtype=tf.int32)
        return states * (1 - last)

    def _last_is(self, states):
        """Which letter is the last, bool `[B, n_letters]`; none of the empty word."""
        return tf.one_hot(self._last(states) - 1, self.n_letters, True, False, dtype=tf.bool)

    def _last(self, states):
        """The number of the last letter, int32 `[B]`; 0 of the empty word."""
        is_last = tf.one_hot(self._n_filled(states) - 1, self.length, dtype=tf.int32)
        return tf.reduce_sum(states * is_last, axis=-1)


@dataclasses.dataclass(frozen=True, repr=False)
class LeftToRightSequences(_Words):
    """Sequences written from left to right: action i < n_letters appends letter i.

    The graph is a tree. Every word has one parent, so P_B = 1.
    """

    @property
    def n_actions(self):
        return self.n_letters + 1

    def forward_mask(self, states):
        letters = tf.repeat((self._n_filled(states) < self.length)[:, None], self.n_letters, axis=1)
        return tf.concat([letters, self._is_complete(states)[:, None]], axis=1)

    def backward_mask(self, states):
        return self._last_is(tf.convert_to_tensor(states))

    def step(self, states, actions):
        moves = (actions >= 0) & (actions < self.stop_action)
        return self._append(states, tf.where(moves, actions + 1, 0))

    def back_step(self, states, actions):
        return tf.where((actions >= 0)[:, None], self._without_last(states), states)


@dataclasses.dataclass(frozen=True, repr=False)
class EitherEndSequences(_Words):
    """Sequences that grow at either end: action i < n_letters appends letter i,
    action n_letters + i puts it before the first.

    A word of two letters or more has two ways back. The first letter can only be appended: to
    put it before nothing would be the same edge again.
    """

    @property
    def n_actions(self):
        return 2 * self.n_letters + 1

    def forward_mask(self, states):
        n_filled = self._n_filled(states)[:, None]
        append = tf.repeat(n_filled < self.length, self.n_letters, axis=1)
        stop = self._is_complete(states)[:, None]
        return tf.concat([append, append & (n_filled > 0), stop], axis=1)

    def backward_mask(self, states):
        states = tf.convert_to_tensor(states)
        first_is = tf.one_hot(states[:, 0] - 1, self.n_letters, True, False, dtype=tf.bool)
        return tf.concat(
            [self._last_is(states), first_is & (self._n_filled(states)[:, None] > 1)], axis=1
        )

    def step(self, states, actions):
        appends = (actions >= 0) & (actions < self.n_letters)
        prepends = (actions >= self.n_letters) & (actions < self.stop_action)
        appended = self._append(states, tf.where(appends, actions + 1, 0))
        first = (actions - self.n_letters + 1)[:, None]
        prepended = tf.concat([first, states[:, :-1]], axis=1)
        return tf.where(prepends[:, None], prepended, appended)

    def back_step(self, states, actions):
        from_the_end = (actions >= 0) & (actions < self.n_letters)
        from_the_start = actions >= self.n_letters
        without_first = tf.concat([states[:, 1:], tf.zeros_like(states[:, :1])], axis=1)
        shorter = tf.where(from_the_start[:, None], without_first, states)
        return tf.where(from_the_end[:, None], self._without_last(states), shorter)


@dataclasses.dataclass(frozen=True, repr=False)
class AnyPositionSequences(Sequences):
    """Sequences filled in any order: action place·n_letters + i puts letter i in an empty place.

    A state of k letters has k parents, and k! histories.
    """

    @property
    def n_actions(self):
        return self.length * self.n_letters + 1

    @property
    def n_states(self):
        """(n_letters + 1) ** length, or None if that is more than are ever listed."""
        n_states = (self.n_letters + 1) ** self.length
        return n_states if n_states <= MAX_LISTED_STATES else None

    def states(self):
        self._check_listed()
        return _digits(self.n_states, self.n_letters + 1, self.length)

    def index(self, states):
        self._check_listed()
        return tf.reduce_sum(states * _place_values(self.n_letters + 1, self.length), axis=-1)

    def contains(self, states):
        states = np.asarray(states)
        return ((states >= 0) & (states <= self.n_letters)).all(axis=-1)

    def forward_mask(self, states):
        states = tf.convert_to_tensor(states)
        moves = tf.repeat(states == 0, self.n_letters, axis=1)
        return tf.concat([moves, tf.reduce_all(states > 0, axis=1, keepdims=True)], axis=1)

    def backward_mask(self, states):
        filled_with = tf.one_hot(states - 1, self.n_letters, True, False, dtype=tf.bool)
        return tf.reshape(filled_with, [-1, self.length * self.n_letters])

    def step(self, states, actions):
        return states + self._letter_in_place(actions)

    def back_step(self, states, actions):
        return states - self._letter_in_place(actions)

    def _letter_in_place(self, actions):
        """The action's letter in its place, 0 elsewhere and for stop and padding, `[B, length]`."""
        # Stop and padding have no place in the one-hot vector.
        place = tf.one_hot(actions // self.n_letters, self.length, dtype=tf.int32)
        return place * (actions % self.n_letters + 1)[:, None]


def _digits(n, base, n_digits):
    """The numbers 0, …, n − 1 written in `base`, int32 `[n, n_digits]`."""
    return tf.range(n)[:, None] // _place_values(base, n_digits) % base


def _place_values(base, n_digits):
    return tf.constant([base**i for i in reversed(range(n_digits))], tf.int32, [n_digits])
