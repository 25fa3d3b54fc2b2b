"""Where results go: results.json, the tables of README.md, and what is said of the machine."""

import importlib.metadata
import json
import os
import platform
import statistics
import tempfile
from pathlib import Path

HERE = Path(__file__).parent

COLOURS = {"gfn_utils": "#0072B2", "gfnx": "#D55E00", "torchgfn": "#009E73"}
"""Of the palette of Okabe and Ito, which colour-blind readers can tell apart."""
MARKERS = {"gfn_utils": "o", "gfnx": "s", "torchgfn": "^"}


def machine() -> dict:
    """The processor, its cores, and what this environment runs on them."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "tensorflow": tensorflow_version(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def describe(machine: dict) -> str:
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}, TensorFlow {machine['tensorflow']}; "
        f"load before the first run: {machine['load_at_start']}."
    )


def warn_if_busy() -> None:
    load = os.getloadavg()[0]
    if load > 0.25 * os.cpu_count():
        print(f"The machine is busy (load {load:.1f}): these timings will not be worth keeping.")


def output_folder(chosen: Path | None, trial: bool) -> Path:
    """Where results go: the chosen folder, for a trial a temporary one, or else this one."""
    folder = chosen or (Path(tempfile.mkdtemp()) if trial else HERE)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write(folder: Path, section: str, results: dict, table: str) -> None:
    """Put `results` into results.json under `section`, and `table` between its README markers."""
    file = folder / "results.json"
    everything = json.loads(file.read_text()) if file.exists() else {}
    everything[section] = results
    file.write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n")

    readme = folder / "README.md"
    text = (readme if readme.exists() else HERE / "README.md").read_text()
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    readme.write_text(f"{before}{begin}\n{table}\n{end}{after}")


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def median_and_range(values: list[float]) -> list[float]:
    """Median, least and greatest: what `with_spread` prints."""
    return [statistics.median(values), min(values), max(values)]


def with_spread(values: list[float]) -> str:
    """Median (least–greatest), to three digits."""
    middle, low, high = (f"{value:.3g}" if value < 100 else f"{value:.0f}" for value in values)
    return f"{middle} ({low}–{high})"


def label_log_axis(axis) -> None:
    """Plain numbers on a logarithmic axis, also where it spans less than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def tensorflow_version() -> str:
    for name in ("tensorflow", "tensorflow_cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"
