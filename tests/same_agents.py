"""Two agents compared in every number that decides what they do next."""

import numpy as np
import pytest
import tensorflow as tf


def everything(agent):
    """All numbers that training and sampling change."""
    weights = [weight.numpy() for weight in agent.policy.weights]
    state = tf.nest.flatten(agent._held.state)
    state = [np.asarray(value) for value in state]
    return [*weights, agent.log_z.numpy(), *state, np.array(agent._held.n_sampled)]


def assert_same(agent, other):
    for value, expected in zip(everything(agent), everything(other), strict=True):
        np.testing.assert_array_equal(value, expected)


def assert_different(agent, other):
    with pytest.raises(AssertionError):
        assert_same(agent, other)
