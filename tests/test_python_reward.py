"""Rewards in ordinary Python: the same training as with the same reward compiled."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from small_jobs import BOTH_WAYS, CHUNK, GRID, OFFLINE, ON_POLICY, WITHOUT_XLA

from gfn_utils import (
    GFNAgent,
    HyperGrid,
    LeftToRightSequences,
    check_environment,
    evaluation,
)
from gfn_utils.baselines import metropolis_hastings, train_ppo
from gfn_utils.environments.contract import ContractError
from gfn_utils.environments.log_rewards import log_rewards_of

LOG_REWARDS = np.asarray(GRID.log_reward(GRID.states())).reshape(4, 4)


@dataclasses.dataclass(frozen=True)
class PythonGrid(HyperGrid):
    """The grid of small_jobs, whose reward is NumPy's. It notes what it is asked."""

    ndim: int = 2
    height: int = 4
    fails_at: int | None = dataclasses.field(default=None, compare=False)
    calls: list = dataclasses.field(default_factory=list, compare=False)

    python_reward = True

    def settings(self):
        return {}

    def log_reward(self, states):
        assert type(states) is np.ndarray
        assert states.dtype == np.int32
        assert (states >= 0).all()
        self.calls.append(states)
        if len(self.calls) == self.fails_at:
            raise ZeroDivisionError("the laboratory is closed")
        answer = LOG_REWARDS[tuple(states.T)]
        states[:] = 0  # what a reward does to its argument does not matter
        return answer


@dataclasses.dataclass(frozen=True)
class RememberingGrid(PythonGrid):
    cache_rewards = True


def agent_of(env, **settings):
    return GFNAgent(env, hidden=(8,), seed=3, **settings)


@BOTH_WAYS
@pytest.mark.parametrize("batch_size", [2, 6], ids=["blockwise", "tabulated"])
def test_losses_are_those_of_the_compiled_reward_to_the_last_digit(job, batch_size):
    job = {**job, "batch_size": batch_size}
    expected = agent_of(GRID).train(**job)
    found = agent_of(PythonGrid()).train(**job)
    np.testing.assert_array_equal(found.loss, expected.loss)
    np.testing.assert_array_equal(found.log_z, expected.log_z)
    assert len(found.l1_error) == 0  # all rewards are not asked for, unless this is wanted
    job["track_error"] = True
    np.testing.assert_array_equal(agent_of(PythonGrid()).train(**job).l1_error, expected.l1_error)


@WITHOUT_XLA
def test_an_objective_with_state_flows_trains_on_it_as_on_the_compiled_one():
    job = {**ON_POLICY, "iterations": 5, "objective": "flow_matching"}
    expected = agent_of(GRID).train(**job)
    np.testing.assert_allclose(agent_of(PythonGrid()).train(**job).loss, expected.loss, rtol=1e-13)


@WITHOUT_XLA
def test_it_is_asked_once_for_each_batch_and_never_for_padding():
    env = PythonGrid()
    agent = agent_of(env)
    agent.train(**ON_POLICY)
    # Once more for the batch that tells where log Z starts.
    assert [len(states) for states in env.calls] == [6] * 25
    env.calls.clear()
    agent.train(**OFFLINE)
    assert [len(states) for states in env.calls] == [6, 6, 4] * 8
    env.calls.clear()
    agent.sample(11)
    assert [len(states) for states in env.calls] == [11]


@WITHOUT_XLA
def test_with_cache_rewards_it_is_asked_once_for_each_object():
    env = RememberingGrid()
    expected = agent_of(GRID).train(**ON_POLICY)
    np.testing.assert_array_equal(agent_of(env).train(**ON_POLICY).loss, expected.loss)
    assert 0 < sum(map(len, env.calls)) <= 16
    agent_of(env).sample(200)
    asked = log_rewards_of(RememberingGrid(), GRID.states())  # an equal one shares the answers
    np.testing.assert_array_equal(asked, LOG_REWARDS.ravel())


@WITHOUT_XLA
@BOTH_WAYS
def test_its_exception_arrives_as_it_is_and_the_agent_stays_as_after_the_last_good_chunk(job):
    expected = agent_of(GRID)
    expected.train(**job, callback=lambda progress: progress.done == 2 * CHUNK)
    env = PythonGrid(fails_at=2 * CHUNK + 5)
    agent = agent_of(env)
    with pytest.raises(ZeroDivisionError, match="the laboratory is closed"):
        agent.train(**job)
    assert agent.iteration == 2 * CHUNK
    for found, value in zip(agent._state_now().weights, expected._state_now().weights, strict=True):
        np.testing.assert_array_equal(found, value)
    rest = agent.train(**job, resume_from=2 * CHUNK)
    assert np.isfinite(rest.loss).all()


