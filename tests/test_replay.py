"""The replay buffer: what it keeps, what it draws, and training that uses it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from same_agents import assert_same
from scipy.stats import chisquare
from small_jobs import GRID, WITHOUT_XLA, small_agent

from gfn_utils import GFNAgent, HyperGrid, ReplayBuffer, evaluation, runs, training


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


REFRESH = 5
JOB = {"iterations": 24, "batch_size": 6, "decay": "constant", "track_error": False}


class Recording(ReplayBuffer):
    """A buffer that writes down what is put in and what is drawn."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.calls = []

    def add(self, objects, log_rewards):
        super().add(objects, log_rewards)
        self.calls.append(("add", np.array(objects), np.array(log_rewards)))

    def sample(self, n, seed):
        drawn = super().sample(n, seed)
        self.calls.append(("sample", *drawn))
        return drawn


def small_buffer(**settings):
    """Smaller than the 16 objects of the grid, so that some go."""
    return ReplayBuffer(10, priority=1.0, refresh=REFRESH, **settings)


@WITHOUT_XLA
def test_each_round_draws_its_share_and_then_puts_in_what_it_sampled(monkeypatch):
    results = []
    make = training.CheckedChunk.__call__

    def spy(self, state, rates, n_updates, *others):
        result = make(self, state, rates, n_updates, *others)
        results.append([np.asarray(each)[: int(n_updates)] for each in result[3:5]])
        return result

    monkeypatch.setattr(training.CheckedChunk, "__call__", spy)
    buffer = Recording(10, refresh=REFRESH)
    history = small_agent().train(**JOB, replay=buffer)
    assert len(history.loss) == 24
    # An empty buffer first gets the objects of one batch; then 24 updates make rounds of 5.
    assert [name for name, *_ in buffer.calls] == ["add"] + ["sample", "add"] * 5
    filled, *rounds = buffer.calls
    assert filled[1].shape == (6, 2)
    drawn, added = rounds[::2], rounds[1::2]
    assert [len(log_rewards) for _, _, log_rewards in added] == [15] * 4 + [12]
    for (terminal, paid), (_, objects, log_rewards), (_, new, new_log_rewards) in zip(
        results, drawn, added, strict=True
    ):
        n = 3 * len(terminal)  # half of 6 in each update; the last round draws more than it needs
        np.testing.assert_array_equal(terminal[:, 3:].reshape(-1, 2), objects[:n])
        np.testing.assert_array_equal(paid[:, 3:].ravel(), log_rewards[:n])
        np.testing.assert_array_equal(terminal[:, :3].reshape(-1, 2), new)
        np.testing.assert_array_equal(paid[:, :3].ravel(), new_log_rewards)
        np.testing.assert_allclose(new_log_rewards, GRID.log_reward(new), rtol=1e-12)


@pytest.mark.parametrize(("share", "n"), [(0.1, 1), (0.5, 3), (0.6, 4), (0.9, 5)])
def test_a_share_is_rounded_to_whole_trajectories(share, n):
    plan = runs.plan_run(
        GRID, 0, iterations=4, batch_size=6, replay=ReplayBuffer(5), replay_share=share
    )
    assert (plan.n_given, plan.n_sampled) == (n, 6 - n)


@WITHOUT_XLA
def test_the_size_of_chunks_changes_no_result():
    done, agents, buffers = [], [], []
    for chunk in (1, 7, 100):
        agents.append(small_agent())
        buffers.append(small_buffer())
        done.append([])
        agents[-1].train(
            **JOB, replay=buffers[-1], chunk=chunk, callback=lambda p: done[-1].append(p.done)
        )
    assert done == [[5, 10, 15, 20, 24], [10, 20, 24], [24]]
    for agent, buffer in zip(agents[1:], buffers[1:], strict=True):
        assert_same(agent, agents[0])
        assert contents(buffer) == contents(buffers[0])


@WITHOUT_XLA
def test_a_run_with_a_buffer_goes_on_in_the_loaded_agent(tmp_path):
    whole, stopped = small_agent(), small_agent()
    whole.train(**JOB, replay=small_buffer())
    stopped.train(**JOB, replay=small_buffer(), chunk=10, callback=lambda progress: True)
    assert stopped.iteration == 10
    stopped.save(tmp_path / "agent.npz")
    loaded = GFNAgent.load(tmp_path / "agent.npz")
    assert contents(loaded.replay) == contents(stopped.replay)
    loaded.train(**JOB, replay=loaded.replay, resume_from=10)
    assert_same(loaded, whole)
    assert contents(loaded.replay) == contents(whole.replay)
    whole.reset()
    assert whole.replay is None


