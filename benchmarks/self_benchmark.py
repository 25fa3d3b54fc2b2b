"""This package's own row for this machine, without any peer, in under a minute.

python self_benchmark.py
"""

import argparse
import json

import report
import scenarios
import time_gfn_utils

UPDATES = {"a": 500, "b": 200, "c": 40, "d": 20, "e": 20}


def main():
    report.warn_if_busy()
    print(report.describe(report.machine()))
    rows = []
    for name, updates in UPDATES.items():
        args = argparse.Namespace(scenario=name, seed=0, warmup=500, repeats=5, updates=updates)
        result = scenarios.steady(time_gfn_utils.Trainer, args)
        times = [result[f"ms_per_update{suffix}"] for suffix in ("", "_min", "_max")]
        rows.append(
            [
                f"{name}: {scenarios.SCENARIOS[name].description}",
                report.with_spread(times),
                published(name),
                f"{result['first_call_seconds']:.1f}",
            ]
        )
    header = ["scenario", "ms for an update", "in results.json", "first call, s"]
    print(report.markdown_table(header, rows))


def published(name: str) -> str:
    """The time that results.json has, measured on the machine that README.md names."""
    file = report.HERE / "results.json"
    comparison = json.loads(file.read_text()).get("comparison") if file.exists() else None
    if comparison is None:
        return "—"
    return report.with_spread(comparison["steady"][name]["gfn_utils"]["ms_per_update"])


if __name__ == "__main__":
    main()
