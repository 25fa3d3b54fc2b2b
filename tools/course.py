"""Set up the course, open it, test it: the same three commands on every system.

    python tools/course.py setup             make .venv, with the pinned packages
    python tools/course.py lab [folder]      set up, and open your own copies of the lessons
    python tools/course.py test [path ...]   set up, and run every test and every notebook

They need Python 3.11, 3.12 or 3.13, and nothing else. On Windows write `py` instead of `python`.
The Makefile calls the same commands. `lab notebooks` opens the lessons themselves, to change them.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import my_notebooks

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
READY = VENV / "ready"
VERSIONS = [(3, 11), (3, 12), (3, 13)]
SIZES = "about 520 MB on Linux, 2.3 GB once installed"


def main(command: str = "help", *arguments: str) -> int:
    """Run one command; its exit status."""
    commands = {"setup": set_up, "lab": lab, "test": test}
    if command not in commands:
        print(__doc__)
        return 0 if command == "help" else 2
    return commands[command](*arguments)


def set_up() -> int:
    """Make .venv if there is none, or fill it again if what it should hold has changed."""
    wanted = [ROOT / "requirements.txt", ROOT / "pyproject.toml"]
    if READY.exists() and READY.stat().st_mtime >= max(path.stat().st_mtime for path in wanted):
        return 0
    if sys.version_info[:2] not in VERSIONS:
        print(f"The course needs Python 3.11, 3.12 or 3.13. This is {sys.version.split()[0]}.")
        return 2
    print(f"Setting up .venv. pip downloads the packages ({SIZES}) and then installs", flush=True)
    print("them, which takes a few minutes.", flush=True)
    install = [PYTHON, "-m", "pip", "install"]
    failed = (
        run(sys.executable, "-m", "venv", VENV)
        or run(*install, "--require-hashes", "-r", ROOT / "requirements.txt")
        or run(*install, "--no-deps", "--no-build-isolation", "-e", ROOT)
    )
    if not failed:
        READY.touch()
    return failed


def lab(folder: str = my_notebooks.FOLDER) -> int:
    """Open the first lesson in JupyterLab."""
    if failed := set_up():
        return failed
    if folder == my_notebooks.FOLDER:
        my_notebooks.copy()
    start = f"--LabApp.default_url=/lab/tree/{folder}/00_start_here.ipynb"
    as_root = ["--allow-root"] if hasattr(os, "getuid") and os.getuid() == 0 else []
    return run(PYTHON, "-m", "jupyterlab", "--ip=localhost", *as_root, start)


def test(*paths: str) -> int:
    """Run these tests and notebooks, or all."""
    notebooks = ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=300"]
    notebooks.append(f"--nbval-sanitize-with={ROOT / 'tests' / 'nbval_sanitize.cfg'}")
    # The lessons first: what is long must not be left to the end, where one core would wait.
    everything = ["--ignore=tests/browser", "notebooks", "tests"]
    two_at_a_time = ["-n", "2", "--dist", "loadscope", "--no-loadscope-reorder"]
    return set_up() or run(
        PYTHON, "-m", "pytest", *two_at_a_time, *notebooks, *(paths or everything)
    )


def run(*command) -> int:
    """Run a command in the checkout, with its output on the screen; its exit status."""
    utf8 = os.environ | {"PYTHONUTF8": "1"}  # Windows would read files in an encoding of its own
    return subprocess.run([str(part) for part in command], cwd=ROOT, env=utf8).returncode


if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the command that runs; we wait
    sys.exit(main(*sys.argv[1:]))
