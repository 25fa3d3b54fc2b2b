"""Assignments made of the lessons: nothing is given away, and nbgrader pays right answers alone.

nbgrader is not among the course's packages: `make test-teachers` installs it, and runs these tests.
"""

import linecache
import shutil

import matplotlib.pyplot as plt
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from lessons import LESSONS, code_cells, read, solutions, tags
from test_notebooks import wrong_answer
from wrong_answers import WRONG_ANSWERS

pytest.importorskip("nbgrader", reason="needs nbgrader: `make test-teachers` installs it")

import make_assignments
from nbgrader.api import Gradebook, MissingEntry

POINTS = 4
GRADED = "01_environment"
EACH_LESSON = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course of all lessons, as `make assignments` makes it."""
    folder = tmp_path_factory.mktemp("course")
    make_assignments.main(str(folder), str(POINTS))
    return folder


def exercises_of(notebook):
    return [cell for cell in code_cells(notebook) if "exercise" in tags(cell)]


@EACH_LESSON
def test_nothing_is_given_away(course, path):
    lesson, released = read(path), read(course / "release" / path.stem / path.name)
    given = "\n".join(cell.source for cell in released.cells)
    for word in ("<summary>", "BEGIN ", "lesson.check", "lesson.grade", ".ipynb)"):
        assert word not in given, word
    shown = {line.strip() for cell in code_cells(lesson) for line in cell.source.splitlines()}
    secret = {line.strip() for answer in solutions(lesson) for line in answer.splitlines()} - shown
    assert secret
    assert not secret & {line.strip() for line in given.splitlines()}
    assert not any(cell.outputs for cell in code_cells(released))
    stubs = [cell.source for cell in exercises_of(lesson)]
    assert [cell.source.rstrip() for cell in exercises_of(released)] == stubs


@EACH_LESSON
def test_the_hidden_tests_pay_the_solution_and_no_wrong_answer(course, path, monkeypatch, capsys):
    """Of the assignment's source all that nbgrader runs, but not by nbgrader: that takes long."""
    monkeypatch.chdir(path.parent)
    plt.switch_backend("agg")
    right, wrong = iter(solutions(read(path))), iter(WRONG_ANSWERS[path.stem])
    names = {}
    for cell in code_cells(read(course / "source" / path.stem / path.name)):
        if "check" in tags(cell):
            solution = next(right)
            for mistake in next(wrong):
                execute(wrong_answer(mistake, solution), names)
                with pytest.raises(AssertionError, match="✗ Not yet"):
                    execute(cell.source, names)
            execute(solution, names)
            capsys.readouterr()
            execute(cell.source, names)
            assert not capsys.readouterr().err  # nbgrader takes it for an error
        elif "skip-execution" not in tags(cell):
            execute(cell.source, names)
    plt.close("all")
    assert next(right, None) is next(wrong, None) is None


def execute(source, names):
    """Run a cell; its source can be looked up, as in a notebook: TensorFlow rewrites loops."""
    source, file = TransformerManager().transform_cell(source), f"<cell {len(linecache.cache)}>"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    exec(compile(source, file, "exec"), names)


@pytest.mark.filterwarnings("ignore")  # of nbgrader's own use of its database
@pytest.mark.parametrize(("student", "share"), [("right", 1), ("wrong", 0)])
def test_nbgrader_pays_each_right_answer_in_full_and_a_wrong_one_nothing(course, student, share):
    [path] = [path for path in LESSONS if path.stem == GRADED]
    answers = solutions(read(path))
    if student == "wrong":
        mistakes = [of_exercise[0] for of_exercise in WRONG_ANSWERS[GRADED]]
        answers = [wrong_answer(*pair) for pair in zip(mistakes, answers, strict=True)]
    hand_in(course, student, answers)
    api = make_assignments.course_at(course)
    graded = api.autograde(GRADED, student, create=True)
    assert graded["success"], graded["log"]
    assert scores(course, student) == [share * POINTS] * len(answers)


def hand_in(course, student, answers):
    """Save a student's notebook: the answers, and tests struck out, which must not help."""
    handed_in = course / "submitted" / student / GRADED / f"{GRADED}.ipynb"
    handed_in.parent.mkdir(parents=True)
    notebook = read(shutil.copy(course / "release" / GRADED / handed_in.name, handed_in))
    for cell, answer in zip(exercises_of(notebook), answers, strict=True):
        cell.source = answer
    for cell in code_cells(notebook):
        if "check" in tags(cell):
            cell.source = "pass"
    make_assignments.nbformat.write(notebook, handed_in)


def scores(course, student):
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        submission = book.find_submission_notebook(GRADED, GRADED, student)
        return [grade.score for grade in submission.grades]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("0",), "POINTS must be a whole number from 1 to 999, got '0'"),
        (("ten",), "POINTS must be a whole number from 1 to 999, got 'ten'"),
        (("1", "99_none"), "LESSONS must be among 00_start_here, .*; got 99_none"),
    ],
)
def test_bad_settings_are_named_before_anything_is_made(tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        make_assignments.main(str(tmp_path / "course"), *arguments)
    assert not (tmp_path / "course").exists()


def test_making_a_course_again_keeps_its_settings_and_what_was_handed_in(tmp_path):
    make_assignments.main(str(tmp_path), "1", "00_start_here")
    mine = ["nbgrader_config.py", "submitted/ada/00_start_here/00_start_here.ipynb"]
    (tmp_path / mine[1]).parent.mkdir(parents=True)
    for name in mine:
        (tmp_path / name).write_text("c = get_config()  # mine")
    make_assignments.main(str(tmp_path), "2", "00_start_here")
    assert all((tmp_path / name).read_text().endswith("# mine") for name in mine)
    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as book:
        assert book.find_assignment("00_start_here").max_score == 4
        with pytest.raises(MissingEntry):
            book.find_assignment("01_environment")
