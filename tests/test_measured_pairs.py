"""Training on objects with rewards that were measured: the environment is never asked."""

import numpy as np
import pytest
import tensorflow as tf
from own_environments import Words
from same_agents import assert_same
from small_jobs import CHUNK, GRID, WITHOUT_XLA, small_agent

from gfn_utils import GFNAgent, HyperGrid, evaluation

OBJECTS = np.asarray(GRID.states())
LOG_REWARDS = np.asarray(GRID.log_reward(GRID.states()))
JOB = {"epochs": 8, "batch_size": 6, "chunk": CHUNK}


class Unpaid(HyperGrid):
    """A grid that nobody may ask for a reward."""

    def log_reward(self, states):
        raise AssertionError("the environment was asked for a reward")


class UnpaidWords(Words):
    """States that are not listed: nobody may ask for a reward either."""

    log_reward = Unpaid.log_reward


class UnpaidInPython(Unpaid):
    """As if a laboratory had to be asked."""

    python_reward = True


@WITHOUT_XLA
@pytest.mark.parametrize("objective", ["trajectory_balance", "log_variance"])
def test_pairs_of_the_true_rewards_train_as_the_environment_does(objective):
    asked, measured = small_agent(), small_agent()
    expected = asked.train(OBJECTS, objective=objective, track_error=False, **JOB)
    history = measured.train(OBJECTS, LOG_REWARDS, objective=objective, **JOB)
    # Rewards come in as an argument where they were looked up: the same numbers.
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-12)
    np.testing.assert_allclose(history.log_z, expected.log_z, rtol=1e-12)
    assert len(history.l1_error) == 0


@WITHOUT_XLA
@pytest.mark.parametrize("kind", [Unpaid, UnpaidInPython])
def test_measured_pairs_ask_no_reward_of_a_listed_environment(kind):
    agent = GFNAgent(kind(2, 4), hidden=(8,))
    agent.train(OBJECTS, LOG_REWARDS, **JOB)
    expected = small_agent()
    expected.train(OBJECTS, LOG_REWARDS, **JOB)
    assert_same(agent, expected)
    with pytest.raises(ValueError, match="track_error must be False or None with log_rewards"):
        agent.train(OBJECTS, LOG_REWARDS, track_error=True, **JOB)


@WITHOUT_XLA
def test_measured_pairs_ask_no_reward_where_states_are_not_listed():
    agent = GFNAgent(UnpaidWords(), hidden=(8,))
    objects = np.array([[1, 2, 0, 0, 0, 0], [3, 3, 3, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    history = agent.train(objects, [1.0, 2.0, 0.5], epochs=40, batch_size=2, chunk=10)
    assert history.loss[-1] < history.loss[0]


@WITHOUT_XLA
def test_where_no_reward_is_known_nan_is_an_answer(tmp_path):
    class Unknown(HyperGrid):
        def log_reward(self, states):
            return tf.fill(tf.shape(states)[:1], tf.constant(np.nan, tf.float64))

    agent = GFNAgent(Unknown(2, 4), hidden=(8,))
    agent.train(OBJECTS, LOG_REWARDS, **JOB)
    assert np.isnan(agent.sample(3).log_reward).all()
    agent.save(tmp_path / "agent.npz")
    assert_same(GFNAgent.load(tmp_path / "agent.npz", env=Unknown(2, 4)), agent)


def test_a_measured_table_is_learned():
    # Not the grid's own reward, so that it can come from nowhere else.
    log_rewards = np.random.default_rng(0).normal(0, 1.5, len(OBJECTS)) + 20
    agent = GFNAgent(Unpaid(2, 4), seed=1)
    agent.train(OBJECTS, log_rewards, epochs=600)
    target = np.exp(log_rewards - 20)
    learned = evaluation.terminating_distribution(agent)
    assert np.abs(learned - target / target.sum()).sum() < 0.02
    assert float(agent.log_z) == pytest.approx(20 + np.log(target.sum()), abs=0.02)


@WITHOUT_XLA
def test_repeated_measurements_count_as_their_mean_in_log_r():
    rng = np.random.default_rng(3)
    objects = OBJECTS[rng.integers(len(OBJECTS), size=60)]
    log_rewards = rng.normal(size=60)
    distinct = [x for x in OBJECTS.tolist() if x in objects.tolist()]
    means = [
        np.mean([r for other, r in zip(objects.tolist(), log_rewards, strict=True) if other == x])
        for x in distinct
    ]
    assert len(distinct) < 60
    agent, expected = small_agent(), small_agent()
    history = agent.train(objects, log_rewards, **JOB)
    np.testing.assert_allclose(
        history.loss, expected.train(distinct, means, **JOB).loss, rtol=1e-10
    )


@pytest.mark.parametrize(
    ("log_rewards", "error", "named"),
    [
        ([0.0, np.nan], ValueError, r"log_rewards must be finite, in nats, got nan at .*\[1\]"),
        ([np.inf, 0.0], ValueError, r"log_rewards must be finite.*inf at log_rewards\[0\]"),
        ([0.0, -np.inf], ValueError, "log_rewards must be finite.*-inf"),
        ([0.0], ValueError, r"log_rewards must be of shape \[2\].*got shape \[1\]"),
        ([[0.0, 1.0]], ValueError, r"log_rewards must be of shape \[2\]"),
        (1.0, ValueError, r"log_rewards must be of shape \[2\]"),
        (["a", "b"], TypeError, "log_rewards must be an array of numbers"),
    ],
)
def test_rewards_that_are_none_are_named(log_rewards, error, named):
    agent, untouched = small_agent(), small_agent()
    with pytest.raises(error, match=named):
        agent.train([[0, 0], [1, 1]], log_rewards, epochs=1)
    assert_same(agent, untouched)


def test_rewards_come_with_their_objects():
    agent = small_agent()
    with pytest.raises(ValueError, match="log_rewards must come with the objects"):
        agent.train(log_rewards=[1.0], iterations=3)
    with pytest.raises(ValueError, match="log_rewards must come with objects, and data is Traj"):
        agent.train(agent.sample(2), [1.0, 1.0], epochs=1)


@WITHOUT_XLA
def test_a_run_on_pairs_resumes_where_it_stopped(tmp_path):
    whole, stopped = small_agent(), small_agent()
    whole.train(OBJECTS, LOG_REWARDS, **JOB)
    stopped.train(OBJECTS, LOG_REWARDS, **JOB, callback=lambda progress: progress.done >= CHUNK)
    assert stopped.iteration == CHUNK
    stopped.save(tmp_path / "agent.npz")
    loaded = GFNAgent.load(tmp_path / "agent.npz")
    loaded.train(OBJECTS, LOG_REWARDS, **JOB, resume_from=CHUNK)
    assert_same(loaded, whole)


@WITHOUT_XLA
def test_rewards_may_be_tensors_and_integers():
    agent, same = small_agent(), small_agent()
    agent.train(tf.constant(OBJECTS), tf.range(len(OBJECTS)), **JOB)
    same.train(OBJECTS.tolist(), list(range(len(OBJECTS))), **JOB)
    assert_same(agent, same)
