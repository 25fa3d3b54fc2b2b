"""What an agent can build. Each environment keeps the contract of `Environment`."""

from gfn_utils.environments.base import Environment
from gfn_utils.environments.contract import ContractError, check_environment
from gfn_utils.environments.hypergrid import HyperGrid
from gfn_utils.environments.sequences import (
    AnyPositionSequences,
    EitherEndSequences,
    LeftToRightSequences,
)

__all__ = [
    "AnyPositionSequences",
    "ContractError",
    "EitherEndSequences",
    "Environment",
    "HyperGrid",
    "LeftToRightSequences",
    "check_environment",
]
