"""pyproject.toml, requirements.txt and environment.yml name the same packages; Colab has them.

Inside the package imports go one way.
"""

import ast
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import nbformat
import pytest
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).parent.parent

# The same library without the GPU kernels, half the download: what Linux on x86-64 gets.
SAME_LIBRARY = {"tensorflow-cpu": "tensorflow"}
CPU_ONLY = {"platform_machine": "x86_64", "sys_platform": "linux"}


def library(requirement: Requirement) -> str:
    return SAME_LIBRARY.get(requirement.name, requirement.name)


def direct_dependencies() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["course"]
    return [Requirement(line) for line in lines]


def pins_and_hashes(file: str = "requirements.txt") -> dict[str, list[str]]:
    """The hashes of each pin, `{"name==version ; marker": ["sha256:…"]}`."""
    text = re.sub("^#.*\n", "", (ROOT / file).read_text(), flags=re.M).replace("\\\n", "")
    parts = [line.split(" --hash=") for line in text.splitlines()]
    return {pin.strip(): [each.strip() for each in hashes] for pin, *hashes in parts}


def pinned(file: str = "requirements.txt") -> list[Requirement]:
    return [Requirement(pin) for pin in pins_and_hashes(file)]


def conda_pins() -> list[str]:
    lines = (ROOT / "environment.yml").read_text().splitlines()
    return [line.strip()[2:] for line in lines if "==" in line]


def test_requirements_pin_every_direct_dependency_within_its_bounds():
    for direct in direct_dependencies():
        versions = [p.specifier for p in pinned() if library(p) == direct.name]
        assert versions, f"{direct.name} is not pinned"
        for specifier in versions:
            version = re.fullmatch(r"==(.+)", str(specifier))[1]
            assert direct.specifier.contains(version), f"{direct} does not allow {version}"


@pytest.mark.parametrize(
    "file",
    [
        f"requirements{part}.txt"
        for part in ("", "-colab", "-browser", "-site", "-release", "-teachers")
    ],
)
def test_every_requirement_is_pinned_with_hashes_and_names_no_index(file):
    text = (ROOT / file).read_text()
    assert "://" not in text
    assert text.count("--") == text.count("    --hash=")
    assert all(str(requirement.specifier).startswith("==") for requirement in pinned(file))
    for pin, hashes in pins_and_hashes(file).items():
        assert hashes, f"{pin} has no hash"
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in hashes)


def test_both_names_of_tensorflow_are_pinned_at_one_version_and_never_together():
    for file in ("requirements.txt", "requirements-colab.txt"):
        cpu, gpu = (
            next(pin for pin in pinned(file) if pin.name == name)
            for name in ("tensorflow-cpu", "tensorflow")
        )
        assert cpu.specifier == gpu.specifier
        for machine in ("x86_64", "aarch64", "arm64"):
            for system in ("linux", "darwin", "win32"):
                place = {"platform_machine": machine, "sys_platform": system}
                assert cpu.marker.evaluate(place) == (place == CPU_ONLY)
                assert gpu.marker.evaluate(place) == (place != CPU_ONLY)


def test_environment_pins_the_direct_dependencies_as_requirements_do():
    assert set(conda_pins()) <= set(pins_and_hashes())
    names = {library(Requirement(line)) for line in conda_pins()}
    assert names == {direct.name for direct in direct_dependencies()}


def test_environment_names_one_python_that_the_project_allows():
    version = re.search(r"- python=(\S+)", (ROOT / "environment.yml").read_text())[1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert version == "3.12"
    assert Requirement(f"python{project['requires-python']}").specifier.contains(version + ".0")


def test_colab_has_what_the_package_needs_within_its_bounds():
    """There the package is installed with --no-deps: pip does not look."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    colab = {library(p): str(p.specifier)[2:] for p in pinned("requirements-colab.txt")}
    for needed in map(Requirement, project["dependencies"]):
        assert needed.specifier.contains(colab[needed.name]), f"{needed}: {colab[needed.name]}"


@pytest.mark.parametrize("path", sorted(ROOT.glob("notebooks/*.ipynb")), ids=lambda p: p.stem)
def test_colab_has_what_a_lesson_imports_or_its_first_cell_installs_it(path):
    sources = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    installed = [asked.name for asked in asked_of_pip(sources[0])]
    there = {library(p) for p in pinned("requirements-colab.txt")} | {*installed, "gfn_utils"}
    missing = imported_modules("\n".join(sources)) - sys.stdlib_module_names - there
    assert not missing


def asked_of_pip(source: str) -> list[Requirement]:
    """The distributions that the pip commands of a cell name, with their bounds."""
    words = shlex.split(" ".join(re.findall(r"%pip install (.*)", source)))
    return [Requirement(word) for word in words if word[0] not in "-."]


def test_what_a_lesson_installs_is_what_its_extra_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = {*map(Requirement, project["optional-dependencies"]["multi_objective"])}
    asked = set()
    for path in ROOT.glob("notebooks/11*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        asked |= {*asked_of_pip("\n".join(c.source for c in cells if c.cell_type == "code"))}
    assert asked == extra
    assert extra <= {*map(Requirement, project["optional-dependencies"]["course"])}


def imported_modules(source: str) -> set[str]:
    """The top-level modules that a lesson imports; a distribution of each has the same name."""
    nodes = list(ast.walk(ast.parse(re.sub(r"^( *)%.*", r"\1pass", source, flags=re.M))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("extra", ["browser", "site", "release", "teachers"])
def test_the_requirements_of_an_extra_are_pinned_within_its_bounds(extra):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {pin.name: pin.specifier for pin in pinned(f"requirements-{extra}.txt")}
    for direct in map(Requirement, project["optional-dependencies"][extra]):
        assert direct.specifier.contains(str(pins[direct.name])[2:])


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/workflows/*")), ids=lambda p: p.name)
def test_every_action_is_pinned_by_its_commit(path):
    used = re.findall(r"uses: (?!\./)(.*)", path.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def checked_imports(folder: pathlib.Path) -> subprocess.CompletedProcess:
    """What import-linter says of the package in this folder, by the rule in its pyproject.toml."""
    lint_imports = pathlib.Path(sys.executable).with_name("lint-imports")
    command = [lint_imports, "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_imports_go_one_way():
    found = checked_imports(ROOT)
    assert found.returncode == 0, found.stdout
    assert "1 kept, 0 broken" in found.stdout


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        (
            "environments/base.py",
            "import gfn_utils.policy",
            r"environments is not allowed to import gfn_utils\.policy",
        ),
        (
            "agent.py",
            "from gfn_utils.classroom import lesson",
            r"agent is not allowed to import gfn_utils\.classroom",
        ),
        (
            "sampling.py",
            "def later():\n    from gfn_utils import GFNAgent",
            r"sampling is not allowed to import gfn_utils\.agent",
        ),
        (
            "evaluation/exact.py",
            "from gfn_utils.losses import OBJECTIVES",
            r"evaluation is not allowed to import gfn_utils\.losses",
        ),
        ("no_place_yet.py", "", r"gfn_utils\.no_place_yet"),
    ],
)
def test_an_import_the_other_way_or_a_module_without_a_place_is_found(
    module, line, complaint, tmp_path
):
    shutil.copytree(ROOT / "gfn_utils", tmp_path / "gfn_utils")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "gfn_utils" / module).open("a") as file:
        file.write(f"\n{line}\n")
    found = checked_imports(tmp_path)
    assert found.returncode == 1
    assert re.search(complaint, found.stdout), found.stdout
