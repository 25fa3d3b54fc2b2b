"""The helper package of an executable course on Generative Flow Networks.

Two concepts are enough to begin with, an environment and an agent:

    from gfn_utils import HyperGrid, GFNAgent, evaluation

    agent = GFNAgent(HyperGrid())
    agent.train(agent.sample(5000, explore=True), epochs=200)
    evaluation.l1_error(evaluation.terminating_distribution(agent), agent.env.target())
"""

# ruff: noqa: E402  What TensorFlow reads when it loads comes first.
import os
import sys
import warnings


def _prepare_tensorflow():
    # Read once, when TensorFlow loads: its start-up notes would end up in every saved notebook, and
    # oneDNN's kernels round differently from one processor to the next.
    settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    if "tensorflow" in sys.modules and not settings.keys() <= os.environ.keys():
        warnings.warn(
            "TensorFlow was imported before gfn_utils, too early for the settings made for it "
            "here: it may print notes of its own, and results may differ in the last digits. "
            "Import gfn_utils first.",
            stacklevel=3,
        )
    os.environ.update(settings | os.environ)
    os.environ["KERAS_BACKEND"] = backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if "keras" in sys.modules:
        backend = sys.modules["keras"].config.backend()
    if backend != "tensorflow":
        raise ImportError(
            f"gfn_utils needs Keras on TensorFlow, but its backend is {backend!r}: restart Python "
            "(in a notebook, the kernel) with KERAS_BACKEND=tensorflow, or without that variable"
        )


_prepare_tensorflow()

from gfn_utils import evaluation
from gfn_utils.agent import GFNAgent
from gfn_utils.environments import (
    AnyPositionSequences,
    Conditional,
    EitherEndSequences,
    Environment,
    HyperGrid,
    LeftToRightSequences,
    check_environment,
)
from gfn_utils.replay import ReplayBuffer

__all__ = [
    "AnyPositionSequences",
    "Conditional",
    "EitherEndSequences",
    "Environment",
    "GFNAgent",
    "HyperGrid",
    "LeftToRightSequences",
    "ReplayBuffer",
    "check_environment",
    "evaluation",
]
