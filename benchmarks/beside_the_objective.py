"""What else was tried for lesson 07 (log Z's rate, λ, short runs) and 07b (P_B, replay).

    python benchmarks/beside_the_objective.py [log_z lambda short backward replay]

Exact L1 errors after the last update, linear decay, as medians over seeds: 100, 101 and 102 where a
setting is chosen for a lesson, 0 to 4 where a lesson's own runs are repeated at other rates.

On two cores, in about 10 minutes:

8 × 8, learning rate 0.01, by log Z's

| | 0.01 | 0.03 | 0.1 | 0.3 | 1.0 |
|---|---|---|---|---|---|
| trajectory_balance | 0.003 | 0.0034 | 0.0032 | 0.003 | 0.0031 |
| sub_trajectory_balance | 0.0039 | 0.0027 | 0.0027 | 0.0044 | 0.0063 |
| forward_looking | 0.071 | 0.011 | 0.0043 | 0.0041 | 0.0053 |

8⁴, R₀ = 0.001, learning rate 0.01, by log Z's

| | 0.3 | 1.0 | 3.0 |
|---|---|---|---|
| detailed_balance | 0.18 | 0.17 | 0.18 |
| sub_trajectory_balance | 0.17 | 0.17 | 0.16 |
| forward_looking | 0.16 | 0.16 | 0.2 |

Sub-trajectory balance, by λ

| | 0.5 | 0.8 | 0.9 | 0.95 | 0.99 |
|---|---|---|---|---|---|
| 8 × 8, 1,500 updates | 0.0034 | 0.0035 | 0.0027 | 0.0041 | 0.0038 |
| 8⁴, 300 updates | 0.46 | 0.41 | 0.4 | 0.43 | 0.46 |
| 8⁴, 1,200 updates | 0.14 | 0.15 | 0.17 | 0.17 | 0.18 |

8 × 8, 312 updates, by learning rate

| | 0.003 | 0.01 | 0.03 | 0.1 |
|---|---|---|---|---|
| modified detailed balance | 0.93 | 0.26 | 0.066 | 0.17 |

8 × 8, 700 updates, by R₀ and backward policy

| | 0.1, learned | uniform | maximum_entropy | 0.001, learned | uniform | maximum_entropy |
|---|---|---|---|---|---|---|
| rate 0.003 | 0.095 | 0.15 | 0.24 | 0.55 | 0.81 | 0.66 |
| rate 0.01 | 0.011 | 0.017 | 0.029 | 0.026 | 0.072 | 0.08 |
| rate 0.03 | 0.017 | 0.017 | 0.022 | 0.039 | 0.046 | 0.051 |

8 × 8, R₀ = 0.00001, by learning rate

| | 0.003 | 0.01 | 0.03 |
|---|---|---|---|
| no replay, 1,300 updates | 0.53 | 0.019 | 0.023 |
| no replay, 650 updates | 1.5 | 0.21 | 0.08 |
| replay, evenly | 0.05 | 0.0052 | 0.016 |
| replay, by reward | 0.0038 | 0.002 | 0.0046 |
"""

import itertools
import statistics
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

from gfn_utils import GFNAgent, HyperGrid, ReplayBuffer
from gfn_utils.policy import BACKWARD_POLICIES

CHOOSING, AGAIN = (100, 101, 102), range(5)
LARGE = {"hidden": (64, 64), "dtype": "float32", "adam_betas": (0.9, 0.999), "gamma": 0.1}


def median_error(seeds, env, settings, **job) -> float:
    """The median over seeds of the exact L1 error at the end; `replay` makes a run's buffer."""
    make_buffer = job.pop("replay", None)

    def run(seed):
        own = {"replay": make_buffer()} if make_buffer else {}
        history = GFNAgent(env, seed=seed, **settings).train(**job, **own)
        return float(history.l1_error[-1])

    with ThreadPoolExecutor(2) as pool:
        return statistics.median(pool.map(run, seeds))


def table(title, columns, rows) -> None:
    """Print a markdown table of `rows`, each a name and its errors, as they come."""
    print(f"\n{title}\n\n| | {' | '.join(map(str, columns))} |\n|{'---|' * (len(columns) + 1)}")
    for name, *errors in rows:
        print(f"| {name} | {' | '.join(f'{error:.2g}' for error in errors)} |", flush=True)


