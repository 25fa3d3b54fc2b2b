"""Time this package, gfnx and torchgfn on the same work, side by side in one run.

    python compare.py --gfn-utils PYTHON --gfnx PYTHON --torchgfn PYTHON [--quick]

Every measurement is a process of its own; the libraries take turns, in another order each round,
so that a slow minute of the machine falls on all of them. Writes runs.jsonl (what the scripts
printed), results.json, the tables in README.md, speed.png and cold_start.png; with --quick, a trial
of a few minutes, to a folder apart.
"""

import argparse
import json
import math
import statistics
import subprocess
from pathlib import Path
from typing import NamedTuple

import report
from scenarios import COLD_STARTS, SCENARIOS

LIBRARIES = ("gfn_utils", "gfnx", "torchgfn")
PEERS = LIBRARIES[1:]
THRESHOLDS = ("0.1", "0.05", "0.01")


class Plan(NamedTuple):
    rounds: int
    """How often each measurement is made, each time with another seed."""
    warmup: int
    repeats: int
    updates: dict[str, int]
    """Updates in a repeat, by scenario: more where one is short."""
    limit: int
    """Seconds after which a cold start is given up."""
    count: int
    """Trajectories to sample."""


FULL = Plan(2, 500, 4, {"a": 500, "b": 200, "c": 100, "d": 50, "e": 50}, limit=90, count=100_000)
QUICK = Plan(1, 5, 2, {"a": 20, "b": 5, "c": 5, "d": 2, "e": 2}, limit=10, count=1_000)


def main():
    args = parse_arguments(__doc__.splitlines()[0])
    plan = QUICK if args.quick else FULL
    folder = report.output_folder(args.output, args.quick)
    report.warn_if_busy()
    machine = report.machine()
    runs = []
    with (folder / "runs.jsonl").open("w") as file:
        for library, call in schedule(plan):
            runs.append(measure(getattr(args, library), library, call))
            print(json.dumps(runs[-1]), file=file, flush=True)

    results = summarise(runs) | {"trial": args.quick, "machine": machine}
    text = tables(results, plan)
    report.write(folder, "comparison", results, text)
    plot_speed(results, folder / "speed.png")
    plot_cold_start(results, folder / "cold_start.png")
    print(f"{text}\n\nWritten to {folder}")


def schedule(plan: Plan):
    """(library, arguments of its script) in the order in which they are run."""
    calls = []
    for number in range(plan.rounds):
        seed = ["--seed", number]
        warmup = ["--warmup", plan.warmup, "--repeats", plan.repeats]
        for name, updates in plan.updates.items():
            calls.append(["steady", "--scenario", name, *warmup, "--updates", updates, *seed])
        for height in COLD_STARTS:
            calls.append(["cold", "--height", height, "--limit", plan.limit, *seed])
        calls.append(["sample", "--scenario", "a", *warmup, "--count", plan.count, *seed])
    for number, call in enumerate(calls):
        first = number % len(LIBRARIES)
        for library in LIBRARIES[first:] + LIBRARIES[:first]:
            yield library, [str(word) for word in call]


def measure(python: str, library: str, call: list[str]) -> dict:
    """Run one script, and return what it printed."""
    print(library, *call, flush=True)
    script = report.HERE / f"time_{library}.py"
    done = subprocess.run([python, script, *call], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}\n{library} {' '.join(call)} failed")
    return json.loads(done.stdout.splitlines()[-1])


def summarise(runs) -> dict:
    steady = summarise_steady(runs)
    return {
        "versions": {run["library"]: run["version"] for run in runs},
        "steady": steady,
        "geometric_mean_ratio": statistics.geometric_mean(row["ratio"] for row in steady.values()),
        "cold": summarise_cold(runs),
        "sample": summarise_sample(runs),
        "import_seconds": {
            library: statistics.median(run["import_seconds"] for run in select(runs, library))
            for library in LIBRARIES
        },
    }


