"""Sequences built in three ways, against the same graphs in plain Python."""

import itertools
import math
import string
import warnings

import brute_force_sequences as plain
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from gfn_utils import (
    AnyPositionSequences,
    EitherEndSequences,
    GFNAgent,
    LeftToRightSequences,
    check_environment,
    evaluation,
)
from gfn_utils.policy import tabulate, uniform_log_policy

CHILDREN = {
    LeftToRightSequences: plain.left_to_right,
    EitherEndSequences: plain.either_end,
    AnyPositionSequences: plain.any_position,
}
three_ways = pytest.mark.parametrize("construction", CHILDREN, ids=lambda c: c.__name__)
SIZES = st.tuples(st.integers(1, 4), st.integers(2, 4))


def rising_reward(letters):
    """A reward that no two words of up to four letters share: log(1 + base-7 number / 100)."""
    place_values = tf.constant([7**i for i in range(letters.shape[1])], tf.float64)
    return tf.math.log1p(tf.linalg.matvec(tf.cast(letters, tf.float64), place_values) / 100)


def make(construction, length=3, n_letters=3, block=1):
    return construction(rising_reward, length, string.ascii_lowercase[:n_letters], block)


def plain_states(construction, env):
    """All states in plain Python, found by walking from the empty word."""
    found, frontier = set(), {plain.EMPTY * env.length}
    while frontier:
        found |= frontier
        children = (CHILDREN[construction](word, env.alphabet).values() for word in frontier)
        frontier = set(itertools.chain(*children)) - found
    return found


@three_ways
@pytest.mark.parametrize(("length", "n_letters", "block"), [(1, 2, 1), (3, 4, 2), (4, 3, 3)])
def test_the_contract_holds(construction, length, n_letters, block):
    check_environment(make(construction, length, n_letters, block))


@three_ways
def test_the_contract_holds_where_states_cannot_be_listed(construction):
    env = construction(rising_reward, length=20, alphabet="ACDEFGHIKLMNPQRSTVWY")
    assert env.n_states is None
    check_environment(env)
    for listing in (env.states, env.complete_states, lambda: env.index(env.initial_states(1))):
        with pytest.raises(ValueError, match=r"20.*cannot be listed"):
            listing()


@three_ways
@given(size=SIZES)
@settings(max_examples=12, deadline=None)
def test_the_graph_is_the_plain_one(construction, size):
    env = make(construction, *size)
    states = env.states()
    words = env.words(states)
    assert len(words) == env.n_states
    assert set(words) == plain_states(construction, env)
    allowed = np.asarray(env.forward_mask(states))
    for word, state, row in zip(words, states.numpy(), allowed, strict=True):
        expected = CHILDREN[construction](word, env.alphabet)
        moves = [int(action) for action in np.flatnonzero(row) if action != env.stop_action]
        children = env.step(np.tile(state, [len(moves), 1]), tf.constant(moves, tf.int32))
        assert dict(zip(moves, env.words(children), strict=True)) == expected
        assert row[env.stop_action] == (plain.EMPTY not in word)


@three_ways
def test_the_number_of_parents(construction):
    env = make(construction, length=4)
    states = env.states()
    n_filled = np.count_nonzero(states, axis=1)
    n_parents = np.count_nonzero(env.backward_mask(states), axis=1)
    most = {LeftToRightSequences: 1, EitherEndSequences: 2, AnyPositionSequences: 4}[construction]
    np.testing.assert_array_equal(n_parents, np.minimum(n_filled, most))


@three_ways
def test_the_number_of_histories(construction):
    env = make(construction, length=4)
    n_histories = {
        LeftToRightSequences: 1,
        EitherEndSequences: 2**3,
        AnyPositionSequences: math.factorial(4),
    }[construction]
    ways = evaluation.count_trajectories(env)[env.index(env.complete_states())]
    np.testing.assert_array_equal(ways, n_histories)


