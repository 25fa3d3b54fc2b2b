"""What the first paper compares a GFlowNet with (arXiv 2106.04399, section 4.1): MCMC and PPO."""

from gfn_utils.baselines.mcmc import Chains, metropolis_hastings, transition_matrix
from gfn_utils.baselines.ppo import PPOAgent, ppo_loss, train_ppo

__all__ = [
    "Chains",
    "PPOAgent",
    "metropolis_hastings",
    "ppo_loss",
    "train_ppo",
    "transition_matrix",
]
