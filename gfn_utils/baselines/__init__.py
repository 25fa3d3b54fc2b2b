"""What a GFlowNet is compared with: MCMC and PPO, as in arXiv 2106.04399, and an evolution."""

from gfn_utils.baselines.evolution import Search, evolutionary_search
from gfn_utils.baselines.mcmc import Chains, metropolis_hastings, transition_matrix
from gfn_utils.baselines.ppo import PPOAgent, ppo_loss, soft_returns, train_ppo

__all__ = [
    "Chains",
    "PPOAgent",
    "Search",
    "evolutionary_search",
    "metropolis_hastings",
    "ppo_loss",
    "soft_returns",
    "train_ppo",
    "transition_matrix",
]
