"""pyproject.toml, requirements.txt and environment.yml name the same packages; Colab has them."""

import ast
import pathlib
import re
import sys
import tomllib

import nbformat
import pytest
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).parent.parent

# The same library without the GPU kernels, half the download: what Linux on x86-64 gets.
SAME_LIBRARY = {"tensorflow-cpu": "tensorflow"}


def library(requirement: Requirement) -> str:
    return SAME_LIBRARY.get(requirement.name, requirement.name)


def direct_dependencies() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["course"]
    return [Requirement(line) for line in lines]


def pinned(file: str = "requirements.txt") -> list[Requirement]:
    lines = (ROOT / file).read_text().splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


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


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-colab.txt"])
def test_every_requirement_is_pinned_and_names_no_index(file):
    text = (ROOT / file).read_text()
    assert "://" not in text
    assert "--" not in text
    assert all(str(requirement.specifier).startswith("==") for requirement in pinned(file))


def test_environment_pins_the_direct_dependencies_as_requirements_do():
    requirements = (ROOT / "requirements.txt").read_text().splitlines()
    assert set(conda_pins()) <= set(requirements)
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
    installed = re.search(r"%pip install .*", sources[0])[0].split()
    there = {library(p) for p in pinned("requirements-colab.txt")} | {*installed, "gfn_utils"}
    missing = imported_modules("\n".join(sources)) - sys.stdlib_module_names - there
    assert not missing


def imported_modules(source: str) -> set[str]:
    """The top-level modules that a lesson imports; a distribution of each has the same name."""
    nodes = list(ast.walk(ast.parse(re.sub(r"^( *)%.*", r"\1pass", source, flags=re.M))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


def test_the_browser_requirements_are_pinned_within_their_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements-browser.txt").read_text().splitlines()
    pins = {pin.name: pin.specifier for pin in map(Requirement, lines)}
    assert all(str(specifier).startswith("==") for specifier in pins.values())
    for direct in map(Requirement, project["optional-dependencies"]["browser"]):
        assert direct.specifier.contains(str(pins[direct.name])[2:])
