"""What an agent can build. Each environment keeps the contract of `Environment`."""

from gfn_utils.environments.base import Environment
from gfn_utils.environments.conditional import Conditional
from gfn_utils.environments.contract import (
    Checked,
    ContractError,
    check_attributes,
    check_environment,
)
from gfn_utils.environments.fragment_chains import FragmentChains
from gfn_utils.environments.hypergrid import Grid, HyperGrid, PaintedGrid
from gfn_utils.environments.sequences import (
    AnyPositionSequences,
    EitherEndSequences,
    LeftToRightSequences,
)

__all__ = [
    "AnyPositionSequences",
    "Checked",
    "Conditional",
    "ContractError",
    "EitherEndSequences",
    "Environment",
    "FragmentChains",
    "Grid",
    "HyperGrid",
    "LeftToRightSequences",
    "PaintedGrid",
    "check_attributes",
    "check_environment",
]
