"""What is measured, how it is timed and how it is reported: the same code for all libraries.

The work is on-policy trajectory balance (arXiv 2201.13259) on the hypergrid (arXiv 2106.04399,
section 4.1). A script `time_LIBRARY.py` says in a `Trainer` how its library does that work; the
table of scenarios, the clock, the command line and the exact error are here. Only numpy is needed.
"""

import argparse
import functools
import importlib
import itertools
import json
import os
import resource
import statistics
import sys
import time
from typing import NamedTuple, Protocol

import numpy as np

R0, R1, R2 = 0.1, 0.5, 2.0
LEARNING_RATE, LOG_Z_LEARNING_RATE = 1e-3, 0.1
ADAM_BETAS = (0.9, 0.999)
LARGEST_EXACT = 200_000
"""Grids with more cells than this are not evaluated exactly."""


class Scenario(NamedTuple):
    name: str
    ndim: int
    height: int
    batch: int
    hidden: int
    """Units of each of the two hidden layers."""

    @property
    def n_cells(self) -> int:
        return self.height**self.ndim

    @property
    def grid(self) -> str:
        return "×".join([str(self.height)] * self.ndim)

    @property
    def description(self) -> str:
        return f"{self.grid}, batch {self.batch}, hidden {self.hidden}"


SCENARIOS = {
    scenario.name: scenario
    for scenario in [
        Scenario("a", ndim=2, height=8, batch=16, hidden=32),
        Scenario("b", ndim=2, height=8, batch=128, hidden=256),
        Scenario("c", ndim=4, height=20, batch=16, hidden=256),
        Scenario("d", ndim=4, height=16, batch=128, hidden=256),
        Scenario("e", ndim=2, height=64, batch=128, hidden=256),
    ]
}
LARGER = {"larger": Scenario("larger", ndim=4, height=16, batch=4096, hidden=1024)}
"""What a GPU may be worth having for: see on_gpu.py."""
COLD_STARTS = {
    8: Scenario("cold 8", ndim=2, height=8, batch=16, hidden=32),
    20: Scenario("cold 20", ndim=2, height=20, batch=64, hidden=64),
}


class Trainer(Protocol):
    """What a script offers: its library, set up for a scenario, untrained.

    `chunk` is how many updates will usually be asked for at once. Tables have a row for each cell,
    in the order of `cells`, and a column for each action: one step along each axis, then stop.
    """

    def __init__(self, scenario: Scenario, seed: int, chunk: int): ...

    def train(self, n_updates: int) -> None:
        """Make that many updates and return when they are done."""

    def p_forward(self) -> np.ndarray:
        """P_F of every cell, `[n_cells, ndim + 1]`."""

    def rewards(self) -> np.ndarray:
        """The library's own reward of every cell, `[n_cells]`."""

    def sample(self, count: int) -> None:
        """Draw that many trajectories with P_F and return when they are done."""


@functools.cache
def cells(scenario: Scenario) -> np.ndarray:
    """All cells, `[n_cells, ndim]`: the last coordinate changes fastest."""
    return np.array(list(itertools.product(range(scenario.height), repeat=scenario.ndim)))


@functools.cache
def target(scenario: Scenario) -> tuple[np.ndarray, int]:
    """R(x)/Z of every cell, `[n_cells]`, and the number of modes, in plain Python.

    With |x/(H−1) − ½| = |2x − (H−1)| / (2·(H−1)), every comparison is one of integers.
    """
    span = scenario.height - 1
    offset = [abs(2 * x - span) for x in range(scenario.height)]
    near_corner = [2 * o > span for o in offset]
    at_mode = [3 * span < 5 * o <= 4 * span for o in offset]
    rewards = [
        R0 + R1 * all(near_corner[x] for x in cell) + R2 * all(at_mode[x] for x in cell)
        for cell in itertools.product(range(scenario.height), repeat=scenario.ndim)
    ]
    z = sum(rewards)
    return np.array([reward / z for reward in rewards]), sum(at_mode) ** scenario.ndim


def exact(scenario: Scenario, p_forward: np.ndarray) -> tuple[np.ndarray, float]:
    """The distribution of the cell in which a trajectory stops, `[n_cells]`, and its mean length.

    One unit of probability enters at the origin and is passed on layer by layer. The length counts
    actions, the stop included.
    """
    coordinates = cells(scenario)
    depth = coordinates.sum(axis=1)
    order = np.argsort(depth, kind="stable")
    visits = np.zeros(scenario.n_cells)
    visits[0] = 1.0
    for layer in np.split(order, np.flatnonzero(np.diff(depth[order])) + 1):
        for axis in range(scenario.ndim):
            stride = scenario.height ** (scenario.ndim - 1 - axis)
            rows = layer[coordinates[layer, axis] < scenario.height - 1]
            visits[rows + stride] += visits[rows] * p_forward[rows, axis]
    return visits * p_forward[:, -1], float(visits.sum())


def l1_error(scenario: Scenario, trainer: Trainer) -> tuple[float, float]:
    """Σ|P_T − R/Z| of the trainer's policy, and the mean length of its trajectories."""
    learned, length = exact(scenario, np.asarray(trainer.p_forward(), np.float64))
    return float(np.abs(learned - target(scenario)[0]).sum()), length


def check_rewards(scenario: Scenario, trainer: Trainer) -> None:
    """Assert that the library learns the distribution that `target` says."""
    expected, n_modes = target(scenario)
    rewards = np.asarray(trainer.rewards(), np.float64)
    np.testing.assert_allclose(rewards / rewards.sum(), expected, rtol=1e-5)
    found = int(np.count_nonzero(rewards > 0.999 * (R0 + R1 + R2)))
    assert found == n_modes, f"{found} modes, and not {n_modes}"


