"""check_environment: what it refuses and in which words, and own environments that it accepts."""

import dataclasses
import itertools
import re
import warnings

import numpy as np
import pytest
import tensorflow as tf
from own_environments import Graph, Subsets, Words
from small_jobs import ON_POLICY, WITHOUT_XLA

from gfn_utils import Environment, GFNAgent, HyperGrid, check_environment, evaluation
from gfn_utils.environments import ContractError, check_attributes
from gfn_utils.environments.base import check_any_states, check_states


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
    "an initial state that is not listed": (
        {
            "initial_states": lambda self, n: tf.fill([n, 2], 7),
            "backward_mask": lambda self, s: (
                HyperGrid.backward_mask(self, s) & ~at(s, 7, 7)[:, None]
            ),
        },
        "the initial state [7, 7] is not listed",
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
        "backward_mask must be bool [2, 2], got bool [2, 3]",
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
        "encode must give finite features [B, ...], got float32 [16, 8] for B = 16",
    ),
    "features of another shape": (
        {"encode": lambda self, s: tf.cast(s[:, 0], tf.float32)},
        "encode must give finite features [B, ...], got float32 [16] for B = 16",
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


class Hidden(HyperGrid):
    """A grid that does not list its states."""

    n_states = None


def with_noise(self, states):
    return HyperGrid.log_reward(self, states) + tf.random.normal(
        [tf.shape(states)[0]], dtype="double"
    )


CRASH_IN_USE = {
    "initial states made with NumPy": (
        {"initial_states": lambda self, n: np.zeros([n, 2], np.int32)},
        "initial_states must be made of TensorFlow operations",
    ),
    "initial states made of lists": (
        {"initial_states": lambda self, n: tf.constant([[0, 0]] * n)},
        "initial_states must be made of TensorFlow operations",
    ),
    "a mask that reads the number of states": (
        {
            "forward_mask": lambda self, s: tf.concat(
                [tf.convert_to_tensor(s) < 3, tf.fill([s.shape[0], 1], True)], axis=1
            )
        },
        "forward_mask must be made of TensorFlow operations that compile under XLA, for any "
        "number of states (`tf.shape(states)[0]`, not `states.shape[0]`",
    ),
    "a mask that branches in Python": (
        {
            "backward_mask": lambda self, s: (
                HyperGrid.backward_mask(self, s)
                if tf.reduce_max(s) > -1
                else tf.zeros_like(s, tf.bool)
            )
        },
        "backward_mask must be made of TensorFlow operations",
    ),
    "a step whose shape is lost": (
        {
            "step": lambda self, s, a: tf.numpy_function(
                lambda s, a: s + np.eye(3, 2, dtype=np.int32)[a], [s, a], tf.int32
            )
        },
        "a loop of steps must be made of TensorFlow operations",
    ),
    "settings that JSON cannot hold": (
        {"settings": lambda self: {"table": np.ones(3)}},
        "settings of BrokenGrid must be a dict that JSON can hold",
    ),
    "settings that change": (
        {"settings": lambda self: {"number": float(np.random.default_rng().random())}},
        "the same each time, or no agent of it could be saved and loaded: got {'number': 0.",
    ),
    "a list of states that does not compile": (
        {"states": lambda self: tf.numpy_function(HyperGrid(2, 4).states().numpy, [], tf.int32)},
        "states must be made of TensorFlow operations",
    ),
    "a reward that fails for a single state": (
        {"log_reward": lambda self, s: tf.squeeze(HyperGrid.log_reward(self, s)[:, None])},
        "log_reward must answer for a single state as for many: expected shape [1] for B = 1, "
        "got []",
    ),
    "a reward relative to the mean of the batch": (
        {
            "log_reward": lambda self, s: (
                HyperGrid.log_reward(self, s) - tf.reduce_mean(HyperGrid.log_reward(self, s))
            )
        },
        "log_reward must not depend on the other states of the batch: of state [0, 0] it says",
    ),
    "a reward that depends on the order of the batch": (
        {"log_reward": lambda self, s: tf.cumsum(HyperGrid.log_reward(self, s))},
        "log_reward must not depend on the other states of the batch",
    ),
    "a reward of the state opposite in the batch": (
        {"log_reward": lambda self, s: tf.reverse(HyperGrid.log_reward(self, s), [0])},
        "log_reward must not depend on the other states of the batch",
    ),
    "a mask that is no tensor": (
        {"backward_mask": lambda self, s: "abc"},
        "backward_mask must be bool [2, 2], got",
    ),
    "features that are no tensor": (
        {"encode": lambda self, s: None},
        "encode must give a tensor, got None",
    ),
    "hot features that are no tensor": (
        {"hot_features": lambda self, s: {}},
        "hot_features must give a tensor, got {}",
    ),
    "hot features that raise": (
        {"hot_features": lambda self, s: {}["features"]},
        "hot_features raised KeyError: 'features'",
    ),
    "a reward with noise": (
        {"log_reward": with_noise},
        "log_reward must not depend on chance: of state [0, 0] it says",
    ),
    "features relative to the batch": (
        {
            "hot_features": lambda self, s: None,
            "encode": lambda self, s: (
                HyperGrid.encode(self, s) / tf.cast(tf.shape(s)[0], tf.float32)
            ),
        },
        "encode must not depend on the other states of the batch",
    ),
    "a method that raises": (
        {"encode": lambda self, s: tf.one_hot(s, 4) @ tf.ones([3, 3])},
        "encode raised InvalidArgumentError",
    ),
    "states that a method of its own denies": (
        {"contains": lambda self, s: np.asarray(s)[:, 0] > 0},
        "contains denies state [0, 0]",
    ),
}


@pytest.mark.parametrize(("methods", "message"), CRASH_IN_USE.values(), ids=CRASH_IN_USE)
def test_what_would_fail_in_use_is_refused(methods, message):
    with pytest.raises(ContractError, match=re.escape(message)):
        check_environment(broken_grid(**methods))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n_actions": np.int64(3)}, "n_actions of BrokenGrid must be an int of at least 2, got"),
        ({"n_actions": 3.0}, "n_actions of BrokenGrid must be an int of at least 2, got 3.0"),
        ({"n_actions": 1}, "n_actions of BrokenGrid must be an int of at least 2, got 1"),
        ({"max_trajectory_length": 8.0}, "max_trajectory_length .* an int of at least 1, got 8.0"),
        ({"max_trajectory_length": True}, "max_trajectory_length .*, got True"),
        ({"n_states": 16.0}, "n_states of BrokenGrid must be an int of at least 1, got 16.0"),
        ({"state_shape": 2}, r"state_shape of BrokenGrid must be a tuple of ints .*, got 2"),
        ({"state_shape": [2]}, r"state_shape of BrokenGrid must be a tuple of ints .*, got \[2\]"),
        ({"state_shape": (2.0,)}, r"state_shape of BrokenGrid .*, got \(2.0,\)"),
        ({"state_shape": (np.int64(2),)}, "state_shape of BrokenGrid .*, got"),
    ],
)
def test_sizes_that_are_no_ints_are_named(sizes, message):
    for check in (check_environment, check_attributes):
        with pytest.raises(ContractError, match=message):
            check(broken_grid(**sizes))


