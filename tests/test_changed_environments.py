"""What an environment reads may have changed since programs were compiled for it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from own_environments import Subsets, Words
from small_jobs import WITHOUT_XLA, job_of

import gfn_utils.agent
from gfn_utils import GFNAgent, HyperGrid, evaluation, training
from gfn_utils.environments import LeftToRightSequences, PaintedGrid
from gfn_utils.environments.snapshot import Snapshot

BETA = 0.0


@dataclasses.dataclass(frozen=True)
class GlobalBeta(HyperGrid):
    """Its reward reads a global."""

    height: int = 4

    def log_reward(self, states):
        return BETA * tf.cast(tf.reduce_sum(states, axis=1), tf.float64)


class AttributeBeta(Subsets):
    """Its reward reads an attribute."""

    beta = 0.0

    def log_reward(self, states):
        return self.beta * super().log_reward(states)


class GlobalWords(Words):
    """Cannot be listed, and its reward reads a global."""

    def log_reward(self, states):
        return BETA * super().log_reward(states)


def train(agent):
    agent.train(iterations=600, batch_size=16, chunk=50)


def error(agent):
    learned = evaluation.terminating_distribution(agent)
    return evaluation.l1_error(learned, agent.env.target())


def test_a_new_agent_learns_the_reward_as_it_is_now(monkeypatch):
    train(GFNAgent(GlobalBeta(), hidden=(8,)))
    monkeypatch.setitem(globals(), "BETA", 3.0)
    agent = GFNAgent(GlobalBeta(), hidden=(8,))
    train(agent)
    # Trained on the old reward, the uniform one, it would be 1.4.
    assert error(agent) < 0.1
    np.testing.assert_allclose(agent.sample(5).log_reward, 3 * agent.sample(5).log_reward / 3)


def test_an_agent_learns_anew_after_an_attribute_has_changed():
    env = AttributeBeta()
    agent = GFNAgent(env, hidden=(8,))
    train(agent)
    env.beta = 1.5
    agent.reset()
    train(agent)
    assert error(agent) < 0.1
    drawn = agent.sample(5)
    np.testing.assert_allclose(drawn.log_reward, env.log_reward(drawn.terminal))
    drawn = agent.sample_backward(drawn.terminal)
    np.testing.assert_allclose(drawn.log_reward, env.log_reward(drawn.terminal))


@WITHOUT_XLA
def test_where_states_cannot_be_listed_a_change_is_noticed_too(monkeypatch):
    env = GlobalWords()
    agent = GFNAgent(env, hidden=(8,))
    job = {"iterations": 20, "batch_size": 6, "chunk": 10}
    agent.train(**job)
    monkeypatch.setitem(globals(), "BETA", 2.0)
    agent.reset()
    history = agent.train(**job)
    fresh = GFNAgent(GlobalWords(), hidden=(8,)).train(**job)
    np.testing.assert_array_equal(history.loss, fresh.loss)


@WITHOUT_XLA
def test_a_reward_that_is_never_twice_the_same_is_refused():
    class Noisy(Words):
        def log_reward(self, states):
            return tf.random.uniform(tf.shape(states)[:1], dtype=tf.float64)

    agent = GFNAgent(Noisy(), hidden=(8,))
    with pytest.raises(ValueError, match=r"env must give each state one log_reward, but .* has"):
        agent.train(iterations=20, batch_size=6, chunk=10)


def test_environments_that_differ_in_their_rewards_alone_share_programs():
    rng = np.random.default_rng(0)
    agents = [GFNAgent(PaintedGrid(rng.uniform(1, 2, [4, 4])), hidden=(8,)) for _ in range(3)]
    programs = [training.compile_chunk(job_of(agent)) for agent in agents]
    assert programs[0].func is programs[1].func is programs[2].func
    for agent in agents:
        train(agent)
        assert error(agent) < 0.05
    other = GFNAgent(PaintedGrid(rng.uniform(1, 2, [5, 5])), hidden=(8,))
    program = training.compile_chunk(job_of(other))
    assert program.func is not programs[0].func


def words_that_pay(reward, length, **settings):
    return LeftToRightSequences(reward, length=length, alphabet="ABCDEFGHIJ", **settings)


@WITHOUT_XLA
@pytest.mark.parametrize("length", [2, 6], ids=["listed", "too many to list"])
def test_a_new_reward_in_python_compiles_nothing_and_is_the_one_that_is_asked(length):
    programs, agents = [], []
    for pays in (1.0, 3.0):
        env = words_that_pay(
            lambda letters, pays=pays: np.full(len(letters), pays), length, python_reward=True
        )
        agents.append(GFNAgent(env, hidden=(8,)))
        agents[-1].train(iterations=2)
        programs.append(training.compile_chunk(job_of(agents[-1])).func)
        assert set(agents[-1].sample(3).log_reward.numpy()) == {pays}
    assert programs[0] is programs[1]
    samplers = [gfn_utils.agent._samplers(agent._kind_now(agent.env)) for agent in agents]
    assert samplers[0] is samplers[1]


@WITHOUT_XLA
def test_a_reward_in_python_and_one_in_tensorflow_take_programs_of_their_own():
    compiled = words_that_pay(lambda letters: tf.cast(letters[:, 0], tf.float64), 2)
    asked = words_that_pay(lambda letters: letters[:, 0] * 1.0, 2, python_reward=True)
    losses = [GFNAgent(env, hidden=(8,)).train(iterations=3).loss for env in (compiled, asked)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9)


@pytest.mark.parametrize("change", ["forward_mask", "backward_mask", "encode", "step"])
def test_a_change_in_what_is_allowed_makes_another_snapshot(change):
    env = Subsets()
    before = Snapshot(env)
    assert Snapshot(env) == before
    assert hash(Snapshot(env)) == hash(before)
    method = getattr(env, change)
    altered = {
        "forward_mask": lambda states: tf.tensor_scatter_nd_update(
            method(states), [[1, 0]], [not method(states)[1, 0]]
        ),
        "backward_mask": lambda states: ~method(states),
        "encode": lambda states: 2 * method(states),
        "step": lambda states, actions: method(states, tf.zeros_like(actions)),
    }
    setattr(env, change, altered[change])
    assert Snapshot(env) != before