@WITHOUT_XLA
def test_an_interrupt_reaches_it_at_once():
    class Impatient(PythonGrid):
        def log_reward(self, states):
            if len(self.calls) == 3:
                raise KeyboardInterrupt
            return super().log_reward(states)

    agent = agent_of(Impatient())
    with pytest.raises(KeyboardInterrupt):
        agent.train(**ON_POLICY)
    assert agent.iteration == 0


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda n: np.zeros([n, 1]), ValueError, r"shape \[6\], got shape \[6, 1\]"),
        (lambda n: 0.0, ValueError, r"got shape \[\]"),
        (lambda n: ["good"] * n, TypeError, "must give numbers, got dtype <U4"),
        (lambda n: None, TypeError, "must give numbers, got dtype object"),
        (lambda n: np.full(n, np.nan), ValueError, r"got nan for the state \[\d, \d\]"),
        (lambda n: [0.0, np.inf] * (n // 2), ValueError, r"got inf for the state \[\d, \d\]"),
    ],
)
def test_wrong_answers_are_errors_that_name_the_state(answer, error, message):
    class Wrong(HyperGrid):
        python_reward = True

        def log_reward(self, states):
            return answer(len(states))

    agent = agent_of(Wrong(2, 4))
    with pytest.raises(error, match=message):
        agent.train(**ON_POLICY)
    assert agent.iteration == 0
    with pytest.raises(error):
        agent.sample(6)


def test_it_learns_the_right_distribution_where_nothing_is_listed_for_training():
    def count_of_a(words):
        return 0.7 * np.sum(words == 0, axis=1)

    env = LeftToRightSequences(count_of_a, length=3, alphabet="ACG", python_reward=True)
    agent = GFNAgent(env, seed=0)
    agent.train(iterations=600)
    p = evaluation.terminating_distribution(agent)
    assert evaluation.l1_error(p, env.target()) < 0.05


@WITHOUT_XLA
def test_an_agent_of_it_is_saved_and_loaded(tmp_path):
    env = PythonGrid()
    agent = agent_of(env)
    agent.train(**ON_POLICY)
    env.calls.clear()
    agent.save(tmp_path / "agent.npz")
    assert sum(map(len, env.calls)) <= 64
    loaded = GFNAgent.load(tmp_path / "agent.npz", env=PythonGrid())
    np.testing.assert_array_equal(loaded.train(**ON_POLICY).loss, agent.train(**ON_POLICY).loss)


def test_the_rivals_refuse_it():
    with pytest.raises(ValueError, match="env must have a reward in TensorFlow"):
        metropolis_hastings(PythonGrid(), 2, 3)
    with pytest.raises(ValueError, match="env must have a reward in TensorFlow"):
        train_ppo(PythonGrid(), 3)


def test_a_compiled_reward_is_still_asked_in_tensorflow():
    assert isinstance(log_rewards_of(GRID, tf.constant([[0, 0]])), tf.Tensor)


def test_check_environment_checks_it_too():
    env = PythonGrid()
    assert check_environment(env).n_states == 16
    assert sum(map(len, env.calls)) < 100


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda states: np.zeros([len(states), 1]), r"log_reward must be float64 \[16\], got"),
        (lambda states: np.where(states[:, 0] == 3, -np.inf, 0), r"got -inf in state \[3, "),
        (
            lambda states: states[:, 0] - states[:, 0].mean(),
            "log_reward must not depend on the other",
        ),
        (
            lambda states: np.random.default_rng().normal(size=len(states)),
            "must not depend on chance",
        ),
        (lambda states: states.squeeze(0)[0], "log_reward raised"),
        (lambda states: tf.reduce_sum(states), "log_reward must be float64"),
    ],
)
def test_check_environment_finds_what_is_wrong_with_it(answer, message):
    class Wrong(HyperGrid):
        python_reward = True

        def log_reward(self, states):
            return answer(states)

    with pytest.raises(ContractError, match=message):
        check_environment(Wrong(2, 4))


def test_its_flags_must_be_flags():
    class Wrong(HyperGrid):
        python_reward = "yes"

    with pytest.raises(
        ContractError, match="python_reward of Wrong must be True or False, got 'yes'"
    ):
        GFNAgent(Wrong(2, 4))
