"""The kit for teachers: notes on every lesson, and slides that keep what a class should see."""

import pathlib
import re

import make_slides
import pytest
from lessons import LESSONS, read, solutions

ROOT = pathlib.Path(__file__).parent.parent
NOTES = (ROOT / "docs" / "teaching" / "notes.md").read_text()
SYLLABUS = (ROOT / "docs" / "teaching" / "syllabus.md").read_text()
PARTS = ["Goals", "In class", "What students get wrong", "Questions to ask", "Short version"]
EACH_LESSON = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def number_of(path):
    return path.stem.split("_")[0]


@EACH_LESSON
def test_there_are_notes_on_every_lesson(path):
    [notes] = re.findall(rf"^## {number_of(path)} · .*?(?=^## |\Z)", NOTES, re.M | re.S)
    assert f"](../../notebooks/{path.name})" in notes
    assert [part for part in PARTS if f"**{part}" in notes] == PARTS
    assert notes.count("\n- *") >= 3  # questions


def test_the_notes_give_the_times_of_the_map():
    rows = re.findall(r"^\| \[(\w+) · .*\| ([^|]+) \| ([^|]+) \|$", readme(), re.M)
    assert len(rows) == len(LESSONS)
    for number, to_read, to_run in rows:
        assert f"\n| {number} | {to_read} | {to_run} | " in NOTES


def readme():
    return (ROOT / "README.md").read_text()


def test_the_times_in_class_are_those_of_the_plans():
    planned = dict(re.findall(r"^\| (\w+) \| \d.*?\| (\d+) min \| exercise", NOTES, re.M))
    found = re.findall(r"^## (\w+) · [^#]*?\*\*In class \((\d+) min\)\.\*\* (.*)$", NOTES, re.M)
    assert {number: minutes for number, minutes, _ in found} == planned
    for number, minutes, plan in found:
        assert sum(map(int, re.findall(r"(\d+) min:", plan))) == int(minutes), number


def test_links_of_the_teaching_pages_lead_somewhere():
    for page in (ROOT / "docs" / "teaching").glob("*.md"):
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        assert links
        for link in links:
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_syllabus_has_every_lesson_and_its_shares_add_up():
    for path in LESSONS:
        assert f"](../../notebooks/{path.name})" in SYLLABUS
    assert sum(map(int, re.findall(r"\| (\d+) % \|", SYLLABUS))) == 100
    assert sum(map(int, re.findall(r"\| (\d+) \|$", SYLLABUS, re.M))) == 10


def slides_as_lists(notebook):
    """The cells of each slide, without the notes; and the notes."""
    slides, notes = [], []
    for cell in notebook.cells:
        kind = cell.metadata["slideshow"]["slide_type"]
        if kind == "notes":
            notes.append(cell.source)
        elif kind == "-":
            slides[-1].append(cell)
        else:
            slides.append([cell])
    return slides, "\n".join(notes)


def has_picture(cell):
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


@EACH_LESSON
def test_slides_keep_headings_and_pictures_and_leave_solutions_to_the_notes(path):
    lesson = read(path)
    slides, notes = slides_as_lists(make_slides.slides_of(path))
    shown = "\n".join(cell.source for slide in slides for cell in slide)
    prose = "\n".join(cell.source for cell in lesson.cells if cell.cell_type == "markdown")
    assert re.findall(r"^##? .*", shown, re.M) == re.findall(r"^##? .*", prose, re.M)
    pictures = sum(map(has_picture, lesson.cells))
    assert sum(has_picture(cell) for slide in slides for cell in slide) == pictures
    for slide in slides:
        if any(map(has_picture, slide)):
            assert any("*What to see:*" in cell.source for cell in slide), slide
    for solution in solutions(lesson):
        assert solution in notes
        assert solution not in shown


@pytest.mark.parametrize(
    ("paragraph", "core"),
    [
        ("Short. And whole.", "Short. And whole."),
        ("First. " + "Some more. " * 40 + "The **term** is here.", "First. The **term** is here."),
        ("First. " + "Some more. " * 40 + "It is this:", "First. It is this:"),
        ("One (a. B) and $c. D$ make one. " + "More. " * 60, "One (a. B) and $c. D$ make one."),
    ],
)
def test_of_a_long_paragraph_the_first_sentence_and_its_terms_are_kept(paragraph, core):
    assert make_slides.core_of(paragraph.strip()) == core