def steady(make_trainer: type[Trainer], args) -> dict:
    """Milliseconds for an update after `--warmup` of them, in `--repeats` runs of `--updates`."""
    scenario = (SCENARIOS | LARGER)[args.scenario]
    start = time.perf_counter()
    trainer = make_trainer(scenario, args.seed, args.updates)
    trainer.train(1)
    first_call = time.perf_counter() - start
    if args.warmup > 1:
        trainer.train(args.warmup - 1)
    times = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        trainer.train(args.updates)
        times.append((time.perf_counter() - start) / args.updates * 1e3)
    result = {
        "scenario": args.scenario,
        "first_call_seconds": first_call,
        **spread("ms_per_update", times),
        "peak_memory_mb": peak_memory_mb(),
        "total_updates": max(args.warmup, 1) + args.repeats * args.updates,
    }
    if scenario.n_cells <= LARGEST_EXACT:
        result["l1_error"], result["mean_length"] = l1_error(scenario, trainer)
        check_rewards(scenario, trainer)
    return result


def cold(make_trainer: type[Trainer], args) -> dict:
    """Seconds since the process began until the exact L1 error is below each threshold.

    The error is taken every `--every` updates; the time that this takes is not counted.
    """
    scenario = COLD_STARTS[args.height]
    reached = dict.fromkeys(args.thresholds)
    trainer = make_trainer(scenario, args.seed, args.every)
    done, checking, first_call, elapsed = 0, 0.0, None, 0.0
    while None in reached.values() and elapsed < args.limit:
        start = time.perf_counter()
        trainer.train(args.every)
        done += args.every
        elapsed = seconds_since_process_start() - checking
        first_call = first_call or time.perf_counter() - start
        start = time.perf_counter()
        error, _ = l1_error(scenario, trainer)
        for threshold, answer in reached.items():
            if answer is None and error < threshold:
                reached[threshold] = {"seconds": elapsed, "updates": done}
        checking += time.perf_counter() - start
    check_rewards(scenario, trainer)
    return {
        "height": args.height,
        "first_call_seconds": first_call,
        "reached": {str(threshold): answer for threshold, answer in reached.items()},
        "limit_seconds": args.limit,
        "checking_seconds": checking,
        "total_updates": done,
        "l1_error": error,
    }


def sample(make_trainer: type[Trainer], args) -> dict:
    """Seconds to draw `--count` trajectories from a policy trained for `--warmup` updates."""
    scenario = SCENARIOS[args.scenario]
    trainer = make_trainer(scenario, args.seed, 100)
    trainer.train(args.warmup)
    times = []
    for _ in range(args.repeats + 1):
        start = time.perf_counter()
        trainer.sample(args.count)
        times.append(time.perf_counter() - start)
    check_rewards(scenario, trainer)
    error, length = l1_error(scenario, trainer)
    return {
        "scenario": args.scenario,
        "count": args.count,
        "first_call_seconds": times[0],
        **spread("seconds", times[1:]),
        "mean_length": length,
        "l1_error": error,
    }


def main(library: str, version: str, make_trainer: type[Trainer], import_seconds: float) -> None:
    """The command line of every script: measure, and print one line of JSON."""
    args = parse_arguments(library)
    result = args.measure(make_trainer, args)
    settings = {"library": library, "version": version, "command": args.command, "seed": args.seed}
    print(json.dumps({**settings, "import_seconds": import_seconds, **result}), flush=True)


def parse_arguments(library: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"Time {library} on the hypergrid.")
    commands = parser.add_subparsers(dest="command", required=True)
    measures = {"steady": steady, "cold": cold, "sample": sample}
    for name, measure in measures.items():
        command = commands.add_parser(name, help=measure.__doc__.splitlines()[0])
        command.set_defaults(measure=measure)
        command.add_argument("--seed", type=int, default=0)
        if name == "cold":
            command.add_argument("--height", type=int, choices=COLD_STARTS, default=8)
            command.add_argument("--thresholds", type=numbers, default=[0.1, 0.05, 0.01])
            command.add_argument("--every", type=int, default=50, help="updates between checks")
            command.add_argument("--limit", type=float, default=120, help="give up, seconds")
            continue
        command.add_argument("--scenario", choices=SCENARIOS | LARGER, default="a")
        command.add_argument("--warmup", type=int, default=500, help="updates made first")
        command.add_argument("--repeats", type=int, default=5)
        if name == "steady":
            command.add_argument("--updates", type=int, default=200, help="updates in a repeat")
        else:
            command.add_argument("--count", type=int, default=100_000, help="trajectories")
    return parser.parse_args()


def timed_import(*names: str) -> tuple[list, float]:
    """Import modules in turn; returns them and the seconds that it took."""
    start = time.perf_counter()
    modules = [importlib.import_module(name) for name in names]
    return modules, time.perf_counter() - start


def numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(",")]


def spread(name: str, values: list[float]) -> dict:
    """Median, least and greatest of the values, and the values themselves."""
    return {
        name: statistics.median(values),
        f"{name}_min": min(values),
        f"{name}_max": max(values),
        f"{name}_each": values,
    }


def seconds_since_process_start() -> float:
    """From the kernel's record, to 10 ms; where there is none, from the import of this module."""
    try:
        with open("/proc/self/stat") as file:
            ticks = int(file.read().rsplit(")", 1)[1].split()[19])
    except OSError:
        return time.perf_counter() - _IMPORTED
    started = ticks / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def peak_memory_mb() -> float:
    """The most memory that the process has held so far.

    From the kernel's record where there is one: what getrusage says of a process that another one
    started may be the other's.
    """
    try:
        with open("/proc/self/status") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    except (OSError, KeyError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


_IMPORTED = time.perf_counter()
