"""Did it learn the right distribution? Exact answers where the states can be listed.

An *agent* here is anything with an `env` and a `log_policy` (see `gfn_utils.policy`): a GFNAgent or
a PolicyTable. Distributions are float64 arrays `[n_states]` in the order of `env.states()`.
"""

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
    "Flows",
    "answer_key",
    "check_distribution",
    "count_trajectories",
    "empirical_distribution",
    "flows",
    "is_mode",
    "jensen_shannon",
    "l1_error",
    "log_count_trajectories",
    "modes_found",
    "noise_floor",
    "terminating_distribution",
    "total_variation",
]
