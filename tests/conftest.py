"""What several test modules share."""

import functools

import hypothesis
import nbval.kernel
import numpy as np
import pytest
from kernels import tried_again
from thorough import THOROUGH

from gfn_utils import training  # Before TensorFlow: it chooses the kernels that round alike.

# The same examples on every machine, and no deadline: the first call of a TensorFlow function
# takes far longer than the next.
hypothesis.settings.register_profile("course", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("course")

nbval.kernel.start_new_kernel = tried_again(nbval.kernel.start_new_kernel)


def pytest_addoption(parser):
    parser.addoption("--thorough", action="store_true", help="run the tests of thorough.py alone")


def pytest_collection_modifyitems(config, items):
    """Choose between the tests of every day and those of thorough.py; all of the latter exist."""
    wanted, others = [], []
    for module, names in THOROUGH.items():
        there = {item.name for item in items if item.path.name == module}
        if there and not any("::" in argument for argument in config.args):
            assert there >= set(names), f"thorough.py: {set(names) - there} are not in {module}"
    for item in items:
        is_thorough = item.name in THOROUGH.get(item.path.name, [])
        chosen = is_thorough == config.getoption("thorough")
        (wanted if chosen else others).append(item)
    items[:] = wanted
    config.hook.pytest_deselected(items=others)


# Where the programs are kept that XLA has not compiled.
TRACED_PROGRAMS = functools.lru_cache(maxsize=64)(training._program.__wrapped__)


@pytest.fixture
def without_xla(monkeypatch):
    """Programs run as TensorFlow traces them, which takes a third of the time to make them.

    For a few updates, where the question is what Python does around a program or what numbers go
    into it. Whether every objective and every way to a gradient compiles, and gives the numbers
    that it should, is asked of compiled programs, in test_training and test_objectives. So
    is what becomes of weights that are NaN: XLA forgives an index out of bounds, and a traced
    program does not.
    """
    monkeypatch.setattr(training, "xla", functools.partial(training.tf.function, autograph=False))
    monkeypatch.setattr(training, "_program", TRACED_PROGRAMS)


@pytest.fixture
def randomise():
    """A function that gives an agent random weights, large enough for a policy of strong views."""

    def randomise(agent, seed, scale=0.8):
        rng = np.random.default_rng(seed)
        for variable in [*agent.policy.weights, agent.log_z]:
            variable.assign(rng.normal(scale=scale, size=variable.shape))
        return agent

    return randomise
