"""The hypergrid: rewards, default figures, and the laws that hold on every grid."""

import dataclasses
import math
from fractions import Fraction

import brute_force
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from gfn_utils import HyperGrid, check_environment, evaluation
from gfn_utils.environments import PaintedGrid

SMALL_GRIDS = st.builds(HyperGrid, ndim=st.integers(1, 3), height=st.integers(4, 7))


@pytest.mark.parametrize("height", range(4, 14))
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_reward_is_the_formula_in_exact_fractions(ndim, height):
    env = HyperGrid(ndim, height)
    cells = brute_force.cells(ndim, height)
    expected = [math.log(brute_force.reward(cell, height)) for cell in cells]
    np.testing.assert_allclose(env.log_reward(env.states()), expected, rtol=1e-13)


def test_each_reward_parameter_goes_where_it_belongs():
    env = HyperGrid(2, 8, r0=0.2, r1=3.0, r2=70.0)
    reward = np.exp(env.log_reward(tf.constant([[3, 3], [0, 0], [0, 1], [1, 1]])))
    np.testing.assert_allclose(reward, [0.2, 3.2, 3.2, 73.2], rtol=1e-13)


def test_comparisons_that_fall_on_a_bound_at_height_11():
    # |x/10 − ½| is exactly 0.4 at x = 1 (a mode: ≤ 0.4) and exactly 0.3 at x = 2 (none: 0.3 <).
    assert abs(Fraction(1, 10) - Fraction(1, 2)) == Fraction(2, 5)
    env = HyperGrid(1, 11, r0=0.25, r1=0.25, r2=0.5)
    reward = np.exp(env.log_reward(env.states()))
    expected = [0.5, 1, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0.5, 1, 0.5]
    np.testing.assert_allclose(reward, expected, rtol=1e-13)


def test_default_grid_is_the_one_of_the_course():
    env = HyperGrid()
    assert dataclasses.asdict(env) == {"ndim": 2, "height": 8, "r0": 0.01, "r1": 0.5, "r2": 1.0}
    assert (env.n_states, env.n_actions, env.max_trajectory_length) == (64, 3, 15)
    reward = np.exp(env.log_reward(env.states()))
    modes = env.states().numpy()[reward > 1].tolist()
    assert modes == [[1, 1], [1, 6], [6, 1], [6, 6]]
    np.testing.assert_allclose(reward.max(), 1.51, rtol=1e-13)
    assert round(env.log_partition(), 4) == 2.5369


@pytest.mark.parametrize(("ndim", "height"), [(1, 9), (2, 8), (3, 5)])
def test_target_and_log_partition_against_exact_sums(ndim, height):
    env = HyperGrid(ndim, height)
    rewards = [brute_force.reward(cell, height) for cell in brute_force.cells(ndim, height)]
    z = sum(rewards)
    np.testing.assert_allclose(env.target(), [float(r / z) for r in rewards], rtol=1e-12)
    assert env.target().sum() == pytest.approx(1, abs=1e-14)
    assert env.log_partition() == pytest.approx(math.log(z), abs=1e-12)


@pytest.mark.parametrize(("ndim", "height"), [(1, 9), (2, 8), (3, 5)])
def test_masks_and_steps_are_those_of_the_enumerated_grid(ndim, height):
    env = HyperGrid(ndim, height)
    cells, states = brute_force.cells(ndim, height), env.states()
    assert states.numpy().tolist() == [list(cell) for cell in cells]
    forward, backward = env.forward_mask(states).numpy(), env.backward_mask(states).numpy()
    assert forward[:, env.stop_action].all()
    for action in range(ndim):
        actions = tf.fill([env.n_states], action)
        there, back = env.step(states, actions).numpy(), env.back_step(states, actions).numpy()
        for row, cell in enumerate(cells):
            children, parents = brute_force.children(cell, height), brute_force.parents(cell)
            assert forward[row, action] == (action in children)
            assert backward[row, action] == (action in parents)
            if action in children:
                assert tuple(there[row]) == children[action]
            if action in parents:
                assert tuple(back[row]) == parents[action]


@given(SMALL_GRIDS)
@settings(max_examples=10)  # each compiles its methods
def test_every_grid_keeps_the_contract(env):
    check_environment(env)  # raises ContractError otherwise: see test_environment_contract.py


@given(SMALL_GRIDS)
def test_index_inverts_states(env):
    np.testing.assert_array_equal(env.index(env.states()), np.arange(env.height**env.ndim))
    assert len(np.unique(env.states(), axis=0)) == env.height**env.ndim


