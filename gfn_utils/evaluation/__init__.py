"""Did it learn the right distribution? Exact answers where the states can be listed, estimates
with their standard errors where they cannot, and scores of the objects that were found.

An *agent* here is anything with an `env` and a `log_policy` (see `gfn_utils.policy`): a GFNAgent or
a PolicyTable. Distributions are float64 arrays `[n_states]` in the order of `env.states()`.
"""

from gfn_utils.evaluation.diversity import (
    Scored,
    diversity,
    hamming,
    novelty,
    ranked,
    separate_modes,
    top_k,
    top_k_mean,
)
from gfn_utils.evaluation.estimates import (
    Correlation,
    Estimate,
    LogZBounds,
    correlation,
    effective_sample_size,
    log_probability,
    log_z_bounds,
)
from gfn_utils.evaluation.exact import (
    Flows,
    answer_key,
    check_distribution,
    count_trajectories,
    empirical_distribution,
    flows,
    is_mode,
    jensen_shannon,
    l1_error,
    log_count_trajectories,
    modes_found,
    noise_floor,
    terminating_distribution,
    total_variation,
)

__all__ = [
    "Correlation",
    "Estimate",
    "Flows",
    "LogZBounds",
    "Scored",
    "answer_key",
    "check_distribution",
    "correlation",
    "count_trajectories",
    "diversity",
    "effective_sample_size",
    "empirical_distribution",
    "flows",
    "hamming",
    "is_mode",
    "jensen_shannon",
    "l1_error",
    "log_count_trajectories",
    "log_probability",
    "log_z_bounds",
    "modes_found",
    "noise_floor",
    "novelty",
    "ranked",
    "separate_modes",
    "terminating_distribution",
    "top_k",
    "top_k_mean",
    "total_variation",
]
