"""check_environment: what it refuses and in which words, and own environments that it accepts."""

import dataclasses
import itertools
import re

import numpy as np
import pytest
import tensorflow as tf
from own_environments import Graph, Subsets, Words

from gfn_utils import GFNAgent, HyperGrid, check_environment, evaluation
from gfn_utils.environments import ContractError


def broken_grid(**methods):
    """A 4×4 grid with some of its methods replaced."""
    return type("BrokenGrid", (HyperGrid,), methods)(2, 4)


def at(states, *state):
    """Where a state stands in a batch, bool `[B]`."""
    return tf.reduce_all(tf.convert_to_tensor(states) == list(state), axis=-1)


def flip(mask, rows, action):
    """The mask with one action turned round in the given rows."""
    column = tf.one_hot(action, mask.shape[1], on_value=True, off_value=False)
    return mask ^ (rows[:, None] & column[None])


def down(method):
    return lambda self, *args: method(self, *args) - 1


def up(method):
    return lambda self, states, *args: method(self, states + 1, *args)


BROKEN_GRIDS = {
    "forward mask lets the grid be left": (
        {"forward_mask": lambda self, s: tf.fill([len(s), 3], True)},
        "action 0 in state [3, 0] leads to [4, 0], which is not listed",
    ),
    "forward mask lets one row run into the next": (
        {"forward_mask": lambda self, s: flip(HyperGrid.forward_mask(self, s), at(s, 1, 3), 1)},
        "action 1 in state [1, 3] leads to [1, 4], which is not listed",
    ),
    "forward mask forgets a child": (
        {"forward_mask": lambda self, s: flip(HyperGrid.forward_mask(self, s), at(s, 1, 2), 0)},
        "forward_mask must allow what back_step undid: action 0 in state [2, 2] "
        "gave False, expected True",
    ),
    "backward mask forgets a parent": (
        {"backward_mask": lambda self, s: flip(HyperGrid.backward_mask(self, s), at(s, 2, 3), 1)},
        "backward_mask must allow what step did: action 1 in state [2, 2] "
        "gave False, expected True",
    ),
    "backward mask invents a parent": (
        {"backward_mask": lambda self, s: flip(HyperGrid.backward_mask(self, s), at(s, 0, 2), 0)},
        "action 0 in state [0, 2] leads to [-1, 2], which is not listed",
    ),
    "initial state with a parent": (
        {"backward_mask": lambda self, s: flip(HyperGrid.backward_mask(self, s), at(s, 0, 0), 1)},
        "backward_mask allows action 1 in the initial state [0, 0], which must have no parents",
    ),
    "state without a parent": (
        {
            "forward_mask": lambda self, s: flip(HyperGrid.forward_mask(self, s), at(s, 0, 2), 1),
            "backward_mask": lambda self, s: flip(HyperGrid.backward_mask(self, s), at(s, 0, 3), 1),
        },
        "backward_mask allows no action in state [0, 3]: only the initial state has no parents",
    ),
    "initial states that differ": (
        {"initial_states": lambda self, n: tf.range(n)[:, None] * tf.constant([[1, 0]])},
        "initial_states must all be the same state, got [[0, 0], [1, 0]]",
    ),
    "step leaves out a cell": (
        {"step": lambda self, s, a: s + 2 * tf.one_hot(a, 2, dtype=tf.int32)},
        "action 0 in state [2, 0] leads to [4, 0], which is not listed",
    ),
    "step goes wrong in one state": (
        {
            "step": lambda self, s, a: HyperGrid.step(
                self, s, tf.where(at(s, 1, 1) & (a == 0), 1, a)
            )
        },
        "back_step must undo step: action 0 in state [1, 1] gave [0, 2], expected [1, 1]",
    ),
    "back_step off by one": (
        {"back_step": lambda self, s, a: s - 2 * tf.one_hot(a, 2, dtype=tf.int32)},
        "back_step must undo step: action 0 in state [0, 0] gave [-1, 0], expected [0, 0]",
    ),
    "stop moves": (
        {"step": lambda self, s, a: s + tf.one_hot(a % 2, 2, dtype=tf.int32)},
        "step with stop must leave the state: action 2 in state [0, 0] "
        "gave [1, 0], expected [0, 0]",
    ),
    "padding moves forward": (
        {"step": lambda self, s, a: HyperGrid.step(self, s, tf.where(a == -1, 1, a))},
        "step with padding must leave the state: action -1 in state [0, 0] "
        "gave [0, 1], expected [0, 0]",
    ),
    "padding moves backward": (
        {"back_step": lambda self, s, a: HyperGrid.back_step(self, s, tf.where(a == -1, 0, a))},
        "back_step with padding must leave the state: action -1 in state [0, 0] "
        "gave [-1, 0], expected [0, 0]",
    ),
    "index in another order": (
        {"index": lambda self, s: s[:, 0] + 4 * s[:, 1]},
        "index must invert states(): state [0, 1] is listed at 1, but index gives 4",
    ),
    "index of another type": pytest.param(
        {"index": lambda self, s: tf.cast(HyperGrid.index(self, s), tf.float32)},
        "index must be int32 [16], got float32 [16]",
    ),
    "a state listed twice": (
        {"states": lambda self: tf.maximum(HyperGrid.states(self), [[0, 1]])},
        "index must invert states(): state [0, 1] is listed at 0, but index gives 1",
    ),
    "fewer states listed than there are": (
        {"states": lambda self: HyperGrid.states(self)[:15]},
        "states() must be int32 [16, 2], got int32 [15, 2]",
    ),
    "trajectories longer than said": (
        {"max_trajectory_length": 6},
        "max_trajectory_length is 6, but state [3, 3] is reached after 6 actions",
    ),
    "stop allowed nowhere": (
        {"forward_mask": lambda self, s: HyperGrid.forward_mask(self, s) & [True, True, False]},
        "forward_mask allows no action in state [3, 3]",
    ),
    "a dead end": (
        {"forward_mask": lambda self, s: flip(HyperGrid.forward_mask(self, s), at(s, 3, 3), 2)},
        "forward_mask allows no action in state [3, 3]",
    ),
    "a reward of zero": (
        {
            "log_reward": lambda self, s: tf.where(
                at(s, 1, 2), tf.constant(-np.inf, tf.float64), HyperGrid.log_reward(self, s)
            )
        },
        "log_reward must be finite (the reward positive) wherever stop is allowed, "
        "got -inf in state [1, 2]",
    ),
    "a reward that is no number": (
        {
            "log_reward": lambda self, s: tf.where(
                at(s, 0, 0), tf.constant(np.nan, tf.float64), HyperGrid.log_reward(self, s)
            )
        },
        "got nan in state [0, 0]",
    ),
    "negative entries": (
        {
            "initial_states": down(HyperGrid.initial_states),
            "states": down(HyperGrid.states),
            **{
                name: up(getattr(HyperGrid, name))
                for name in (
                    "index",
                    "forward_mask",
                    "backward_mask",
                    "log_reward",
                    "encode",
                    "hot_features",
                )
            },
        },
        "states must have entries of at least 0 (−1 is padding): [-1, -1]",
    ),
    "initial state of another type": (
        {"initial_states": lambda self, n: tf.zeros([n, 2], tf.int64)},
        "initial_states(2) must be int32 [2, 2], got int64 [2, 2]",
    ),
    "states of another type": (
        {"states": lambda self: tf.cast(HyperGrid.states(self), tf.float32)},
        "states() must be int32 [16, 2], got float32 [16, 2]",
    ),
    "forward mask of another type": (
        {"forward_mask": lambda self, s: tf.cast(HyperGrid.forward_mask(self, s), tf.float32)},
        "forward_mask must be bool [16, 3], got float32 [16, 3]",
    ),
    "backward mask with a stop": (
        {"backward_mask": lambda self, s: tf.pad(s > 0, [[0, 0], [0, 1]])},
        "backward_mask must be bool [16, 2], got bool [16, 3]",
    ),
    "log reward of another type": (
        {"log_reward": lambda self, s: tf.cast(HyperGrid.log_reward(self, s), tf.float32)},
        "log_reward must be float64 [16], got float32 [16]",
    ),
    "log reward of another shape": (
        {"log_reward": lambda self, s: HyperGrid.log_reward(self, s)[:, None]},
        "log_reward must be float64 [16], got float64 [16, 1]",
    ),
    "step to another type": (
        {"step": lambda self, s, a: tf.cast(HyperGrid.step(self, s, a), tf.int64)},
        "step must be int32 [24, 2], got int64 [24, 2]",
    ),
    "features that are no numbers": (
        {"encode": lambda self, s: HyperGrid.encode(self, s) * np.float32(np.nan)},
        "encode must give finite features [B, n_features], got float32 [16, 8] for B = 16",
    ),
    "features of another shape": (
        {"encode": lambda self, s: tf.one_hot(s, 4)},
        "encode must give finite features [B, n_features], got float32 [16, 2, 4] for B = 16",
    ),
    "hot features of another type": (
        {"hot_features": lambda self, s: tf.cast(s, tf.int64)},
        "hot_features must be int32 [B, k], got int64 [16, 2]",
    ),
    "hot features that are not those of encode": (
        {"hot_features": lambda self, s: tf.convert_to_tensor(s)},
        "encode must be 1 at the hot features and 0 elsewhere, got [1.0, 0.0, 0.0, 0.0, 1.0",
    ),
    "hot features out of bounds": (
        {"hot_features": lambda self, s: s + 4 * tf.range(1, 3)},
        "encode must be 1 at the hot features and 0 elsewhere, got [1.0, 0.0, 0.0, 0.0, 1.0",
    ),
}


