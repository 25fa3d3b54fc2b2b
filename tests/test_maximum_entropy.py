"""The backward policy by which all histories of an object are equally likely."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from own_environments import Subsets
from same_agents import assert_same
from small_jobs import GRID, ON_POLICY, WITHOUT_XLA, small_agent

from gfn_utils import EitherEndSequences, GFNAgent, HyperGrid, evaluation, policy, sampling


def sum_of_letters(letters):
    return tf.reduce_sum(letters, axis=1) / 2


SEQUENCES = EitherEndSequences(sum_of_letters, 3, "ab")
ENVIRONMENTS = [HyperGrid(2, 5), HyperGrid(3, 4), Subsets(), SEQUENCES]
each_environment = pytest.mark.parametrize("env", ENVIRONMENTS, ids=lambda e: type(e).__name__)


@each_environment
def test_every_history_of_an_object_is_as_likely_as_another(env):
    agent = GFNAgent(env, hidden=(4,), backward_policy="maximum_entropy")
    states = env.states()
    objects = tf.boolean_mask(states, env.forward_mask(states)[:, env.stop_action])
    trajectories = agent.sample_backward(tf.repeat(objects, 5, axis=0))
    _, log_pb = sampling.log_probabilities(env, agent.log_policy, trajectories)
    n = evaluation.count_trajectories(env)[np.asarray(env.index(trajectories.terminal))]
    np.testing.assert_allclose(tf.reduce_sum(log_pb, axis=1), -np.log(n), atol=1e-9)


def test_on_a_grid_it_is_the_binomial_formula():
    env = HyperGrid(2, 6)
    log_pb = policy.maximum_entropy_log_pb(env)
    for x, y in itertools.product(range(6), repeat=2):
        # (x+y)! / (x! y!) ways to a cell, of which x/(x+y) come by the first axis.
        expected = np.array([x, y]) / max(x + y, 1)
        place = int(env.index(tf.constant([[x, y]]))[0])
        np.testing.assert_allclose(np.exp(log_pb[place]), expected, atol=1e-12)


@each_environment
def test_it_is_a_backward_policy_and_no_weight_moves_it(env, randomise):
    agent = GFNAgent(env, hidden=(4,), backward_policy="maximum_entropy")
    before = agent.log_policy(env.states())[1]
    randomise(agent, seed=1)
    after = agent.log_policy(env.states())[1]
    np.testing.assert_array_equal(after, before)
    evaluation.answer_key(env, after)  # which refuses what is no P_B
    np.testing.assert_allclose(after, policy.maximum_entropy_log_pb(env), atol=1e-12)


def test_it_has_more_entropy_than_any_other():
    def entropy(agent):
        """Of the histories of the far corner, exactly: H(s') = Σ P_B·(H(s) − log P_B)."""
        total = np.zeros([4, 4])
        p = np.exp(agent.log_policy(GRID.states())[1]).reshape(4, 4, 2)
        for x, y in itertools.product(range(4), repeat=2):
            parents = [(x - 1, y), (x, y - 1)]
            for parent, share in zip(parents, p[x, y], strict=True):
                if share > 0:
                    total[x, y] += share * (total[parent] - np.log(share))
        return total[3, 3]

    most = entropy(small_agent(backward_policy="maximum_entropy"))
    assert most == pytest.approx(np.log(20))
    assert entropy(small_agent(backward_policy="uniform")) < most - 0.01


@WITHOUT_XLA
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compiled_training_keeps_it_and_eager_and_compiled_agree(dtype):
    agent = small_agent(backward_policy="maximum_entropy", dtype=dtype)
    agent.train(**ON_POLICY)
    assert agent.log_policy(GRID.states())[1].dtype == dtype
    table = policy.maximum_entropy_log_pb(GRID)
    np.testing.assert_allclose(agent.log_policy(GRID.states())[1], table, rtol=1e-5)


def test_it_trains_to_the_target():
    agent = GFNAgent(HyperGrid(2, 4), backward_policy="maximum_entropy")
    assert agent.train(iterations=1500, track_error=True).l1_error[-1] < 0.02
    # Every weight of the unused head stays; nothing else could have told.
    assert agent.log_policy(agent.env.states())[1][0, 0] == -np.inf


@WITHOUT_XLA
def test_it_is_saved_and_loaded(tmp_path):
    agent = small_agent(seed=3, backward_policy="maximum_entropy")
    agent.train(**ON_POLICY)
    agent.save(tmp_path / "agent.npz")
    again = GFNAgent.load(tmp_path / "agent.npz")
    assert again.kind.backward_policy == "maximum_entropy"
    for each in (agent, again):
        each.train(**ON_POLICY)
    assert_same(agent, again)


@pytest.mark.parametrize("env", [HyperGrid(8, 10), HyperGrid(7, 8)])
def test_it_is_refused_where_histories_cannot_be_counted(env):
    message = "backward_policy must not be 'maximum_entropy' unless states are listed"
    with pytest.raises(ValueError, match=message):
        GFNAgent(env, backward_policy="maximum_entropy")
