"""What else was tried for lesson 07: log Z's rate, λ, short runs, backward policies and replay.

    python benchmarks/beside_the_objective.py [log_z lambda short backward replay]

Exact L1 errors after the last update, linear decay, as medians over seeds: 100, 101 and 102 where a
setting is chosen for the lesson, 0 to 4 where the lesson's own runs are repeated at other rates.

LAMBDA_TABLES
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
    names = [f"{name}, R₀ = {r0:g}" for r0, name in cases]
    table("8 × 8, 700 updates, by backward policy", names, rows)


def replay():
    """With and without a buffer in the desert of lesson 07, each at three learning rates."""
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