@three_ways
def test_terminating_distribution_is_the_sum_over_all_histories(construction, randomise):
    env = make(construction)
    agent = randomise(GFNAgent(env, hidden=(8,)), seed=1)
    table = np.exp(tabulate(env, agent.log_policy).log_pf)
    assert table[:, : env.stop_action].max() > 0.8
    p_forward = {
        word: {**dict(enumerate(row)), "stop": row[env.stop_action]}
        for word, row in zip(env.words(env.states()), table, strict=True)
    }
    total = plain.terminating_distribution(
        CHILDREN[construction], env.alphabet, env.length, p_forward
    )
    expected = [total[word] for word in env.words(env.states())]
    assert sum(expected) == pytest.approx(1)
    np.testing.assert_allclose(
        evaluation.terminating_distribution(agent), expected, rtol=0, atol=1e-12
    )


@three_ways
def test_the_target_is_the_reward_of_complete_words_alone(construction):
    env = make(construction)
    words = ["".join(letters) for letters in itertools.product("abc", repeat=3)]
    np.testing.assert_array_equal(env.words(env.complete_states()), words)
    reward = [1 + sum("abc".index(c) * 7**i for i, c in enumerate(word)) / 100 for word in words]
    expected = np.zeros(env.n_states)
    expected[env.index(env.complete_states())] = np.array(reward) / sum(reward)
    np.testing.assert_allclose(env.target(), expected, rtol=1e-12)
    assert np.isneginf(env.log_reward(env.states())[env.target() == 0]).all()


@three_ways
def test_the_answer_key_builds_the_target(construction):
    env = make(construction, length=4)
    _, log_pb = uniform_log_policy(env)(env.states())
    key, log_z = evaluation.answer_key(env, log_pb)
    p = evaluation.terminating_distribution(key)
    assert evaluation.l1_error(p, env.target()) < 1e-12
    assert log_z == pytest.approx(math.log(np.exp(env.log_reward(env.complete_states())).sum()))


@three_ways
@pytest.mark.parametrize("backward_policy", ["learned", "uniform"])
def test_an_agent_learns_the_target(construction, backward_policy):
    env = make(construction)
    agent = GFNAgent(env, hidden=(64, 64), backward_policy=backward_policy, gamma=0.1)
    agent.train(iterations=1500, decay="linear", chunk=1500, track_error=False)
    p = evaluation.terminating_distribution(agent)
    assert evaluation.l1_error(p, env.target()) < 0.01


