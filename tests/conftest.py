"""What several test modules share."""

import hypothesis
import numpy as np
import pytest

import gfn_utils  # noqa: F401  Before TensorFlow: it chooses the kernels that round alike.

# The same examples on every machine, and no deadline: the first call of a TensorFlow function
# takes far longer than the next.
hypothesis.settings.register_profile("course", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("course")


@pytest.fixture
def randomise():
    """A function that gives an agent random weights, large enough for a policy of strong views."""

    def randomise(agent, seed, scale=0.8):
        rng = np.random.default_rng(seed)
        for variable in [*agent.policy.weights, agent.log_z]:
            variable.assign(rng.normal(scale=scale, size=variable.shape))
        return agent

    return randomise