@given(SMALL_GRIDS, st.data())
def test_step_and_back_step_undo_each_other(env, data):
    states = env.states()
    actions = tf.constant(
        data.draw(
            st.lists(st.integers(0, env.ndim - 1), min_size=env.n_states, max_size=env.n_states)
        ),
        tf.int32,
    )
    there = env.step(states, actions)
    assert np.abs(there - states).sum(axis=1).tolist() == [1] * env.n_states
    np.testing.assert_array_equal(env.back_step(there, actions), states)
    np.testing.assert_array_equal(env.step(env.back_step(states, actions), actions), states)


@given(SMALL_GRIDS)
def test_stop_and_padding_move_nothing(env):
    states = env.states()
    stop, padding = (tf.fill([env.n_states], action) for action in (env.stop_action, -1))
    np.testing.assert_array_equal(env.step(states, stop), states)
    np.testing.assert_array_equal(env.step(states, padding), states)
    np.testing.assert_array_equal(env.back_step(states, padding), states)


@given(SMALL_GRIDS)
def test_encoding_is_one_hot_along_each_axis(env):
    features = env.encode(env.states()).numpy()
    assert features.shape == (env.n_states, env.ndim * env.height)
    by_axis = features.reshape(env.n_states, env.ndim, env.height)
    assert set(np.unique(features)) == {0.0, 1.0}
    assert (features.sum(axis=1) == env.ndim).all()
    np.testing.assert_array_equal(by_axis.argmax(axis=2), env.states())


@pytest.mark.parametrize(
    "method",
    [
        lambda env, states, actions: env.initial_states(5),
        lambda env, states, actions: env.forward_mask(states),
        lambda env, states, actions: env.backward_mask(states),
        lambda env, states, actions: env.step(states, actions),
        lambda env, states, actions: env.back_step(states, actions),
        lambda env, states, actions: env.encode(states),
        lambda env, states, actions: env.index(states),
        lambda env, states, actions: env.states(),
    ],
    ids=lambda method: method.__code__.co_names[-1],
)
def test_compiled_methods_equal_eager_ones(method):
    env = HyperGrid(3, 5)
    states = env.states()
    actions = tf.constant(np.arange(env.n_states) % (env.n_actions + 1) - 1, tf.int32)
    eager = method(env, states, actions)
    compiled = tf.function(method, jit_compile=True)(env, states, actions)
    assert compiled.dtype == eager.dtype
    np.testing.assert_array_equal(compiled, eager)


def test_compiled_log_reward_equals_eager():
    env = HyperGrid(3, 11)
    eager = env.log_reward(env.states())
    compiled = tf.function(env.log_reward, jit_compile=True)(env.states())
    assert compiled.dtype == eager.dtype == tf.float64
    # XLA has a logarithm of its own; no cell may change its reward.
    np.testing.assert_allclose(compiled, eager, rtol=1e-14)


