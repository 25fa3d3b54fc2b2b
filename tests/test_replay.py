"""The replay buffer: what it keeps, what it draws, and training that uses it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from gfn_utils import ReplayBuffer


def filled(log_rewards, capacity=100, **settings):
    """A buffer that holds the objects [0, 0], [1, 10], [2, 20], …"""
    buffer = ReplayBuffer(capacity, **settings)
    n = np.arange(len(log_rewards))
    buffer.add(np.stack([n, 10 * n], axis=1), log_rewards)
    return buffer


def contents(buffer):
    return buffer.objects.tolist(), buffer.log_rewards.tolist()


@given(
    st.integers(1, 6),
    st.lists(st.lists(st.tuples(st.integers(0, 8), st.floats(-700, 700)), max_size=9), max_size=6),
)
def test_a_buffer_holds_the_last_objects_each_with_its_last_reward(capacity, batches):
    buffer, expected = ReplayBuffer(capacity), []
    for batch in batches:
        buffer.add(np.array([[x, -x] for x, _ in batch]).reshape(-1, 2), [r for _, r in batch])
        for x, log_reward in batch:  # one by one, in a list: oldest first
            expected = [pair for pair in expected if pair[0] != x] + [(x, log_reward)]
            expected = expected[-capacity:]
    assert len(buffer) == len(expected)
    assert buffer.objects.reshape(-1, 2).tolist() == [[x, -x] for x, _ in expected]
    assert buffer.log_rewards.tolist() == [log_reward for _, log_reward in expected]


def test_objects_of_any_shape():
    for shape in [(), (3,), (2, 2)]:
        buffer = ReplayBuffer(5)
        objects = np.arange(4 * np.prod(shape, dtype=int)).reshape(4, *shape)
        buffer.add(objects, np.zeros(4))
        np.testing.assert_array_equal(buffer.objects, objects)
        assert buffer.objects.dtype == np.int32
        assert buffer.sample(7, seed=0)[0].shape == (7, *shape)


LOG_REWARDS = [-2.0, 0.0, 0.5, 1.0, 3.0]


@pytest.mark.parametrize("priority", [0.0, 0.5, 1.0, 2.0])
def test_objects_are_drawn_in_proportion_to_a_power_of_their_reward(priority):
    buffer = filled(LOG_REWARDS, priority=priority)
    power = [np.exp(log_reward) ** priority for log_reward in LOG_REWARDS]
    expected = np.array(power) / sum(power)
    np.testing.assert_allclose(buffer.probabilities, expected, rtol=1e-12)
    objects, log_rewards = buffer.sample(40_000, seed=5)
    np.testing.assert_array_equal(objects[:, 1], 10 * objects[:, 0])
    np.testing.assert_array_equal(log_rewards, np.array(LOG_REWARDS)[objects[:, 0]])
    # Fails once in 4,000 times over the four, were the seed not fixed.
    counts = np.bincount(objects[:, 0], minlength=5)
    assert chisquare(counts, 40_000 * expected).pvalue > 1e-3 / 16


@pytest.mark.parametrize("level", [-700.0, 700.0, -1e300, 1e300])
def test_rewards_beyond_all_floats_are_weighed_by_their_ratio(level):
    ratio = 1.0 if abs(level) > 1e10 else np.exp(0.5)  # 1e300 + 1 is 1e300
    buffer = filled([level, level + 1.0], priority=0.5)
    np.testing.assert_allclose(buffer.probabilities, [1 / (1 + ratio), ratio / (1 + ratio)])
    buffer = filled([-level, level], priority=2.0)
    np.testing.assert_array_equal(buffer.probabilities, [level < 0, level > 0])
    assert set(buffer.sample(50, seed=0)[1]) == {abs(level)}


def test_the_seed_decides_what_is_drawn():
    buffer = filled(np.linspace(0, 2, 50), priority=1.0)
    draws = [buffer.sample(30, seed) for seed in (0, 0, 1, np.random.default_rng(0))]
    same = [np.array_equal(draws[0][0], other[0]) for other in draws[1:]]
    assert same == [True, False, True]
    generator = np.random.default_rng(3)
    one, other = (buffer.sample(30, generator)[0] for _ in range(2))
    assert not np.array_equal(one, other)


def test_what_is_drawn_is_a_copy():
    buffer = filled([0.0, 1.0])
    objects, log_rewards = buffer.sample(4, seed=0)
    before = contents(buffer)
    objects[:], log_rewards[:] = 9, 9
    assert contents(buffer) == before


def test_a_buffer_comes_back_from_its_arrays_and_goes_on_alike():
    buffer = filled([1.0, 2.0, 3.0], capacity=4, priority=0.3, refresh=7)
    buffer.add([[0, 0]], [5.0])
    again = ReplayBuffer.from_arrays(buffer.to_arrays())
    assert repr(again) == repr(buffer) == "ReplayBuffer(4, priority=0.3, refresh=7, holding 3)"
    for each in (buffer, again):
        each.add([[8, 8], [9, 9]], [0.0, 1.0])
    assert contents(again) == contents(buffer)
    assert buffer.objects.tolist() == [[2, 20], [0, 0], [8, 8], [9, 9]]
    np.testing.assert_array_equal(again.sample(20, 1)[0], buffer.sample(20, 1)[0])


def test_an_empty_buffer_comes_back_and_has_nothing_to_draw():
    empty = ReplayBuffer.from_arrays(ReplayBuffer(3).to_arrays())
    assert len(empty) == 0
    assert len(empty.objects) == len(empty.log_rewards) == len(empty.probabilities) == 0
    with pytest.raises(ValueError, match="at least one object to draw from"):
        empty.sample(1, seed=0)


@pytest.mark.parametrize(
    ("settings", "error", "named"),
    [
        ({"capacity": 0}, ValueError, "capacity must be an integer of at least 1, got 0"),
        ({"capacity": 2.5}, TypeError, "capacity must be an integer"),
        ({"capacity": 5, "priority": -1}, ValueError, "priority must be finite and at least 0"),
        ({"capacity": 5, "priority": np.inf}, ValueError, "priority must be finite"),
        ({"capacity": 5, "refresh": 0}, ValueError, "refresh must be an integer of at least 1"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_settings_out_of_bounds_are_named(settings, error, named):
    with pytest.raises(error, match=named):
        ReplayBuffer(**settings)


@pytest.mark.parametrize(
    ("objects", "log_rewards", "error", "named"),
    [
        ([[1, 2]], [0.0, 0.0], ValueError, r"log_rewards must be of shape \[1\].*got shape \[2\]"),
        ([[1, 2]], 0.0, ValueError, r"log_rewards must be of shape \[1\].*got shape \[\]"),
        ([[1, 2]], [np.nan], ValueError, r"log_rewards must be finite.*nan at log_rewards\[0\]"),
        ([[1, 2]], [-np.inf], ValueError, "log_rewards must be finite.*-inf"),
        ([[1, 2], [3, 4]], [1, np.inf], ValueError, r"inf at log_rewards\[1\]"),
        ([[1, 2]], ["many"], TypeError, "log_rewards must be an array of numbers"),
        ([[1, 2, 3]], [0.0], ValueError, r"objects must be .* \[n, 2\], got shape \[1, 3\]"),
        (7, [0.0], ValueError, "objects must be an integer array"),
        ([[1.0, 2.0]], [0.0], TypeError, "objects must be an integer array"),
        ([[1, 2**40]], [0.0], ValueError, "objects must be .* of 32 bits"),
        ([["a", "b"]], [0.0], TypeError, "objects must be an array of numbers"),
    ],
    ids=itertools.count(),
)
def test_what_cannot_be_added_is_named_and_changes_nothing(objects, log_rewards, error, named):
    buffer = filled([1.0, 2.0])
    before = contents(buffer)
    with pytest.raises(error, match=named):
        buffer.add(objects, log_rewards)
    assert contents(buffer) == before


@pytest.mark.parametrize(
    ("n", "seed", "error"),
    [(-1, 0, ValueError), (1.5, 0, TypeError), (1, None, TypeError), (1, -1, ValueError)],
)
def test_a_sample_is_asked_for_with_a_number_and_a_seed(n, seed, error):
    with pytest.raises(error):
        filled([1.0]).sample(n, seed)
