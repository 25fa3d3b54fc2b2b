"""Run lessons as Colab would: Colab's versions, only the notebook there, gfn_utils not installed.

    .venv-colab/bin/python tools/run_in_colab_environment.py [notebook ...]     (`make test-colab`)

Each lesson is stamped with a launch address and opened alone in an empty folder, so that its first
cell has to install the package; git is told to find that address in a copy of this checkout. A
lesson passes if no cell raises and it makes the claims of the saved notebook, in the same order.
What they measured, and whatever else is printed, may differ between versions.
"""

import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from stamp_launch_links import ROOT, changed_files, current_repository, replace

REQUIREMENTS = ROOT / "requirements-colab.txt"
SHOWN = ["tensorflow", "keras", "numpy", "matplotlib", "ipython", "ipykernel", "ipywidgets"]
CLAIM = re.compile(r"^✓ (.*?)(?:  \[measured(?: here)?: (.*)\])?$", re.MULTILINE)


def main(names: list[str]) -> None:
    lessons = [pathlib.Path(name) for name in names] or sorted(ROOT.glob("notebooks/*.ipynb"))
    print("Python", sys.version.split()[0], *(f"· {name} {version(name)}" for name in SHOWN))
    os.environ.pop("PYTHONPATH", None)  # it could lead to a gfn_utils that Colab has not
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # the debugger's note on each start
    address = current_repository(ROOT) or "course/gflownets"
    with tempfile.TemporaryDirectory() as folder:
        repository = pathlib.Path(folder, "repository")
        commit_stamped_copy(repository, address)
        redirect_git(f"https://github.com/{address}", repository)
        passed = [run(lesson, repository) for lesson in lessons]
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    sys.exit(not all(passed))


def run(lesson: pathlib.Path, repository: pathlib.Path) -> bool:
    """Run one lesson from a fresh kernel and print a line about it; does it pass?"""
    uninstall_what_colab_lacks()
    notebook = nbformat.read(repository / "notebooks" / lesson.name, as_version=4)
    saved = claims(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []  # else the cells after one that raises would keep theirs
    start, error = time.perf_counter(), ""
    with tempfile.TemporaryDirectory() as content:
        resources = {"metadata": {"path": content}}
        client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources)
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as raised:
            error = str(raised)
    made, installed = claims(notebook), not_in_requirements()
    if not error and list(made) != list(saved):
        error = f"other claims than in the saved notebook: {list(made.keys() ^ saved.keys())}"
    if not error and "gfn-utils" not in installed:
        error = "its first cell did not install gfn_utils: was it importable already?"
    same = len(made.items() & saved.items())
    print(
        f"{'FAILED' if error else 'passed'} {lesson.name}: {time.perf_counter() - start:.0f} s, "
        f"{len(made)} claims, {same} measured as saved, installed {', '.join(sorted(installed))}",
        *filter(None, [error]),
        sep="\n",
        flush=True,
    )
    return not error


def claims(notebook) -> dict[str, str]:
    """Each claim that the notebook's cells printed, in order, with what was measured for it."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    return dict(CLAIM.findall(printed))


def commit_stamped_copy(repository: pathlib.Path, address: str) -> None:
    """What GitHub would hold at that address: this checkout, with the launch links stamped in."""
    for folder in ["gfn_utils", "notebooks"]:
        ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(ROOT / folder, repository / folder, ignore=ignored)
    for file in ["pyproject.toml", "README.md", "LICENSE"]:
        shutil.copy(ROOT / file, repository)
    for path, text in changed_files(repository, address).items():
        replace(path, text)
    author = ["-c", "user.name=course", "-c", "user.email=course@localhost"]
    for command in [["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "The course"]]:
        subprocess.run(["git", *command], cwd=repository, check=True)


def redirect_git(address: str, repository: pathlib.Path) -> None:
    """Let git in the kernels, which inherit this, clone from `repository` what is at `address`."""
    os.environ |= {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
    }


def uninstall_what_colab_lacks() -> None:
    """Each lesson opened on Colab gets a new machine, without what other lessons installed."""
    if extra := not_in_requirements():
        pip = [sys.executable, "-m", "pip", "--quiet", "uninstall", "--yes"]
        subprocess.run([*pip, *extra], check=True)


def not_in_requirements() -> set[str]:
    pins = re.findall(r"^[a-z].*==.*?(?= \\$)", REQUIREMENTS.read_text(), re.M)  # less the hashes
    required = {canonicalize_name(Requirement(pin).name) for pin in pins}
    installed = {canonicalize_name(found.name) for found in importlib.metadata.distributions()}
    return installed - required - {"pip"}


def version(name: str) -> str:
    """The installed version; tensorflow-cpu is the same library as tensorflow."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return importlib.metadata.version(f"{name}-cpu")


if __name__ == "__main__":
    main(sys.argv[1:])