def test_a_grid_is_a_value():
    assert HyperGrid(2, 5) == HyperGrid(2, 5)
    assert hash(HyperGrid(2, 5)) == hash(HyperGrid(2, 5))
    assert HyperGrid(2, 5) != HyperGrid(2, 5, r2=2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        HyperGrid().height = 9


def test_a_grid_contains_its_cells_and_no_others():
    env = HyperGrid(2, 5)
    assert env.contains(env.states().numpy()).tolist() == [True] * 25
    assert env.contains(np.array([[0, 5], [-1, 0], [4, 4], [7, -3]])).tolist() == [0, 0, 1, 0]


def test_a_grid_too_large_to_list_says_so():
    with pytest.raises(ValueError, match=r"has 10\^8 states, which cannot be listed"):
        HyperGrid(8, 10).states()


def test_no_number_is_given_to_a_cell_of_a_grid_too_large_to_list():
    env = HyperGrid(9, 11)  # 11⁹ is more than an int32 holds
    for look_up in (lambda: env.index([[10] * 9]), lambda: HyperGrid(5000, 8).states()):
        with pytest.raises(ValueError, match=r"\^.* states, which cannot be listed"):
            look_up()
    for question in (
        lambda: evaluation.empirical_distribution(env, [[10] * 9]),
        lambda: evaluation.is_mode(HyperGrid(6, 16)),
    ):
        with pytest.raises(ValueError, match="list"):
            question()


# No cell between the bounds of the mode (height 4 to 6), one, two, and on a bound (11); rewards
# that leave modes, corners, all cells, and differences too small to count.
@pytest.mark.parametrize(
    ("ndim", "height"),
    [(1, 4), (2, 4), (3, 4), (2, 6), (2, 7), (3, 8), (1, 11), (2, 11), (2, 12), (2, 20)],
)
def test_modes_by_the_rule_are_the_listed_cells_of_highest_reward(ndim, height):
    cells = brute_force.cells(ndim, height)
    for r1, r2 in ((0.5, 1.0), (0.5, 0.0), (0.0, 2.0), (0.0, 0.0), (0.5, 1e-12), (1e-12, 1e-12)):
        env = HyperGrid(ndim, height, r1=r1, r2=r2)
        rewards = [float(brute_force.reward(cell, height, r1=r1, r2=r2)) for cell in cells]
        highest = max(rewards)
        expected = [reward > highest * (1 - 1e-9) for reward in rewards]
        assert env.is_mode(env.states()).tolist() == expected
        np.testing.assert_array_equal(evaluation.is_mode(env), expected)
        assert env.n_modes == sum(expected)


def test_a_subclass_with_another_reward_has_other_modes():
    class Ramp(HyperGrid):
        def log_reward(self, states):
            return tf.cast(tf.reduce_max(states, axis=-1), tf.float64)

    env = Ramp(2, 5)
    assert env.is_mode([[4, 0], [4, 4], [3, 3]]).tolist() == [True, True, False]
    assert env.n_modes == 9
    with pytest.raises(ValueError, match="cannot be listed"):
        evaluation.modes_found(Ramp(9, 11), [[0] * 9])


def test_modes_are_found_where_nothing_can_be_listed():
    env = HyperGrid(9, 11)  # modes have 1 or 9 along each axis: 10 · |x/10 − ½| = 4
    modes = np.where(np.arange(9) < np.arange(4)[:, None], 9, 1)
    near = modes + (np.arange(9) == 8)
    assert env.n_modes == 2**9
    assert env.is_mode(np.concatenate([modes, near])).tolist() == [True] * 4 + [False] * 4
    assert evaluation.modes_found(env, np.concatenate([modes, near, modes])) == 4
    assert evaluation.modes_found(env, near) == 0
    assert HyperGrid(6, 20).n_modes == 2**6 * 2**6
    with pytest.raises(ValueError, match=r"terminal\[0\] must be a state"):
        evaluation.modes_found(env, [[11] * 9])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"r1": 1e308, "r2": 1e308}, r"r0 \+ r1 \+ r2, the highest reward, must be finite, got"),
        ({"r0": 0.0}, "r0 must be finite and above 0, got 0.0"),
        ({"r0": True}, "r0 must be a number, got True"),
        ({"r2": -1}, "r2 must be finite and at least 0, got -1"),
        ({"r2": 10**400}, "r2 must be finite and at least 0, got 1000000"),
        ({"ndim": 2.0}, "ndim must be an integer of at least 1, got 2.0"),
        ({"height": 3}, "height must be an integer of at least 4, got 3"),
        ({"height": "8"}, "height must be an integer of at least 4, got '8'"),
        # 5 · (2·x − span) would overflow, and move the modes.
        ({"height": 10**9}, r"ndim · height, .* must be at most 1,000,000, got 2 · 1000000000"),
    ],
)
def test_sizes_and_rewards_out_of_bounds(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        HyperGrid(**arguments)


def test_numbers_of_numpy_are_numbers():
    env = HyperGrid(np.int64(2), np.array(5), r0=np.float32(0.5))
    assert env == HyperGrid(2, 5, r0=0.5)
    assert [type(each) for each in dataclasses.astuple(env)] == [int, int, float, float, float]


@pytest.mark.parametrize(
    "rewards",
    [
        None,
        "ab",
        [["1", "2"], ["3", "4"]],
        [[1, 2], [3]],
        [[1, np.nan], [1, 1]],
        [[1, 0], [1, 1]],
        [[True] * 2] * 2,
        [[1, 2, 3]] * 2,
        [[1]],
        [],
        {},
        [[1j, 1], [1, 1]],
        np.ones([2, 2, 2]),
    ],
    ids=repr,
)
def test_a_painting_that_is_none_is_refused(rewards):
    with pytest.raises((ValueError, TypeError), match="rewards must be"):
        PaintedGrid(rewards)


def test_a_painting_stays_as_it_was_made():
    rewards = np.ones([2, 2])
    env = PaintedGrid(rewards)
    rewards[0, 0] = 100
    np.testing.assert_allclose(env.target(), [0.25] * 4)
