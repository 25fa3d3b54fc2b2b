"""At which learning rates does each objective do best? For the race of lesson 07.

    python benchmarks/objectives_at_their_best.py [--out file.json]

On each grid of the lesson every objective is trained at all of four learning rates and, where it
learns log Z, three learning rates of log Z; everything else is equal: updates, batches of 16, γ,
linear decay, network. What counts is the exact L1 error after the last update, as a median over
three seeds (100, 101, 102, which the lesson's race does not use). Prints a markdown table a grid:
the best rates, and for each learning rate the error with the best rate of log Z.

`beside_the_objective.py` goes on where the best rate of log Z lies at the edge of these.

On two cores, in about 10 minutes:

8 × 8: exact L1 error after 1,500 updates

| objective | learning rate | of log Z | at 0.003 | at 0.01 | at 0.03 | at 0.1 |
|---|---|---|---|---|---|---|
| trajectory balance | 0.01 | 0.3 | 0.011 | 0.003 | 0.0075 | 0.49 |
| detailed balance | 0.01 | 0.1 | 0.032 | 0.0054 | 0.0079 | 0.59 |
| sub trajectory balance | 0.01 | 0.03 | 0.023 | 0.0027 | 0.0071 | 0.3 |
| flow matching | 0.01 | 0.1 | 0.029 | 0.0019 | 0.0026 | 0.44 |
| log variance | 0.01 | – | 0.012 | 0.0024 | 0.029 | 0.26 |
| modified detailed balance | 0.01 | – | 0.01 | 0.0011 | 0.0031 | 0.16 |
| forward looking | 0.01 | 0.3 | 0.039 | 0.0041 | 0.012 | 0.15 |

8⁴, R₀ = 0.001: exact L1 error after 1,200 updates

| objective | learning rate | of log Z | at 0.001 | at 0.003 | at 0.01 | at 0.03 |
|---|---|---|---|---|---|---|
| trajectory balance | 0.01 | 0.1 | 1.6 | 0.22 | 0.15 | 1.4 |
| detailed balance | 0.01 | 0.3 | 1.6 | 0.42 | 0.18 | 0.19 |
| sub trajectory balance | 0.01 | 0.3 | 0.69 | 0.24 | 0.17 | 0.21 |
| flow matching | 0.01 | 0.1 | 1.6 | 0.37 | 0.12 | 0.13 |
| log variance | 0.01 | – | 1.6 | 0.23 | 0.17 | 1.2 |
| modified detailed balance | 0.01 | – | 1.5 | 0.25 | 0.1 | 0.17 |
| forward looking | 0.01 | 0.3 | 1.7 | 0.43 | 0.17 | 0.17 |
"""

import argparse
import itertools
import json
import pathlib
import statistics
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

from gfn_utils import GFNAgent, HyperGrid, losses

SEEDS = 100, 101, 102
LOG_Z_RATES = 0.03, 0.1, 0.3
LARGE = {"hidden": (64, 64), "dtype": "float32", "adam_betas": (0.9, 0.999), "gamma": 0.1}
GRIDS = {
    "8 × 8": (HyperGrid(), {}, 1500, (0.003, 0.01, 0.03, 0.1)),
    "8⁴, R₀ = 0.001": (HyperGrid(4, 8, r0=0.001), LARGE, 1200, (0.001, 0.003, 0.01, 0.03)),
}
"""Environment, settings of the agent, updates, learning rates."""


def error_of(env, settings, objective, updates, seed) -> float:
    """The exact L1 error after training; 2, the most there is, if it diverges."""
    agent = GFNAgent(env, seed=seed, **settings)
    try:
        history = agent.train(iterations=updates, objective=objective, chunk=updates)
    except FloatingPointError:
        return 2.0
    return float(history.l1_error[-1])


def sweep(env, settings, updates, rates, objective) -> dict:
    """{(learning rate, log Z's or None): errors of the seeds}."""
    of_log_z = LOG_Z_RATES if losses.learns_log_z(objective) else (None,)
    found = {}
    for rate, log_z_rate in itertools.product(rates, of_log_z):
        chosen = {**settings, "learning_rate": rate, "log_z_learning_rate": log_z_rate}

        def run(seed, chosen=chosen):
            return error_of(env, chosen, objective, updates, seed)

        with ThreadPoolExecutor(2) as pool:
            found[rate, log_z_rate] = list(pool.map(run, SEEDS))
    return found


def best_of(found) -> tuple:
    """The rates with the lowest median, and that median."""
    rates = min(found, key=lambda each: statistics.median(found[each]))
    return rates, statistics.median(found[rates])


def as_row(objective, found, rates) -> str:
    """A line of the table: the best rates, and the best error at each learning rate."""
    (rate, log_z_rate), _ = best_of(found)
    at_each = [best_of({k: v for k, v in found.items() if k[0] == each})[1] for each in rates]
    cells = [objective.replace("_", " "), rate, log_z_rate or "–", *(f"{e:.2g}" for e in at_each)]
    return f"| {' | '.join(map(str, cells))} |"


def main(out: pathlib.Path | None):
    warnings.filterwarnings("ignore", "log Z was still on its way")
    everything = {}
    for name, (env, settings, updates, rates) in GRIDS.items():
        head = ["objective", "learning rate", "of log Z", *(f"at {rate}" for rate in rates)]
        print(f"\n{name}: exact L1 error after {updates:,} updates\n")
        print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
        for objective in losses.OBJECTIVES:
            found = sweep(env, settings, updates, rates, objective)
            print(as_row(objective, found, rates), flush=True)
            everything[f"{name}, {objective}"] = {str(k): v for k, v in found.items()}
        if out is not None:
            out.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="write the error of every run here")
    sys.exit(main(parser.parse_args().out))
