"""pyproject.toml, requirements.txt and environment.yml name the same packages."""

import pathlib
import re
import tomllib

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


def pinned() -> list[Requirement]:
    return [Requirement(line) for line in (ROOT / "requirements.txt").read_text().splitlines()]


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


def test_every_requirement_is_pinned_and_names_no_index():
    text = (ROOT / "requirements.txt").read_text()
    assert "://" not in text
    assert "--" not in text
    assert all(str(requirement.specifier).startswith("==") for requirement in pinned())


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