def test_a_size_that_is_missing_is_named():
    class Nameless(Words):
        @property
        def n_actions(self):
            raise AttributeError

    with pytest.raises(ContractError, match="n_actions of Nameless must be an int"):
        check_attributes(Nameless())


@WITHOUT_XLA
def test_an_upper_bound_on_the_length_will_do():
    bounded = broken_grid(max_trajectory_length=20)
    check_environment(bounded)
    np.testing.assert_allclose(
        evaluation.count_trajectories(bounded), evaluation.count_trajectories(HyperGrid(2, 4))
    )
    agent = GFNAgent(bounded, hidden=(8,))
    assert agent.sample(10).actions.shape == (10, 20)
    agent.sample_backward([[3, 3], [0, 0]])
    agent.train(**ON_POLICY)
    assert evaluation.terminating_distribution(agent).sum() == pytest.approx(1)


def test_states_with_one_encoding_are_named_in_a_warning():
    def encode(self, states):  # sees the sum of the coordinates alone
        return tf.one_hot(tf.reduce_sum(states, axis=1), 7)

    env = broken_grid(encode=encode, hot_features=lambda self, s: None)
    with pytest.warns(UserWarning, match=r"states \[0, 1\] and \[1, 0\] the same features"):
        check_environment(env)


def test_a_reward_in_place_of_its_logarithm_is_suspected():
    env = HyperGrid(2, 4, r0=10, r1=1500, r2=0)
    mistaken = broken_grid(log_reward=lambda self, s: tf.exp(env.log_reward(s)))
    with pytest.warns(UserWarning, match="goes from 10 to 1510 nats.* not its logarithm"):
        check_environment(mistaken)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_environment(env)
        check_environment(
            broken_grid(log_reward=lambda self, s: 1e4 - 1e3 * env.log_reward(s) ** 3)
        )


