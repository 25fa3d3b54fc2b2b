"""The sources of the web site: what they list is whole, and the citation file is valid."""

import pathlib
import re
import sys
import tomllib

import nbformat
import pytest
import yaml

import gfn_utils
from gfn_utils import evaluation

ROOT = pathlib.Path(__file__).parent.parent
sys.path.append(str(ROOT / "tools"))

import build_site  # noqa: E402
import stamp_launch_links as links  # noqa: E402

ARXIV = re.compile(r"\b(?:1[5-9]|2\d)(?:0[1-9]|1[0-2])\.\d{5}\b")


def texts():
    """Everything in which a paper may be named."""
    for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("gfn_utils/**/*.py")]:
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
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()
    readme = (ROOT / "README.md").read_text()
    assert "(CITATION.cff)" in readme
    assert "(CHANGELOG.md)" in readme


def test_badges_of_a_stamped_readme_are_left_out_since_other_hosts_serve_their_pictures():
    text = links.stamp_readme((ROOT / "README.md").read_text(), "someone/course", None)
    assert "badge" in text
    assert "badge" not in build_site.led_to_pages(text)


def test_every_lesson_leads_to_the_glossary_and_every_entry_is_reached():
    text = (ROOT / "site" / "glossary.md").read_text()
    reached = set()
    for lesson in ROOT.glob("notebooks/[0-9]*.ipynb"):
        named = build_site.symbols_of(lesson.name)
        assert "../glossary.md" in named
        reached |= set(re.findall(r"{term}`([^`]+)`", named))
    assert reached == set(re.findall(r"^(\w[\w ]*)\n  ", text, re.M)) - {"nat"}


def test_the_reference_has_every_public_name():
    reference = (ROOT / "site" / "api.md").read_text()
    named = set(re.findall(r"auto\w+:: ([\w.]+)", reference))
    assert {*gfn_utils.__all__} - {"evaluation"} <= named
    for name in evaluation.__all__:
        assert getattr(evaluation, name).__module__ in named, name


def test_the_three_lines_of_the_landing_page_train_an_agent():
    code = re.search(r"```python\n(.*?)```", (ROOT / "site" / "index.md").read_text(), re.S)[1]
    assert len(code.splitlines()) == 3
    names = {}
    exec(code, names)
    agent = names["agent"]
    learned = evaluation.terminating_distribution(agent)
    assert evaluation.l1_error(learned, agent.env.target()) < 0.05
