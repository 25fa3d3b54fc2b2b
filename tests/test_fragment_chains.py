"""Chains with forbidden neighbours and sequences of many lengths, against plain Python."""

import itertools

import brute_force_sequences as plain
import numpy as np
import pytest
import tensorflow as tf

from gfn_utils import EitherEndSequences, GFNAgent, LeftToRightSequences, evaluation
from gfn_utils.environments import FragmentChains, check_environment

FORBIDDEN = ("ab", "bb")


def reward_of_letters(letters):
    """log R = Σ (letter + 1)/10, where an empty place is the letter −1."""
    return tf.reduce_sum(tf.cast(letters + 1, tf.float64), axis=1) / 10


def chains(length=3, **settings):
    return FragmentChains(
        reward_of_letters, length, "abc", **{"forbidden": FORBIDDEN, "min_length": 1} | settings
    )


def all_words(shortest, longest):
    lengths = range(shortest, longest + 1)
    return ["".join(word) for k in lengths for word in itertools.product("abc", repeat=k)]


def keeps_the_rule(word):
    return not any(pair in word for pair in FORBIDDEN)


def stripped(env, states):
    return [word.rstrip("·") for word in env.words(states)]


@pytest.mark.parametrize("kind", [LeftToRightSequences, EitherEndSequences, FragmentChains])
@pytest.mark.parametrize("min_length", [1, 2, 3])
def test_the_contract_holds_for_every_shortest_length(kind, min_length):
    check_environment(kind(reward_of_letters, 3, "abc", min_length=min_length))


@pytest.mark.parametrize("kind", [LeftToRightSequences, EitherEndSequences])
def test_words_of_all_lengths_may_stop_and_are_paid(kind):
    env = kind(reward_of_letters, 3, "abc", min_length=2)
    assert stripped(env, env.complete_states()) == all_words(2, 3)
    reward = {w: np.exp(sum("·abc".index(c) for c in w) / 10) for w in all_words(2, 3)}
    target = dict(zip(stripped(env, env.states()), env.target(), strict=True))
    for word in all_words(0, 3):
        assert target[word] == pytest.approx(reward.get(word, 0) / sum(reward.values()))


def test_without_a_shortest_length_only_full_words_stop_as_before():
    env, same = (LeftToRightSequences(reward_of_letters, 3, "abc", min_length=n) for n in (None, 3))
    assert stripped(env, env.complete_states()) == all_words(3, 3)
    np.testing.assert_array_equal(env.target(), same.target())


def test_the_terminating_distribution_is_the_sum_over_all_histories(randomise):
    env = EitherEndSequences(reward_of_letters, 3, "abc", min_length=1)
    agent = randomise(GFNAgent(env, hidden=(8,)), seed=1)
    states = env.states()
    table = np.exp(agent.log_policy(states)[0].numpy().astype(np.float64))
    p_forward = {
        word: {**dict(enumerate(row)), "stop": row[-1]}
        for word, row in zip(env.words(states), table, strict=True)
    }
    total = plain.terminating_distribution(plain.either_end, env.alphabet, 3, p_forward, shortest=1)
    learned = evaluation.terminating_distribution(agent)
    np.testing.assert_allclose(learned, [total[word] for word in env.words(states)], atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 4])
def test_chains_are_the_words_that_keep_the_rule(length):
    env = chains(length)
    check_environment(env)
    expected = [word for word in all_words(0, length) if keeps_the_rule(word)]
    assert stripped(env, env.states()) == expected
    assert env.n_states == len(expected)
    np.testing.assert_array_equal(env.index(env.states()), np.arange(len(expected)))
    every = LeftToRightSequences(reward_of_letters, length, "abc", min_length=1).states()
    inside = [keeps_the_rule(word) for word in all_words(0, length)]
    np.testing.assert_array_equal(env.contains(every), inside)


def test_no_sample_breaks_the_rule_where_chains_cannot_be_listed():
    env = FragmentChains(
        reward_of_letters, 20, "abcdefghij", min_length=1, forbidden=[a + "a" for a in "abcdefghi"]
    )
    assert env.n_states is None
    words = stripped(env, GFNAgent(env, gamma=1.0).sample(300, explore=True).terminal)
    assert max(map(len, words)) > 5
    assert not any(pair in word for word in words for pair in env.forbidden)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"min_length": 0}, ValueError, "min_length"),
        ({"min_length": 4}, ValueError, "min_length"),
        ({"min_length": 1.5}, TypeError, "min_length"),
        ({"forbidden": "ab"}, TypeError, "forbidden"),
        ({"forbidden": [3]}, TypeError, "forbidden"),
        ({"forbidden": ["abc"]}, ValueError, "forbidden"),
        ({"forbidden": ["ax"]}, ValueError, "forbidden"),
        ({"forbidden": ["aa", "ab", "ac"]}, ValueError, "forbidden must leave 'a'"),
    ],
)
def test_wrong_arguments_are_named(changed, error, message):
    with pytest.raises(error, match=message):
        chains(**changed)
