"""The sources of the web site: what they list is whole, and the citation file is valid."""

import json
import pathlib
import re
import sys
import tomllib

import nbformat
import numpy as np
import pytest
import yaml

import gfn_utils
from gfn_utils import evaluation

ROOT = pathlib.Path(__file__).parent.parent
sys.path.append(str(ROOT / "tools"))

import build_site  # noqa: E402
import record_runs  # noqa: E402
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
    assert reached == set(re.findall(r"^(\w[\w -]*)\n  ", text, re.M)) - {"nat"}


@pytest.fixture(scope="module")
def recorded():
    """What the page "Watch it learn" plays back."""
    text = record_runs.RECORDED.read_text()
    return json.loads(text.removeprefix("const RECORDED = ").rstrip(";\n"))


def test_recorded_runs_are_whole_small_and_agree_with_themselves(recorded):
    assert record_runs.RECORDED.stat().st_size < 200_000
    assert recorded["updates"] == record_runs.UPDATES
    assert [run["name"] for run in recorded["runs"]] == [run.name for run in record_runs.RUNS]
    for run, made in zip(recorded["runs"], record_runs.RUNS, strict=True):
        reward = np.exp(made.env.log_reward(made.env.states()))
        np.testing.assert_allclose(run["target"], reward / reward.sum(), atol=1e-5)
        assert run["log_z"] == pytest.approx(np.log(reward.sum()), abs=1e-3)
        assert len(run["frames"]) == len(recorded["updates"])
        for frame in run["frames"]:
            assert sum(frame["learned"]) == pytest.approx(1, abs=1e-3)
            apart = np.abs(np.subtract(frame["learned"], run["target"])).sum()
            assert apart == pytest.approx(frame["error"], abs=1e-3)


def test_what_the_page_says_of_the_recorded_runs_is_so(recorded):
    explored, unexplored, ring = (run["frames"] for run in recorded["runs"])
    assert explored[-1]["error"] < 0.01
    log_z = recorded["runs"][1]["log_z"]
    at_1000 = unexplored[recorded["updates"].index(1000)]
    first_corner = np.reshape(at_1000["learned"], (8, 8))[:4, :4].sum()
    assert first_corner > 0.99
    quarters = np.reshape(unexplored[-1]["learned"], (2, 4, 2, 4)).sum(axis=(1, 3)).ravel()
    assert sorted(quarters > 0.01) == [False, False, True, True]
    assert all(frame["log_z"] < log_z - 1 for frame in unexplored)
    assert all(frame["error"] > 1 for frame in unexplored)
    origin, far = (
        np.reshape(ring[8]["learned"], (8, 8))[part] for part in (np.s_[:4, :4], np.s_[4:, 4:])
    )
    assert origin.sum() > 2 * far.sum()
    assert ring[-1]["error"] < 0.02


def test_a_recorded_run_is_what_training_gives(recorded):
    frames = record_runs.record(record_runs.RUNS[0], record_runs.UPDATES[:4])["frames"]
    assert len(frames) == 4
    for now, then in zip(frames, recorded["runs"][0]["frames"], strict=False):
        np.testing.assert_allclose(now["learned"], then["learned"], atol=1e-3)
        assert now["log_z"] == pytest.approx(then["log_z"], abs=1e-2)


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
