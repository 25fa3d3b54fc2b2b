"""How the cost of an update of this package grows, and what bounds it: `python scaling.py`.

Batch, height, dimensions and hidden width are each varied alone around one base scenario. Writes
scaling.png, and its numbers to results.json and README.md; a few minutes. With --quick, a trial.
"""

import argparse
import json
import logging
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import report
import time_gfn_utils
from scenarios import SCENARIOS, Scenario

from gfn_utils import GFNAgent, HyperGrid, evaluation

BASE = Scenario("base", ndim=4, height=16, batch=64, hidden=128)
RANGES = {
    "batch": [16, 32, 64, 128, 256, 512],
    "height": [8, 12, 16, 24, 32, 48, 64],
    "ndim": [2, 3, 4, 5],
    "hidden": [32, 64, 128, 256, 512],
}
AXIS_NAMES = {"batch": "batch", "height": "height", "ndim": "dimensions", "hidden": "hidden width"}
WARMUP, UPDATES, REPEATS = 300, 20, 5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a trial, to a folder apart")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where to write")
    args = parser.parse_args()
    folder = report.output_folder(args.output, args.quick)
    report.warn_if_busy()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # many agents: it warns of retracing
    results = {"trial": args.quick, "machine": report.machine(), "base": BASE.description}
    warmup, updates = (2, 2) if args.quick else (WARMUP, UPDATES)
    results["warmup"] = warmup
    results["growth"] = {name: growth(name, warmup, updates) for name in RANGES}
    results["matrix_product"] = matrix_product_share(warmup, updates)
    results["exact_distribution_seconds"] = exact_distribution_seconds()
    results["start"] = start()
    results["peak_memory_mb"] = peak_memory_mb()
    text = tables(results)
    report.write(folder, "scaling", results, text)
    plot(results, folder / "scaling.png")
    print(f"{text}\n\nWritten to {folder}")


def growth(name: str, warmup: int, updates: int) -> dict:
    """ms for an update and mean length for each value of one setting, and the exponent."""
    values = RANGES[name]
    times, lengths = [], []
    for value in values:
        scenario = BASE._replace(**{name: value})
        milliseconds, length = time_update(scenario, warmup, updates)
        print(f"{name} {value}: {milliseconds:.2f} ms, mean length {length:.1f}", flush=True)
        times.append(milliseconds)
        lengths.append(length)
    exponent, factor = fit(values, times)
    print(f"{name}: time grows as {name}^{exponent:.2f}", flush=True)
    return {
        "values": values,
        "ms_per_update": times,
        "mean_length": lengths,
        "exponent": exponent,
        "factor": factor,
    }


def time_update(scenario: Scenario, warmup: int, updates: int) -> tuple[float, float]:
    """Median ms for an update after the warm-up, and the mean length of trajectories then."""
    trainer = time_gfn_utils.Trainer(scenario, seed=0, chunk=updates)
    trainer.train(warmup)
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        trainer.train(updates)
        times.append((time.perf_counter() - start) / updates * 1e3)
    actions = np.asarray(trainer.agent.sample(1000).actions)
    return statistics.median(times), float((actions >= 0).sum(axis=1).mean())


def fit(values, times) -> tuple[float, float]:
    """Exponent and factor of time = factor · value^exponent, on the upper half of the range."""
    values, times = np.array(values, float), np.array(times)
    upper = values >= np.sqrt(values[0] * values[-1])
    exponent, log_factor = np.polyfit(np.log(values[upper]), np.log(times[upper]), 1)
    return float(exponent), float(np.exp(log_factor))


def matrix_product_share(warmup: int, updates: int) -> dict:
    """GFLOP/s of the products that an update needs, in scenarios c and d, beside bare products.

    Needed are, for every step of the batch, one evaluation of the network and its derivative,
    which is twice the work; the first layer counts as what it is, a sum of `ndim` rows.
    """
    results = {"peak_gflops": product_gflops(1024, 1024)}
    for name in ("c", "d"):
        scenario = SCENARIOS[name]
        milliseconds, length = time_update(scenario, warmup, updates)
        ndim, hidden = scenario.ndim, scenario.hidden
        weights_used = ndim * hidden + hidden * hidden + hidden * (2 * ndim + 1)
        gflops = 3 * 2 * weights_used * length * scenario.batch / (milliseconds / 1e3) / 1e9
        results[name] = {
            "ms_per_update": milliseconds,
            "mean_length": length,
            "gflops": gflops,
            "share": gflops / results["peak_gflops"],
            "step_gflops": product_gflops(scenario.batch, hidden),
        }
    return results


def product_gflops(rows: int, size: int) -> float:
    """The rate of float32 products `[rows, size]` by `[size, size]`, one after another."""
    import tensorflow as tf  # not before the package, which sets options that it reads once

    n_products = 20
    weights = tf.random.normal([size, size], stddev=size**-0.5)

    @tf.function(jit_compile=True)
    def products(x):
        for _ in range(n_products):
            x = x @ weights
        return tf.reduce_sum(x)

    x = tf.random.normal([rows, size])
    products(x)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        products(x).numpy()
        times.append(time.perf_counter() - start)
    return 2 * rows * size**2 * n_products / min(times) / 1e9