@pytest.mark.parametrize(("methods", "message"), BROKEN_GRIDS.values(), ids=BROKEN_GRIDS)
def test_a_broken_grid_is_refused(methods, message):
    with pytest.raises(ContractError, match=re.escape(message)):
        check_environment(broken_grid(**methods))


BROKEN_GRAPHS = {
    "a cycle": (
        [[1, None], [2, None], [None, 1]],
        "the graph has a cycle: state 1 lies on it or behind it",
    ),
    "a state that leads to itself": (
        [[1, None], [None, 1]],
        "the graph has a cycle: state 1 lies on it or behind it",
    ),
    "an island": (
        [[1, None], [None, None], [3, None], [None, 2]],
        "state 2 is listed but not reachable from the initial state",
    ),
    "two parents by one action": (
        [[1, 2], [3, None], [3, None], [None, None]],
        "back_step must undo step: action 0 in state 1 gave 2, expected 1",
    ),
    "a way back to the initial state": (
        [[1, None], [None, 0]],
        "backward_mask allows action 1 in the initial state 0, which must have no parents",
    ),
}


@pytest.mark.parametrize(("children", "message"), BROKEN_GRAPHS.values(), ids=BROKEN_GRAPHS)
def test_a_broken_graph_is_refused(children, message):
    env = Graph(children, stops=[True] * len(children), max_trajectory_length=5)
    with pytest.raises(ContractError, match=re.escape(message)):
        check_environment(env)


