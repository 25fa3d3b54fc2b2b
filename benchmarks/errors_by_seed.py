"""The exact L1 error of all three libraries after the same number of updates, over several seeds.

    python errors_by_seed.py --gfn-utils PYTHON --gfnx PYTHON --torchgfn PYTHON [--quick]

In these scenarios the error after few updates differs more from seed to seed than `compare.py` can
show with its two; a Mann–Whitney test says whether this package's errors are the greater ones. Time
does not matter here, so the machine may be busy. Writes results.json and a table in README.md; an
hour and a quarter.
"""

import compare
import report
from scenarios import SCENARIOS
from scipy.stats import combine_pvalues, mannwhitneyu

UPDATES = {
    name: compare.FULL.warmup + compare.FULL.repeats * compare.FULL.updates[name] for name in "cde"
}
"""By scenario: as many as `compare.py` makes."""
SEEDS = range(2, 14)
"""Others than the two of `compare.py`."""
CHUNK = 50


def main():
    args = compare.parse_arguments(__doc__.splitlines()[0])
    updates = dict.fromkeys(UPDATES, 2 * CHUNK) if args.quick else UPDATES
    folder = report.output_folder(args.output, args.quick)
    errors = {name: {library: [] for library in compare.LIBRARIES} for name in updates}
    for seed in SEEDS[:2] if args.quick else SEEDS:
        for name, total in updates.items():
            call = ["steady", "--scenario", name, "--repeats", "1", "--seed", str(seed)]
            call += ["--warmup", str(total - CHUNK), "--updates", str(CHUNK)]
            for library in compare.LIBRARIES:
                run = compare.measure(getattr(args, library), library, call)
                assert run["total_updates"] == total
                errors[name][library].append(run["l1_error"])
    results = {"trial": args.quick, "updates": updates, "l1_errors": errors}
    text = table(results)
    report.write(folder, "errors", results, text)
    print(f"{text}\n\nWritten to {folder}")


def table(results: dict) -> str:
    rows, p_values = [], []
    for name, errors in results["l1_errors"].items():
        spreads = [
            report.with_spread(report.median_and_range(errors[library]))
            for library in compare.LIBRARIES
        ]
        p_values.append([p_value(errors["gfn_utils"], errors[peer]) for peer in compare.PEERS])
        label = f"{name}: {SCENARIOS[name].description}"
        rows.append([label, str(results["updates"][name]), *spreads, *rounded(p_values[-1])])
    together = [combine_pvalues(each, "stouffer").pvalue for each in zip(*p_values, strict=True)]
    rows.append(["together", "", *[""] * len(compare.LIBRARIES), *rounded(together)])
    header = ["scenario", "updates", *compare.LIBRARIES, *(f"p, {peer}" for peer in compare.PEERS)]
    return report.markdown_table(header, rows)


def p_value(errors: list[float], errors_of_peer: list[float]) -> float:
    """The chance that the first would be greater by as much if both were drawn alike."""
    return mannwhitneyu(errors, errors_of_peer, alternative="greater").pvalue


def rounded(p_values: list[float]) -> list[str]:
    return [f"{p_value:.2f}" for p_value in p_values]


if __name__ == "__main__":
    main()