def log_z_rates():
    """Log Z's rate, where the best of `objectives_at_their_best.py` lies at the edge."""
    objectives = "trajectory_balance", "sub_trajectory_balance", "forward_looking"
    vary_log_z("8 × 8", HyperGrid(), {}, 1500, (0.01, 0.03, 0.1, 0.3, 1.0), objectives)
    objectives = "detailed_balance", "sub_trajectory_balance", "forward_looking"
    desert = HyperGrid(4, 8, r0=0.001)
    vary_log_z("8⁴, R₀ = 0.001", desert, LARGE, 1200, (0.3, 1.0, 3.0), objectives)


def vary_log_z(title, env, settings, updates, rates, objectives):
    """A table of errors by log Z's rate, at a learning rate of 0.01."""

    def errors_of(objective):
        job = {"iterations": updates, "chunk": updates, "objective": objective}
        for rate in rates:
            yield median_error(CHOOSING, env, {**settings, "log_z_learning_rate": rate}, **job)

    rows = ((name, *errors_of(name)) for name in objectives)
    table(f"{title}, learning rate 0.01, by log Z's", rates, rows)


def short_runs():
    """Modified detailed balance with as many rewards as trajectory balance: 312 updates."""
    rates = 0.003, 0.01, 0.03, 0.1
    job = {"iterations": 312, "chunk": 312, "objective": "modified_detailed_balance"}
    errors = (median_error(CHOOSING, HyperGrid(), {"learning_rate": r}, **job) for r in rates)
    table("8 × 8, 312 updates, by learning rate", rates, [("modified detailed balance", *errors)])


def lambdas():
    """λ of sub-trajectory balance on both grids."""
    powers = 0.5, 0.8, 0.9, 0.95, 0.99
    grids = {
        "8 × 8, 1,500 updates": (HyperGrid(), {"log_z_learning_rate": 0.03}, 1500),
        "8⁴, 300 updates": (HyperGrid(4, 8, r0=0.001), {**LARGE, "log_z_learning_rate": 0.3}, 300),
        "8⁴, 1,200 updates": (
            HyperGrid(4, 8, r0=0.001),
            {**LARGE, "log_z_learning_rate": 0.3},
            1200,
        ),
    }

    def errors_of(env, settings, updates):
        job = {"iterations": updates, "chunk": updates, "objective": "sub_trajectory_balance"}
        for power in powers:
            yield median_error(CHOOSING, env, settings, sub_trajectory_lambda=power, **job)

    rows = ((name, *errors_of(*grid)) for name, grid in grids.items())
    table("Sub-trajectory balance, by λ", powers, rows)


def backward_policies():
    """The comparison of backward policies at three learning rates, with the lesson's own seeds."""
    cases = list(itertools.product((0.1, 0.001), BACKWARD_POLICIES))

    def errors_of(rate):
        for r0, backward_policy in cases:
            settings = {"learning_rate": rate, "backward_policy": backward_policy}
            yield median_error(AGAIN, HyperGrid(r0=r0), settings, iterations=700, chunk=700)

    rows = ((f"rate {rate}", *errors_of(rate)) for rate in (0.003, 0.01, 0.03))
    names = [f"{r0:g}, {name}" if name == "learned" else name for r0, name in cases]
    table("8 × 8, 700 updates, by R₀ and backward policy", names, rows)


def replay():
    """With and without a buffer in the desert of lesson 07b, each at three learning rates."""
    kinds = {
        "no replay, 1,300 updates": (1300, {}),
        "no replay, 650 updates": (650, {}),
        "replay, evenly": (1300, {"replay": lambda: ReplayBuffer(1000)}),
        "replay, by reward": (1300, {"replay": lambda: ReplayBuffer(1000, 0.5)}),
    }

    def errors_of(updates, mixed):
        for rate in rates:
            settings = {"learning_rate": rate}
            yield median_error(CHOOSING, desert, settings, iterations=updates, chunk=100, **mixed)

    rates, desert = (0.003, 0.01, 0.03), HyperGrid(r0=1e-5)
    rows = ((name, *errors_of(*kind)) for name, kind in kinds.items())
    table("8 × 8, R₀ = 0.00001, by learning rate", rates, rows)


PARTS = {
    "log_z": log_z_rates,
    "lambda": lambdas,
    "short": short_runs,
    "backward": backward_policies,
    "replay": replay,
}

if __name__ == "__main__":
    warnings.filterwarnings("ignore", "log Z was still on its way")
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