@three_ways
@pytest.mark.parametrize(("block", "n_features"), [(1, 4 * 4), (2, 2 * 4**2), (3, 2 * 4**3)])
def test_every_block_is_a_one_hot_vector(construction, block, n_features):
    env = make(construction, length=4, block=block)
    features = np.asarray(env.encode(env.states()))
    assert features.shape == (env.n_states, n_features)
    assert set(np.unique(features)) == {0, 1}
    np.testing.assert_array_equal(features.sum(axis=1), -(-4 // block))
    # Words share a feature for each block that they share, and no other.
    words = env.words(env.states())
    rng = np.random.default_rng(0)
    for i, j in rng.integers(env.n_states, size=[200, 2]):
        starts = range(0, 4, block)
        shared = sum(words[i][s : s + block] == words[j][s : s + block] for s in starts)
        assert features[i] @ features[j] == shared


@three_ways
def test_words_and_states_are_inverse(construction):
    env = make(construction)
    words = env.words(env.states())
    np.testing.assert_array_equal(env.states_of(words), env.states())
    assert env.states_of([]).shape == (0, 3)


@pytest.mark.parametrize("word", ["ab", "abca", "abd", "ABC", ""])
def test_words_of_another_alphabet_or_length_are_refused(word):
    with pytest.raises(ValueError, match=rf"3 letters of 'abc', got '{word}'"):
        make(LeftToRightSequences).states_of(["abc", word])


@three_ways
def test_states_that_are_none_are_refused(construction):
    agent = GFNAgent(make(construction))
    for state in ([1, 2, 4], [1, 2, 0], [-1, 1, 1]):
        with pytest.raises(ValueError, match=r"terminal\[0\] must be a state"):
            agent.sample_backward([state])
    gap = np.array([[1, 0, 2]])
    assert make(construction).contains(gap).item() == (construction is AnyPositionSequences)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 0}, "length must be an integer of at least 1, got 0"),
        ({"alphabet": "A"}, "alphabet must have at least two letters.*'A'"),
        ({"alphabet": "ACA"}, "alphabet must .*each once.*'ACA'"),
        ({"alphabet": "A·"}, "alphabet must .*none '·'"),
        ({"alphabet": 4}, "alphabet must be a string of letters, got 4"),
        ({"block": 0}, "block must be an integer of at least 1, got 0"),
        ({"block": 9}, "block must be .* at most 8, got 9"),
        ({"block": 8, "length": 8}, "block must be .* at most 100,000 features, got 8.* 390,625"),
        ({"log_reward_of": 1.0}, "log_reward_of must be a function, got 1.0"),
        ({"log_reward_of": lambda letters: letters}, r"log_reward_of must .*shape \[2, 8\]"),
    ],
)
def test_arguments_out_of_bounds(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        EitherEndSequences(**{"log_reward_of": rising_reward, **arguments})


@three_ways
def test_a_saved_agent_needs_its_reward_function(construction, tmp_path):
    env = make(construction)
    agent = GFNAgent(env, hidden=(4,), seed=3)
    agent.save(tmp_path / "agent.npz")
    again = GFNAgent.load(tmp_path / "agent.npz", env)
    np.testing.assert_array_equal(again.sample(20).actions, agent.sample(20).actions)
    with pytest.raises(ValueError, match=r"env must be given.*reward function"):
        GFNAgent.load(tmp_path / "agent.npz")
    other = construction(lambda letters: 2 * rising_reward(letters), 3, "abc")
    with pytest.raises(ValueError, match=r"env must be as it was .* the log_reward of state"):
        GFNAgent.load(tmp_path / "agent.npz", other)


@three_ways
@pytest.mark.parametrize("block", [1, 2])
def test_encoding_takes_memory_in_proportion_to_its_result(construction, block):
    env = make(construction, length=4, block=block)
    states = env.states()
    program = tf.function(env.encode).get_concrete_function(states)
    largest = max(
        np.prod(output.shape.as_list() or [1])
        for operation in program.graph.get_operations()
        for output in operation.outputs
    )
    assert largest == np.prod(env.encode(states).shape)


@three_ways
@pytest.mark.parametrize(
    "states",
    [[[-1, -1, -1]], [[0, 0, 9]], [[1, 2]], [1, 2, 3], None, "abc", [["a", "b", "c"]], [[0.5] * 3]],
)
def test_only_states_have_words(construction, states):
    with pytest.raises((ValueError, TypeError), match="states"):
        make(construction).words(states)


@pytest.mark.parametrize(
    "words",
    ["abc", None, 5, [None], [5], [["a", "b", "c"]], [b"abc"], ["a·b"], np.array(2)],
    ids=repr,
)
def test_only_words_have_states(words):
    with pytest.raises((ValueError, TypeError), match="words"):
        make(LeftToRightSequences).states_of(words)


def test_a_gap_is_part_of_a_word_where_any_position_may_be_filled():
    env = make(AnyPositionSequences)
    assert env.words(env.states_of(["a·b", "···"])) == ["a·b", "···"]


def test_a_reward_of_words_must_be_numbers():
    with pytest.raises(TypeError, match="what log_reward_of gives must be an array of numbers"):
        LeftToRightSequences(lambda letters: ["a", "b"])


@three_ways
def test_equal_sequences_are_equal_and_others_are_not(construction):
    assert make(construction) == make(construction)
    assert hash(make(construction)) == hash(make(construction))
    assert make(construction) != make(construction, block=2)
    assert make(construction) != construction(lambda letters: rising_reward(letters), 3, "abc")


def test_very_long_sequences_are_made_at_once():
    env = LeftToRightSequences(lambda letters: tf.zeros(2), length=30_000, alphabet="ab")
    assert env.n_states is None


def test_a_reward_that_is_a_network_in_single_precision_keeps_the_contract():
    network = keras.Sequential([keras.layers.Dense(64, "relu"), keras.layers.Dense(1)])
    network.build([None, 20 * 8])
    network.layers[0].set_weights([10 * weight for weight in network.layers[0].get_weights()])

    def log_reward(letters):
        return network(tf.reshape(tf.one_hot(letters, 20), [-1, 20 * 8]))[:, 0]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_environment(AnyPositionSequences(log_reward, 8, string.ascii_letters[:20]))