@WITHOUT_XLA
def test_stored_rewards_are_used_and_not_asked_again():
    class Laboratory(HyperGrid):
        """A reward in Python that counts how often it is asked."""

        python_reward = True

        def log_reward(self, states):
            asked.append(len(states))
            return np.asarray(GRID.log_reward(states))

    asked, agent, compiled = [], GFNAgent(Laboratory(2, 4), hidden=(8,)), small_agent()
    buffers = small_buffer(), small_buffer()
    history = agent.train(**JOB, replay=buffers[0])
    # The batch that fills the buffer, the sampled half of the first for log Z, and of each update.
    assert asked == [6, 3] + [3] * 24
    expected = compiled.train(**JOB, replay=buffers[1])
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-8)
    np.testing.assert_array_equal(buffers[0].objects, buffers[1].objects)
    np.testing.assert_allclose(buffers[0].log_rewards, buffers[1].log_rewards, rtol=1e-12)


def test_training_with_a_buffer_finds_the_target():
    agent = small_agent(seed=2, hidden=(16,))
    agent.train(iterations=1500, batch_size=12, replay=ReplayBuffer(100), track_error=False)
    learned = evaluation.terminating_distribution(agent)
    assert evaluation.l1_error(learned, GRID.target()) < 0.03


@WITHOUT_XLA
def test_a_run_that_diverges_leaves_the_buffer_as_it_was():
    agent, buffer = small_agent(learning_rate=1e12), Recording(10, refresh=REFRESH)
    with pytest.raises(FloatingPointError, match="not finite at iteration"):
        agent.train(**JOB, replay=buffer)
    assert agent.iteration == 0
    assert [name for name, *_ in buffer.calls] == ["add", "sample"]


def foreign():
    buffer = ReplayBuffer(3)
    buffer.add([[5, 5]], [0.0])
    return buffer


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"replay": 100}, TypeError, "replay must be a ReplayBuffer, got 100"),
        ({"replay": foreign()}, ValueError, r"replay.objects\[0\] must be a state of HyperGrid"),
        ({"replay_share": 0.0}, ValueError, "replay_share must leave at least one.*got 0"),
        ({"replay_share": 1}, ValueError, "replay_share must leave at least one.*got 1"),
        ({"replay_share": -0.5}, ValueError, "replay_share must be finite and at least 0"),
        ({"replay_share": "half"}, TypeError, "replay_share must be a number"),
        (
            {"data": GRID.states(), "epochs": 1, "iterations": None},
            ValueError,
            "replay goes with iterations",
        ),
    ],
    ids=itertools.count(),
)
def test_what_does_not_go_with_a_buffer_is_named(arguments, error, named):
    agent, untouched = small_agent(), small_agent()
    with pytest.raises(error, match=named):
        agent.train(**{**JOB, "replay": ReplayBuffer(5), **arguments})
    assert_same(agent, untouched)
    assert agent.replay is None


@pytest.mark.parametrize(
    "damage",
    [
        {"objects": np.array([[4, 0]], np.int32)},
        {"objects": np.array([[1, 2, 3]], np.int32)},
        {"log_rewards": np.array([np.nan])},
        {"log_rewards": np.array([0.0, 1.0])},
        {"settings": np.array([0.5, 0.0, 1.0])},
        {"settings": np.array([10.0, 0.0])},
        {"settings": None},
    ],
    ids=itertools.count(),
)
def test_a_file_with_a_damaged_buffer_is_refused(damage, tmp_path):
    agent, buffer = small_agent(), ReplayBuffer(10)
    buffer.add([[1, 2]], [0.5])
    arrays = {**buffer.to_arrays(), **damage}
    others = {f"replay_{name}": value for name, value in arrays.items() if value is not None}
    agent._write(tmp_path / "agent.npz", **others)
    with pytest.raises(ValueError, match="path must be a file that GFNAgent"):
        GFNAgent.load(tmp_path / "agent.npz")
