"""Time an update on a GPU and on the CPU of the same machine: `python on_gpu.py [--gfnx PYTHON]`.

Float32, scenarios a to e, a larger one, and a Keras model of one's own in scenario d; gfnx beside
them where a Python that has it is given (benchmarks/requirements-gfnx.txt, and JAX for CUDA). Each
measurement is a process of its own. Prints a table in markdown. On a machine without a GPU it says
so, and times the CPU alone. `--quick` is a trial of a few updates.
"""

import argparse
import json
import os
import subprocess
import sys
from typing import NamedTuple

import report
from scenarios import LARGER, SCENARIOS

ON_CPU = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
UPDATES = {"a": 500, "b": 200, "c": 100, "d": 50, "e": 50, "larger": 3}
"""Updates in a repeat."""


class Row(NamedTuple):
    label: str
    scenario: str
    script: str


ROWS = [
    *(
        Row(f"{name}: {scenario.description}", name, "gfn_utils")
        for name, scenario in (SCENARIOS | LARGER).items()
    ),
    Row("d, a Keras model of one's own", "d", "own_network"),
]


def main():
    args = parse_arguments()
    gpus = names_of_gpus()
    print(f"{report.describe(report.machine())}\n")
    print(
        f"GPU: {', '.join(gpus)}.\n" if gpus else "This machine has no GPU that TensorFlow sees.\n"
    )
    devices = {"CPU": ON_CPU} | ({"GPU": {}} if gpus else {})
    header, rows = ["milliseconds for an update"], []
    for row in ROWS:
        cells = []
        for library, python in (("gfn_utils", sys.executable), ("gfnx", args.gfnx)):
            if python is None:
                continue
            for device, environment in devices.items():
                header += [f"{library}, {device}"] if not rows else []
                script = row.script if library == "gfn_utils" else library
                skips = library == "gfnx" and row.script != "gfn_utils"
                cells.append("—" if skips else time_update(python, script, row, environment, args))
        rows.append([row.label, *cells])
    print(report.markdown_table(header, rows))


def time_update(python, script, row, environment, args) -> str:
    """Median (least–greatest) of what a script measures, or why it could not."""
    warmup, repeats, updates = (2, 2, 2) if args.quick else (500, 4, UPDATES[row.scenario])
    if row.scenario in LARGER:
        warmup = min(warmup, 20)
    command = [python, report.HERE / f"time_{script}.py", "steady", "--scenario", row.scenario]
    command += [f"--warmup={warmup}", f"--repeats={repeats}", f"--updates={updates}"]
    print("…", *command[1:], environment, file=sys.stderr, flush=True)
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return "failed"
    result = json.loads(done.stdout.splitlines()[-1])
    return report.with_spread([result[f"ms_per_update{end}"] for end in ("", "_min", "_max")])


def names_of_gpus() -> list[str]:
    """What TensorFlow sees, asked in a process of its own: seeing a GPU takes hold of it."""
    code = (
        "import gfn_utils, tensorflow as tf\n"
        "for gpu in tf.config.list_physical_devices('GPU'):\n"
        "    print(tf.config.experimental.get_device_details(gpu).get('device_name', gpu.name))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gfnx", help="a Python that has gfnx")
    parser.add_argument("--quick", action="store_true", help="a trial of a few updates")
    return parser.parse_args()


if __name__ == "__main__":
    main()
