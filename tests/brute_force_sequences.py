"""Sequences in plain Python: words are strings, `·` is an empty place, histories written out."""

import itertools
from collections import defaultdict

EMPTY = "·"


def left_to_right(word, alphabet):
    """The words that one more letter can make, as {action: word}."""
    if EMPTY not in word:
        return {}
    letters = word.rstrip(EMPTY)
    return {
        action: (letters + letter).ljust(len(word), EMPTY) for action, letter in enumerate(alphabet)
    }


def either_end(word, alphabet):
    """Likewise for a letter at either end."""
    moves = left_to_right(word, alphabet)
    if moves and word.strip(EMPTY):
        for action, letter in enumerate(alphabet, start=len(alphabet)):
            moves[action] = letter + word[:-1]
    return moves


def any_position(word, alphabet):
    """Likewise for a letter in any empty place."""
    moves = {}
    for place, letter in itertools.product(range(len(word)), range(len(alphabet))):
        if word[place] == EMPTY:
            child = word[:place] + alphabet[letter] + word[place + 1 :]
            moves[place * len(alphabet) + letter] = child
    return moves


def histories(children, alphabet, length, shortest):
    """Every way to a word of at least `shortest` letters: (words passed, actions), the stop
    included."""
    unfinished = [([EMPTY * length], [])]
    while unfinished:
        passed, actions = unfinished.pop()
        moves = children(passed[-1], alphabet)
        if length - passed[-1].count(EMPTY) >= shortest:
            yield passed, [*actions, "stop"]
        for action, child in moves.items():
            unfinished.append(([*passed, child], [*actions, action]))


def terminating_distribution(children, alphabet, length, p_forward, shortest=None):
    """{word: P_T(word)}, adding up all histories; `p_forward[word][action]`, stop included.

    Words may stop from `shortest` letters on, by default when they are full.
    """
    total = defaultdict(float)
    for passed, actions in histories(children, alphabet, length, shortest or length):
        probability = 1.0
        for word, action in zip(passed, actions, strict=True):
            probability *= p_forward[word][action]
        total[passed[-1]] += probability
    return total