def test_the_report_says_how_much_was_checked():
    checked = check_environment(HyperGrid(2, 4))
    assert checked == (16, 24, 16)  # 3 × 4 moves along each axis
    assert str(checked) == repr(checked) == "the contract is kept: all 16 states, 24 moves"
    some = check_environment(HyperGrid(8, 10))
    assert some.of_states is None
    assert some.n_states > 10_000
    assert "as far as it was tried" in str(some)


CORNERS = [corner for corner in itertools.product([0, 9], repeat=4) if 0 < sum(corner) < 36]


@pytest.mark.parametrize("corner", CORNERS, ids=str)
def test_one_wrong_corner_is_found_though_the_states_are_not_listed(corner):
    class WrongInOneCorner(Hidden):
        def log_reward(self, states):
            log_reward = super().log_reward(states)
            return tf.where(at(states, *corner), tf.constant(np.nan, tf.float64), log_reward)

    with pytest.raises(ContractError, match=re.escape(f"got nan in state {list(corner)}")):
        check_environment(WrongInOneCorner(4, 10))


def test_a_state_that_only_the_way_back_comes_to_is_checked():
    # Up only from the far right, but back down from anywhere: no walk forward is at [8, 5].
    class OneWay(Hidden):
        def forward_mask(self, states):
            first_done = states[:, :1] == self.height - 1
            mask = super().forward_mask(states)
            return tf.concat([mask[:, :1], mask[:, 1:2] & first_done, mask[:, 2:]], axis=1)

    with pytest.raises(ContractError, match="forward_mask must allow what back_step undid"):
        check_environment(OneWay(2, 10))


class TwoDoors(Environment):
    """A line of four states; action 0 and action 1 both lead to the next, action 2 is stop."""

    state_shape, n_actions, max_trajectory_length, n_states = (), 3, 4, 4

    def initial_states(self, batch_size):
        return tf.zeros([batch_size], tf.int32)

    def forward_mask(self, states):
        moves = states < 3
        return tf.stack([moves, moves, tf.ones_like(moves)], axis=1)

    def backward_mask(self, states):
        return tf.stack([tf.convert_to_tensor(states) > 0] * 2, axis=1)

    def step(self, states, actions):
        return states + tf.cast((actions == 0) | (actions == 1), tf.int32)

    def back_step(self, states, actions):
        return states - tf.cast((actions == 0) | (actions == 1), tf.int32)

    def encode(self, states):
        return tf.one_hot(states, 4)

    def log_reward(self, states):
        return tf.math.log(1.0 + tf.cast(states, tf.float64))

    def states(self):
        return tf.range(4)

    def index(self, states):
        return tf.identity(states)


