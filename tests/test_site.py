"""The sources of the web site: what they list is whole, and the citation file is valid."""

import pathlib
import re
import tomllib

import nbformat
import pytest
import yaml

ROOT = pathlib.Path(__file__).parent.parent
ARXIV = re.compile(r"\b(?:1[5-9]|2\d)(?:0[1-9]|1[0-2])\.\d{5}\b")


def texts():
    """Everything in which a paper may be named."""
    for path in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("gfn_utils/**/*.py")]:
        yield path.read_text()
    for path in ROOT.glob("notebooks/*.ipynb"):
        yield "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


def test_every_paper_that_is_named_is_in_the_bibliography():
    bibliography = set(ARXIV.findall((ROOT / "site" / "bibliography.md").read_text()))
    named = {number for text in texts() for number in ARXIV.findall(text)}
    assert len(named) > 15
    assert named <= bibliography, named - bibliography


@pytest.mark.parametrize("page", ["glossary.md", "index.md"])
def test_links_of_the_pages_lead_to_lessons_that_exist(page):
    links = re.findall(r"\]\((notebooks/[^)]+)\)", (ROOT / "site" / page).read_text())
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_citation_file_has_what_the_format_requires():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