def exact_distribution_seconds() -> dict:
    """Time of the exact terminating distribution on 160,000 states: first call, and later ones."""
    agent = GFNAgent(HyperGrid(4, 20), hidden=(256, 256), dtype="float32")
    times = []
    for _ in range(16):
        start = time.perf_counter()
        evaluation.terminating_distribution(agent)
        times.append(time.perf_counter() - start)
    first, *later = times
    return {"first": first, "later": report.median_and_range(later)}


def start() -> dict:
    """Median seconds to import, and memory in MB after it: TensorFlow alone, and the package."""
    program = (
        "import time; start = time.perf_counter(); import {}; end = time.perf_counter();"
        "import scenarios; print(end - start, scenarios.peak_memory_mb())"
    )
    results = {}
    for module in ("tensorflow", "gfn_utils"):
        outputs = [run("-c", program.format(module)).split() for _ in range(3)]
        seconds, memory = np.median(np.array(outputs, float), axis=0)
        results[module] = {"seconds": float(seconds), "memory_mb": float(memory)}
    return results


def peak_memory_mb() -> float:
    """The most memory that a process held which trained scenario d."""
    call = ["steady", "--scenario", "d", "--warmup", "20", "--updates", "20", "--repeats", "1"]
    return json.loads(run("time_gfn_utils.py", *call))["peak_memory_mb"]


def run(*call: str) -> str:
    """What a process of its own prints last."""
    command = [sys.executable, *call]
    done = subprocess.run(command, cwd=report.HERE, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def tables(results: dict) -> str:
    rows = []
    for name, found in results["growth"].items():
        values, times = found["values"], found["ms_per_update"]
        pairs = zip(values, times, found["mean_length"], strict=True)
        each = ", ".join(f"{value}: {ms:.3g} ({length:.0f})" for value, ms, length in pairs)
        rows.append([AXIS_NAMES[name], each, f"{found['exponent']:.2f}"])
    header = ["varied", "value: ms (mean length of a trajectory)", "exponent"]
    growth_table = report.markdown_table(header, rows)

    product = results["matrix_product"]
    rows = [
        [
            f"{name}: {SCENARIOS[name].description}",
            f"{product[name]['ms_per_update']:.1f}",
            f"{product[name]['mean_length']:.1f}",
            f"{product[name]['gflops']:.0f}",
            f"{product[name]['share']:.0%}",
            f"{product[name]['step_gflops']:.0f}",
        ]
        for name in ("c", "d")
    ]
    header = ["scenario", "ms", "length", "GFLOP/s", "share", "GFLOP/s of one step's product"]
    product_table = report.markdown_table(header, rows)

    exact, begin = results["exact_distribution_seconds"], results["start"]
    package, tensorflow = begin["gfn_utils"], begin["tensorflow"]
    return "\n\n".join(
        [
            *(["**A trial run: these are not measurements.**"] if results["trial"] else []),
            report.describe(results["machine"]),
            f"Around {results['base']}, after {results['warmup']} updates (exponent: the slope in "
            "the plot, over the upper half of the range):",
            growth_table,
            "The products that one evaluation and one derivative for each step need, as a rate, "
            f"and as a share of the {product['peak_gflops']:.0f} GFLOP/s of 1024³ products on this "
            "machine. The sampler cannot reach that: its steps follow one another, and a step's "
            "product has `batch` rows only (last column).",
            product_table,
            f"The exact terminating distribution on 20×20×20×20 (160,000 states) takes "
            f"{report.with_spread(exact['later'])} s, median (least–greatest), and "
            f"{exact['first']:.2f} s the first time, when the graph of states is made. Importing "
            f"the package takes {package['seconds']:.2f} s and {package['memory_mb']:.0f} MB "
            f"(TensorFlow alone: {tensorflow['seconds']:.2f} s and "
            f"{tensorflow['memory_mb']:.0f} MB); a process that trains scenario d holds at most "
            f"{results['peak_memory_mb']:.0f} MB.",
        ]
    )


def plot(results: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator, ScalarFormatter

    figure, grid = plt.subplots(2, 2, figsize=(8, 6), layout="constrained")
    for axes, (name, found) in zip(grid.flat, results["growth"].items(), strict=True):
        values = np.array(found["values"], float)
        axes.plot(values, found["ms_per_update"], "o", color=report.COLOURS["gfn_utils"])
        upper = values[values >= np.sqrt(values[0] * values[-1])]
        line = found["factor"] * upper ** found["exponent"]
        axes.plot(upper, line, "--", color="black", label=f"slope {found['exponent']:.2f}")
        axes.set(xscale="log", yscale="log", xlabel=AXIS_NAMES[name], xticks=found["values"])
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        report.label_log_axis(axes.yaxis)
        axes.grid(alpha=0.3)
        axes.legend()
    for axes in grid[:, 0]:
        axes.set_ylabel("ms for an update")
    figure.suptitle(f"Each varied alone around {results['base']}", fontsize="medium")
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
