"""Measure how much memory the kernel of each lesson needs at its peak (Linux only).

    python tools/measure_memory.py [notebook ...]      (`make memory`; without names, all)

Peak is the most that was resident at once. Part of it are files mapped into memory, TensorFlow's
library above all. Kernels on one machine share these: one more kernel costs only its own part.
"""

import pathlib
import re
import sys

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = pathlib.Path(__file__).resolve().parent.parent / "notebooks"
WANTED_MB = 700


def main(names: list[str]) -> None:
    paths = [pathlib.Path(name) for name in names] or sorted(NOTEBOOKS.glob("*.ipynb"))
    print(f"{'lesson':30}{'peak, MB':>10}{'its own, MB':>14}")
    for path in paths:
        peak, files = measure(path)
        note = f"   over {WANTED_MB}" if peak > WANTED_MB else ""
        print(f"{path.stem:30}{peak:10.0f}{peak - files:14.0f}{note}", flush=True)


def measure(path: pathlib.Path) -> tuple[float, float]:
    """Run one lesson; its kernel's peak of resident memory, and the mapped files in it, in MB."""
    readings = []

    def read(cell, cell_index, execute_reply):
        status = pathlib.Path(f"/proc/{client.km.provisioner.pid}/status").read_text()
        kilobytes = dict(re.findall(r"(\w+):\s+(\d+) kB", status))
        readings.append([int(kilobytes[key]) * 1024 / 1e6 for key in ("VmHWM", "RssFile")])

    client = NotebookClient(
        nbformat.read(path, as_version=4),
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_executed=read,
        extra_arguments=["--IPKernelApp.log_level=40"],  # no note about the connection in the table
    )
    client.execute()
    peak, files = readings[-1]
    return peak, files


if __name__ == "__main__":
    main(sys.argv[1:])