def summarise_steady(runs) -> dict:
    rows = {}
    for name in SCENARIOS:
        row = {}
        for library in LIBRARIES:
            chosen = select(runs, library, "steady", scenario=name)
            row[library] = {
                "ms_per_update": pooled(chosen, "ms_per_update"),
                **{
                    key: statistics.median(run[key] for run in chosen)
                    for key in ("l1_error", "mean_length", "first_call_seconds", "peak_memory_mb")
                },
            }
        medians = {library: row[library]["ms_per_update"][0] for library in LIBRARIES}
        row["ratio"] = min(medians[peer] for peer in PEERS) / medians["gfn_utils"]
        row["total_updates"] = chosen[0]["total_updates"]
        rows[name] = row
    return rows


def summarise_cold(runs) -> dict:
    """Median seconds and updates to each threshold; None where most did not reach it in time."""
    rows = {}
    for height, scenario in COLD_STARTS.items():
        for threshold in THRESHOLDS:
            row = rows[f"{scenario.grid}, {threshold}"] = {}
            for library in LIBRARIES:
                chosen = select(runs, library, "cold", height=height)
                answers = [run["reached"][threshold] for run in chosen]
                row[library] = {
                    key: finite(statistics.median(a[key] if a else math.inf for a in answers))
                    for key in ("seconds", "updates")
                }
    return rows


def summarise_sample(runs) -> dict:
    rows = {}
    for library in LIBRARIES:
        chosen = select(runs, library, "sample")
        rows[library] = {
            "seconds": pooled(chosen, "seconds"),
            "first_call_seconds": statistics.median(run["first_call_seconds"] for run in chosen),
            "mean_length": statistics.median(run["mean_length"] for run in chosen),
        }
    return rows


def select(runs, library, command=None, **values):
    return [
        run
        for run in runs
        if run["library"] == library
        and command in (None, run["command"])
        and all(run[key] == value for key, value in values.items())
    ]


def pooled(runs, name):
    """Median, least and greatest of all repeats of all rounds."""
    return report.median_and_range([value for run in runs for value in run[f"{name}_each"]])


def finite(value):
    return None if math.isinf(value) else value


def tables(results: dict, plan: Plan) -> str:
    """All tables of the README, with the machine and the versions above them."""
    versions = "; ".join(f"{name} {version}" for name, version in results["versions"].items())
    trial = ["**A trial run: these are not measurements.**"] if results["trial"] else []
    seeds = f"{plan.rounds} processes" if plan.rounds > 1 else "one process"
    return "\n\n".join(
        [
            *trial,
            f"{report.describe(results['machine'])} {versions}.",
            f"Milliseconds for an update after {plan.warmup} of them: median (least–greatest) of "
            f"{plan.repeats} repeats in each of {seeds}, and how much faster this package is than "
            "the faster peer.",
            speed_table(results),
            "After the same number of updates (median of the processes): the exact L1 error "
            "Σ|P_T − R/Z|, the mean length of a trajectory; seconds of the first call, in which "
            "programs are compiled; the most memory held, in MB.",
            quality_table(results),
            "Seconds from the start of the process (import, compile, train) until the exact L1 "
            "error is below a threshold, and the updates made by then; median of the processes.",
            cold_table(results, plan),
            f"Seconds to sample {plan.count:,} trajectories of scenario a, after {plan.warmup} "
            "updates; and to import the library.",
            sample_table(results),
        ]
    )


def speed_table(results):
    rows = []
    for name, row in results["steady"].items():
        times = [report.with_spread(row[library]["ms_per_update"]) for library in LIBRARIES]
        label = f"{name}: {SCENARIOS[name].description}"
        rows.append([label, *times, f"{row['ratio']:.1f}×"])
    mean = results["geometric_mean_ratio"]
    rows.append(["geometric mean", "", "", "", f"**{mean:.1f}×**"])
    return report.markdown_table(["scenario", *LIBRARIES, "faster by"], rows)


