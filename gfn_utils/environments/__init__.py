"""What an agent can build. Each environment keeps the contract of `Environment`."""

from gfn_utils.environments.base import Environment
from gfn_utils.environments.contract import ContractError, check_environment
from gfn_utils.environments.hypergrid import HyperGrid

__all__ = ["ContractError", "Environment", "HyperGrid", "check_environment"]
