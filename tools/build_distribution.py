"""Build the wheel and the source archive, check them, and try the wheel (`make dist`).

    python tools/build_distribution.py [python ...]     (on PATH or by version: 3.11 3.12)

Both archives are left in build/dist. Each Python that is named (else the one that runs this) gets
two empty environments, one with the newest versions that pyproject.toml allows and one with the
lowest. In both, the wheel has to run the first example of the README.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

from stamp_launch_links import current_repository

ROOT = Path(__file__).resolve().parent.parent
SOURCES, BUILT = ROOT / "build" / "dist-sources", ROOT / "build" / "dist"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
GREATEST_ERROR = 0.01
"""What the README's example may print: its exact L1 error differs a little between versions."""


def main(pythons: list[str]) -> None:
    """Build, check and try; the first thing that is wrong ends it with an error."""
    gather(current_repository(ROOT))
    run(sys.executable, "-m", "build", "--outdir", BUILT, SOURCES)
    wheel, archive = next(BUILT.glob("*.whl")), next(BUILT.glob("*.tar.gz"))
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, archive)
    if missing := missing_files(wheel, archive):
        sys.exit(f"not in the archives: {', '.join(missing)}")
    for python in pythons or [sys.executable]:
        for resolution in ("highest", "lowest-direct"):
            print(f"Python {python}, {resolution}: L1 error {try_wheel(wheel, python, resolution)}")
    print(*BUILT.iterdir(), sep="\n")


def gather(repository: str | None) -> None:
    """Copy what the package is made of, so that nothing left over in the checkout gets in."""
    for folder in (SOURCES, BUILT):
        shutil.rmtree(folder, ignore_errors=True)
    unwanted = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    shutil.copytree(ROOT / "gfn_utils", SOURCES / "gfn_utils", ignore=unwanted)
    for name in ("pyproject.toml", "LICENSE", "CHANGELOG.md", "CITATION.cff"):
        shutil.copy(ROOT / name, SOURCES)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    if repository is None:
        print("No address is set, so the README's links lead nowhere on PyPI: see CONTRIBUTING.md.")
    else:
        readme = with_absolute_links(readme, repository, f"v{PROJECT['version']}")
    (SOURCES / "README.md").write_text(readme, encoding="utf-8")


def with_absolute_links(text: str, repository: str, tag: str) -> str:
    """The text with links and pictures that lead to the repository's files at that tag."""
    relative = r"(?!\w+:|#)([^)]+)\)"
    files, raw = f"https://github.com/{repository}/blob", "https://raw.githubusercontent.com"
    text = re.sub(rf"(!\[[^\]]*\]\(){relative}", rf"\1{raw}/{repository}/{tag}/\2)", text)
    return re.sub(rf"(\]\(){relative}", rf"\1{files}/{tag}/\2)", text)


def missing_files(wheel: Path, archive: Path) -> list[str]:
    """The package's files (code, data, licences of data) and the licence, where one lacks them."""
    wanted = [path.relative_to(SOURCES) for path in SOURCES.rglob("gfn_utils/**/*.*")]
    with zipfile.ZipFile(wheel) as file:
        in_wheel = file.namelist()
    with tarfile.open(archive) as file:
        in_archive = [name.partition("/")[2] for name in file.getnames()]
    missing = [f"{path} in {wheel.name}" for path in wanted if str(path) not in in_wheel]
    missing += [f"{path} in {archive.name}" for path in wanted if str(path) not in in_archive]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in in_wheel):
        missing.append(f"LICENSE in {wheel.name}")
    return missing + [f"LICENSE in {archive.name}"] * ("LICENSE" not in in_archive)


def try_wheel(wheel: Path, python: str, resolution: str) -> float:
    """Run the README's example in an empty environment; the L1 error that it prints."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "uv", "venv", "--quiet", "--python", python, f"{folder}/env")
        inside = Path(folder, "env", "Scripts" if os.name == "nt" else "bin", "python")
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", inside]
        # The bounds are named again, because `lowest-direct` lowers only what is asked for.
        run(*install, "--resolution", resolution, wheel, *PROJECT["dependencies"])
        printed = run(inside, "-I", "-c", example, cwd=folder, capture_output=True)
    error = float(printed)
    if not error < GREATEST_ERROR:
        sys.exit(f"the README's example printed {error}, not less than {GREATEST_ERROR}")
    return error


def run(*command, **options) -> str | None:
    """Run a command; on a failure show what it wrote, and end."""
    done = subprocess.run([str(part) for part in command], text=True, **options)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stdout or ''}{done.stderr or ''}")
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1:])