BROKEN_WORDS = {
    "back_step takes the wrong letter": (
        {"back_step": lambda self, s, a: s - tf.cast(s > 1, tf.int32)},
        "back_step must undo step: action 0 in state [0, 0, 0, 0, 0, 0] "
        "gave [1, 0, 0, 0, 0, 0], expected [0, 0, 0, 0, 0, 0]",
    ),
    "backward mask forgets the third letter": (
        {"backward_mask": lambda self, s: Words.backward_mask(self, s) & [True, True, False]},
        "backward_mask must allow what step did: action 2 in state [0, 0, 0, 0, 0, 0] "
        "gave False, expected True",
    ),
    "words of six letters cannot end": (
        {"forward_mask": lambda self, s: Words.forward_mask(self, s) & (s[:, -1:] == 0)},
        "forward_mask allows no action in state [1, 1, 1, 1,",
    ),
    "no reward for a word of five letters": (
        {
            "log_reward": lambda self, s: tf.where(
                self._length(s) == 5, tf.constant(-np.inf, tf.float64), Words.log_reward(self, s)
            )
        },
        "got -inf in state [1, 1, 1, 1,",
    ),
}


@pytest.mark.parametrize(("methods", "message"), BROKEN_WORDS.values(), ids=BROKEN_WORDS)
def test_a_broken_environment_without_a_list_is_refused(methods, message):
    with pytest.raises(ContractError, match=re.escape(message)):
        check_environment(type("BrokenWords", (Words,), methods)())


def test_a_length_too_short_is_refused_without_a_list():
    with pytest.raises(ContractError, match="max_trajectory_length is 5"):
        check_environment(type("BrokenWords", (Words,), {"max_trajectory_length": 5})())


def test_a_grid_too_large_to_list_keeps_the_contract():
    check_environment(HyperGrid(8, 10))


def test_only_environments_are_checked():
    with pytest.raises(TypeError, match="env must be an Environment, got 'grid'"):
        check_environment("grid")


@pytest.fixture(scope="module")
def diamond():
    """Two ways to state 3, and from there one to state 4; stop is not allowed at the start."""
    children = [[1, 2], [None, 3], [3, None], [4, None], [None, None]]
    return Graph(children, [False, True, True, True, True], max_trajectory_length=4)