def quality_table(results):
    rows = []
    keys = {"l1_error": ".3f", "mean_length": ".1f", "first_call_seconds": ".1f"}
    for name, row in results["steady"].items():
        for library in LIBRARIES:
            values = [format(row[library][key], style) for key, style in keys.items()]
            memory = f"{row[library]['peak_memory_mb']:.0f}"
            first = [name, str(row["total_updates"])] if library == LIBRARIES[0] else ["", ""]
            rows.append([*first, library, *values, memory])
    header = ["scenario", "updates", "library", "exact L1", "length", "first call", "memory"]
    return report.markdown_table(header, rows)


def cold_table(results, plan):
    rows = []
    for name, row in results["cold"].items():
        grid, threshold = name.split(", ")
        cells = [
            f"{answer['seconds']:.1f} ({answer['updates']:.0f})"
            if answer["seconds"] is not None
            else f"not in {plan.limit}"
            for answer in (row[library] for library in LIBRARIES)
        ]
        rows.append([grid, threshold, *cells])
    return report.markdown_table(["grid", "L1 below", *LIBRARIES], rows)


def sample_table(results):
    sample = results["sample"]
    return report.markdown_table(
        ["", *LIBRARIES],
        [
            ["sample", *(report.with_spread(sample[library]["seconds"]) for library in LIBRARIES)],
            [
                "sample, first call",
                *(f"{sample[library]['first_call_seconds']:.2f}" for library in LIBRARIES),
            ],
            ["mean length", *(f"{sample[library]['mean_length']:.1f}" for library in LIBRARIES)],
            ["import", *(f"{results['import_seconds'][library]:.2f}" for library in LIBRARIES)],
        ],
    )


def plot_speed(results, path):
    rows = {
        f"{name}: {SCENARIOS[name].description}": {
            library: row[library]["ms_per_update"] for library in LIBRARIES
        }
        for name, row in results["steady"].items()
    }
    notes = [f"{row['ratio']:.1f}×" for row in results["steady"].values()]
    title = "One update: median and range (right: times faster than the faster peer)"
    plot_dots(rows, notes, "milliseconds for an update (logarithmic)", title, path)


def plot_cold_start(results, path):
    rows = {
        f"{name.split(', ')[0]} to L1 {name.split(', ')[1]}": {
            library: [row[library]["seconds"]] * 3
            for library in LIBRARIES
            if row[library]["seconds"] is not None
        }
        for name, row in results["cold"].items()
    }
    title = "From the start of the process to an exact L1 error (no mark: not in time)"
    plot_dots(rows, [""] * len(rows), "seconds (logarithmic)", title, path)


def plot_dots(rows: dict, notes: list[str], x_label: str, title: str, path: Path):
    """One line a row, one mark a library: its median, with a bar from least to greatest."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.45 * len(rows) + 1.5), layout="constrained")
    for library in LIBRARIES:
        shown = [(y, row[library]) for y, row in enumerate(rows.values()) if library in row]
        axes.errorbar(
            [values[0] for _, values in shown],
            [y for y, _ in shown],
            xerr=[
                [values[0] - values[1] for _, values in shown],
                [values[2] - values[0] for _, values in shown],
            ],
            fmt=report.MARKERS[library],
            color=report.COLOURS[library],
            capsize=3,
            label=library,
        )
    for y, note in enumerate(notes):
        axes.text(1.01, y, note, transform=axes.get_yaxis_transform(), va="center")
    axes.set(xscale="log", xlabel=x_label, yticks=range(len(rows)), yticklabels=rows)
    report.label_log_axis(axes.xaxis)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    figure.suptitle(title, fontsize="medium")
    figure.legend(ncols=len(LIBRARIES), loc="outside lower center")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def parse_arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    for library in LIBRARIES:
        flag = "--" + library.replace("_", "-")
        parser.add_argument(flag, metavar="PYTHON", required=True, help=f"Python with {library}")
    parser.add_argument("--quick", action="store_true", help="a trial of a few minutes")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
