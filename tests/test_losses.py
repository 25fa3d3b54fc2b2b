"""Trajectory balance: its value, where it vanishes, and its gradient."""

import math

import numpy as np
import pytest
import tensorflow as tf

from gfn_utils import GFNAgent, HyperGrid, evaluation, losses, sampling
from gfn_utils.policy import network_log_policy, tabulate


@pytest.fixture(scope="module")
def grid():
    return HyperGrid(2, 4)


@pytest.fixture
def agent(grid, randomise):
    return randomise(GFNAgent(grid, hidden=(6,)), seed=2)


def losses_of(agent, log_policy, log_z, trajectories):
    log_pf, log_pb = sampling.log_probabilities(agent.env, log_policy, trajectories)
    return losses.trajectory_balance(log_pf, log_pb, trajectories.log_reward, log_z)


def test_value_computed_by_hand():
    # Two trajectories of three steps, the second of them stopped after two.
    log_pf = tf.math.log(tf.constant([[1 / 2, 1 / 4, 1], [1 / 8, 1 / 2, 1]], tf.float64))
    log_pb = tf.math.log(tf.constant([[1, 1 / 2, 1], [1 / 4, 1, 1]], tf.float64))
    log_reward = tf.math.log(tf.constant([4, 1 / 2], tf.float64))
    loss = losses.trajectory_balance(
        log_pf, log_pb, log_reward, tf.math.log(tf.cast(2, tf.float64))
    )
    # 2·(1/8) / (4·1/2) = 2⁻³ and 2·(1/16) / (1/2·1/4) = 1.
    np.testing.assert_allclose(loss, [(3 * math.log(2)) ** 2, 0], atol=1e-14)


def test_loss_is_in_the_precision_of_the_policy():
    zeros = tf.zeros([2, 3], tf.float32)
    loss = losses.trajectory_balance(zeros, zeros, tf.ones([2], tf.float64), tf.constant(3.0))
    assert loss.dtype == tf.float32
    assert loss.numpy().tolist() == [4, 4]


def test_zero_at_the_answer_key_and_nowhere_near_it(grid, agent):
    key, log_z = evaluation.answer_key(grid, tabulate(grid, agent.log_policy).log_pb)
    trajectories = agent.sample(300, explore=True)
    at_key = losses_of(agent, key.log_policy, log_z, trajectories)
    np.testing.assert_allclose(at_key, 0, atol=1e-20)
    np.testing.assert_allclose(
        losses_of(agent, key.log_policy, log_z + 0.1, trajectories), 0.01, rtol=1e-9
    )
    off_key = losses_of(agent, agent.log_policy, log_z, trajectories)
    assert (off_key.numpy() > 0).all()
    assert off_key.numpy().mean() > 0.1


def test_gradient_of_log_z_is_twice_the_imbalance(agent):
    trajectories = agent.sample(50)
    with tf.GradientTape() as tape:
        loss = losses_of(agent, agent.log_policy, agent.log_z, trajectories)
    log_pf, log_pb = sampling.log_probabilities(agent.env, agent.log_policy, trajectories)
    imbalance = agent.log_z + tf.reduce_sum(log_pf - log_pb, axis=1) - trajectories.log_reward
    expected = 2 * np.sum(imbalance)
    assert abs(expected) > 1
    np.testing.assert_allclose(tape.gradient(loss, agent.log_z), expected, rtol=1e-12)


@pytest.mark.parametrize("backward_policy", ["learned", "uniform"])
def test_gradient_of_every_weight_is_that_of_finite_differences(agent, backward_policy):
    trajectories = agent.sample_backward(np.tile(agent.env.states(), [2, 1]))
    variables = [*(weight.value for weight in agent.policy.weights), agent.log_z]

    def mean_loss():
        log_policy = network_log_policy(
            agent.env, agent.kind.network, agent.policy.weights, backward_policy
        )
        return tf.reduce_mean(losses_of(agent, log_policy, agent.log_z, trajectories))

    with tf.GradientTape() as tape:
        loss = mean_loss()
    gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
    compiled_loss = tf.function(mean_loss)
    step = 1e-5
    for variable, gradient in zip(variables, gradients, strict=True):
        value, difference = variable.numpy(), np.zeros(variable.shape)
        for place in np.ndindex(value.shape):
            moved = np.zeros(value.shape)
            moved[place] = step
            variable.assign(value + moved)
            above = compiled_loss()
            variable.assign(value - moved)
            difference[place] = (above - compiled_loss()) / (2 * step)
        variable.assign(value)
        # The second figure is what rounding leaves of a difference of losses near 10.
        np.testing.assert_allclose(gradient, difference, rtol=1e-6, atol=1e-9 * float(loss))
    # With a uniform P_B its head goes unused; every other weight matters.
    for weight, gradient in zip(agent.policy.weights, gradients[:-1], strict=True):
        unused = backward_policy == "uniform" and weight.path.startswith("backward_policy")
        assert (np.abs(gradient).max() == 0) == unused