def test_a_graph_whose_states_are_single_numbers(diamond):
    check_environment(diamond)
    assert evaluation.count_trajectories(diamond).tolist() == [1, 1, 1, 2, 2]
    rewards = np.exp([-np.inf, 0.5, 1, 1.5, 2])
    np.testing.assert_allclose(diamond.target(), rewards / rewards.sum(), rtol=1e-12)
    agent = GFNAgent(diamond, hidden=(8,), learning_rate=0.03, log_z_learning_rate=0.03)
    data = agent.sample(100)
    assert data.states.shape == (100, 5)
    assert set(data.terminal.numpy()) == {1, 2, 3, 4}
    agent.train(data, epochs=400)
    learned = evaluation.terminating_distribution(agent)
    assert evaluation.l1_error(learned, rewards / rewards.sum()) < 0.02


def test_an_own_environment_that_is_no_grid_trains_to_a_small_exact_error():
    env = Subsets()
    check_environment(env)
    value = dict(enumerate(env.value))
    sets = [s for size in (2, 3) for s in itertools.combinations(range(5), size)]
    rewards = {s: np.exp(sum(value[i] for i in s) + 1.5 * ({1, 3} <= set(s))) for s in sets}
    z = sum(rewards.values())
    expected = [
        rewards.get(tuple(np.flatnonzero(state)), 0.0) / z for state in env.states().numpy()
    ]
    np.testing.assert_allclose(env.target(), expected, rtol=1e-12)
    agent = GFNAgent(env, hidden=(16,))
    agent.train(iterations=1500, decay="linear")
    learned = evaluation.terminating_distribution(agent)
    # Eight seeds ended between 0.002 and 0.019.
    assert evaluation.l1_error(learned, expected) < 0.02
    assert float(agent.log_z) == pytest.approx(np.log(z), abs=0.02)


def test_an_environment_that_agents_cannot_use_is_refused():
    @dataclasses.dataclass
    class AdjustableWords(Words):
        bonus: float = 1.0

    with pytest.raises(ContractError, match="hash"):
        check_environment(AdjustableWords())


def test_an_environment_with_a_setting_that_has_no_hash_is_refused():
    @dataclasses.dataclass(frozen=True)
    class WeightedWords(Words):
        weights: list

    with pytest.raises(ContractError, match="hash"):
        check_environment(WeightedWords([1.0, 2.0]))


def test_an_environment_contains_the_states_that_it_lists():
    env = Subsets()
    inside = env.contains(np.array([[0, 0, 0, 0, 0], [1, 1, 0, 1, 1], [0, 2, 0, 0, 0]]))
    assert inside.tolist() == [True, False, False]
    assert env.contains(env.members).all()


def test_states_asked_for_may_be_a_tensor():
    assert Subsets().contains(Subsets().states()).all()


def test_exact_answers_ask_only_for_moves_that_are_allowed():
    class StrictSubsets(Subsets):
        def step(self, states, actions):
            # A forbidden move gives an entry of 2, which `index` rightly knows nothing of.
            return states + tf.one_hot(actions, 5, dtype=tf.int32)

    check_environment(StrictSubsets())
    ways = evaluation.count_trajectories(StrictSubsets())
    np.testing.assert_array_equal(ways, evaluation.count_trajectories(Subsets()))


def test_an_own_environment_without_a_list_trains():
    env = Words()
    check_environment(env)
    agent = GFNAgent(env, hidden=(16,), gamma=0.2, log_z_learning_rate=0.1)
    history = agent.train(iterations=1000, decay="linear")
    assert len(history.l1_error) == 0
    assert np.isfinite(history.loss).all()
    assert history.loss[-100:].mean() < 0.01 * history.loss[:10].mean()
    words = [w for n in range(7) for w in itertools.product("abc", repeat=n)]
    doubles = [sum(a == b for a, b in itertools.pairwise(w)) for w in words]
    assert float(agent.log_z) == pytest.approx(np.log(np.exp(doubles).sum()), abs=0.1)
    with pytest.raises(ValueError, match=r"the states of .*Words.* cannot be listed"):
        evaluation.terminating_distribution(agent)


def test_an_environment_that_does_not_compile_is_refused():
    class NumpyWords(Words):
        def log_reward(self, states):
            return tf.constant(np.asarray(Words.log_reward(self, states)))

    with pytest.raises(ContractError, match="compile under XLA"):
        check_environment(NumpyWords())