def test_two_actions_with_one_child_are_two_edges():
    env = TwoDoors()
    check_environment(env)
    assert evaluation.count_trajectories(env).tolist() == [1, 2, 4, 8]
    log_pb = np.log([[1e-300, 1e-300], [0.5, 0.5], [0.2, 0.8], [0.7, 0.3]])
    log_pb[0] = -np.inf
    key, log_z = evaluation.answer_key(env, log_pb)
    assert log_z == pytest.approx(np.log(10))
    # R = 1, 2, 3, 4: of what leaves state 1, 2 units stop and 7 go on, by the doors as P_B says.
    np.testing.assert_allclose(np.exp(key.log_pf[1]), [0.2 * 7 / 9, 0.8 * 7 / 9, 2 / 9])
    learned = evaluation.terminating_distribution(key)
    np.testing.assert_allclose(learned, [0.1, 0.2, 0.3, 0.4], rtol=1e-12)
    for objective in ("trajectory_balance", "flow_matching"):
        agent = GFNAgent(env, hidden=(16,), gamma=0.1)
        agent.train(iterations=1500, decay="linear", objective=objective)
        learned = evaluation.terminating_distribution(agent)
        assert evaluation.l1_error(learned, [0.1, 0.2, 0.3, 0.4]) < 0.02


class Tabled(HyperGrid):
    """A plain subclass with a table of its own, which is no field."""

    def __init__(self, table, **sizes):
        super().__init__(**sizes)
        object.__setattr__(self, "table", np.asarray(table))

    def log_reward(self, states):
        return tf.gather(self.table, self.index(states))


def test_environments_are_equal_by_identity_unless_their_own_class_is_a_dataclass():
    one, other = Tabled(np.zeros(16), height=4), Tabled(np.ones(16), height=4)
    assert one == one
    assert one != other
    assert len({one, other}) == 2
    assert one.settings() != HyperGrid(height=4).settings()
    assert one.settings()["table"] == "float64 [16]"
    assert one.graph_key() != other.graph_key()
    assert HyperGrid(r0=1).graph_key() == HyperGrid(r0=2).graph_key()
    assert Words() != Words()
    assert HyperGrid(2, 5) == HyperGrid(2, 5)
    assert hash(HyperGrid(2, 5)) == hash(HyperGrid(2, 5))

    @dataclasses.dataclass(frozen=True)
    class Bonus(HyperGrid):
        bonus: float = 1.0

    assert Bonus(bonus=2.0) == Bonus(bonus=2.0)
    assert hash(Bonus(bonus=2.0)) == hash(Bonus(bonus=2.0))
    assert Bonus(bonus=2.0) != Bonus(bonus=3.0)
    assert Bonus() != HyperGrid()
    assert type("Plain", (Bonus,), {})() != type("Plain", (Bonus,), {})()


def test_states_that_no_table_knows_are_no_states():
    env = Subsets()
    inside = env.contains(
        np.array([[0, 0, 0, 0, 0], [9, 9, 9, 9, 9], [1, 1, 0, 1, 1], [0, 1, 0, 0, 0]])
    )
    assert inside.tolist() == [True, False, False, True]
    for check in (check_states, check_any_states):
        with pytest.raises(
            ValueError, match=r"states\[1\] must be a state of .*, got \[9, 9, 9, 9, 9\]"
        ):
            check(env, [[1, 1, 0, 0, 0], [9] * 5], "states")
    with pytest.raises(ValueError, match=r"states\[0\] must be a state in which stop is allowed"):
        check_states(env, [[0] * 5], "states")
    assert check_any_states(env, [[0] * 5], "states").dtype == tf.int32
    assert check_any_states(env, np.zeros([0, 5], int), "states").shape == (0, 5)


@pytest.mark.parametrize(
    "states",
    [None, "ab", [["a"] * 5], [[0.5] * 5], [[True] * 5], {}, [[1, 2], [3]], Ellipsis, [[None] * 5]],
)
def test_what_are_no_states_is_said(states):
    for check in (check_states, check_any_states):
        with pytest.raises((TypeError, ValueError), match="states must be an integer array"):
            check(Subsets(), states, "states")


def test_states_in_a_program_are_taken_as_they_are():
    @tf.function
    def program(states):
        return check_any_states(Subsets(), states, "states")

    assert program(tf.zeros([2, 5], tf.int32)).shape == (2, 5)
