"""The helper package of an executable course on Generative Flow Networks.

Two concepts are enough to begin with, an environment and an agent:

    from gfn_utils import HyperGrid, GFNAgent, evaluation

    agent = GFNAgent(HyperGrid())
    agent.train(agent.sample(5000, explore=True), epochs=200)
    evaluation.l1_error(evaluation.terminating_distribution(agent), agent.env.target())
"""

import os

# Read once, when TensorFlow loads: its start-up notes would end up in every saved notebook, and
# oneDNN's kernels round differently from one processor to the next.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from gfn_utils import evaluation
from gfn_utils.agent import GFNAgent
from gfn_utils.environments import (
    AnyPositionSequences,
    EitherEndSequences,
    Environment,
    HyperGrid,
    LeftToRightSequences,
    check_environment,
)

__all__ = [
    "AnyPositionSequences",
    "EitherEndSequences",
    "Environment",
    "GFNAgent",
    "HyperGrid",
    "LeftToRightSequences",
    "check_environment",
    "evaluation",
]
