"""Make a course for nbgrader: each lesson becomes an assignment that can be handed out and graded.

    python tools/make_assignments.py FOLDER POINTS [lesson ...]    (all, unless lessons are named)

FOLDER gets source/ (with solutions and tests), release/ (for students), gradebook.db and, unless it
is there, nbgrader_config.py. What students have handed in and their grades are not touched.

The lessons are the only source. In an exercise's cell the lesson's solution follows the stub, and
is marked so that nbgrader cuts it out. The cell of its check becomes hidden tests, worth POINTS.
Grading runs only what the exercises rest on. The other cells have the tag `skip-execution`, which
JupyterLab ignores and nbgrader obeys.
"""

import ast
import os
import re
import sys
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from lessons import LESSONS, code_cells, needed_by_the_exercises, read, solutions, tags
from nbgrader.apps import NbGraderAPI
from stamp_launch_links import LINKS
from traitlets.config import PyFileConfigLoader

FOLDED = re.compile(r"<details><summary>(?:Solution|Answers)</summary>.*?</details>\n*", re.S)
LINK_TO_LESSON = re.compile(r"\[([^]]+)\]\([^):]+\.ipynb\)")
TESTS_ARE_HIDDEN = (
    "# Hidden tests grade exercise {number} here. Try your answer in a cell of your own."
)
INTRODUCTION = (
    "**This is an assignment.** Complete the cells of its {number} exercises. Tests that you don't "
    "see give {points} points for each right answer. Write everything that an answer uses into the "
    "exercise's own cell. You cannot change the cells that the exercises rest on, but you may try "
    "what you like in the others. At the end, save the notebook and hand it in."
)
SETTINGS = '''"""Settings of nbgrader. `make assignments` wrote them, and won't overwrite them."""

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "gflownets"
c.ClearSolutions.code_stub = {"python": ""}  # each exercise has a stub of its own
c.Execute.timeout = 120  # seconds for a cell
'''


def main(folder: str, points: str, *names: str) -> None:
    course, per_exercise = Path(folder).expanduser().resolve(), checked_points(points)
    lessons = checked_lessons(names)
    api = course_at(course)
    for path in lessons:
        release(api, path, per_exercise)
        print(f"{path.stem}: released", flush=True)
    print(f"for students: {course / 'release'}")


def checked_points(points: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,2}", points):
        sys.exit(f"POINTS must be a whole number from 1 to 999, got {points!r}")
    return int(points)


def checked_lessons(names: tuple[str, ...]) -> list[Path]:
    known = {path.stem: path for path in LESSONS}
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"LESSONS must be among {', '.join(known)}; got {', '.join(unknown)}")
    return [known[name] for name in names or known]


def course_at(folder: Path) -> NbGraderAPI:
    """nbgrader's commands for the course in this folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "nbgrader_config.py"
    if not settings.exists():
        settings.write_text(SETTINGS)
    config = PyFileConfigLoader(settings.name, str(folder)).load_config()
    config.CourseDirectory.root = str(folder)
    # To make a gradebook nbgrader calls `alembic`, which lies beside this Python.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return NbGraderAPI(config=config)


def release(api: NbGraderAPI, lesson: Path, points: int) -> None:
    """Write the source of an assignment, and let nbgrader make what students get."""
    source = Path(api.coursedir.root) / "source" / lesson.stem / lesson.name
    source.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(assignment(lesson, points), source)
    made = api.generate_assignment(lesson.stem, force=True, create=True)
    if not made["success"]:
        sys.exit(f"{lesson.stem}: nbgrader could not make the assignment.\n{made['log']}")


def assignment(lesson: Path, points: int) -> nbformat.NotebookNode:
    """A lesson as the source of an assignment, with solutions and tests marked for nbgrader."""
    notebook = read(lesson)
    cells = code_cells(notebook)
    exercises, checks = tagged(cells, "exercise"), tagged(cells, "check")
    answers = solutions(notebook)
    if not len(exercises) == len(checks) == len(answers):
        counts = f"{len(exercises)} exercises, {len(checks)} checks, {len(answers)} solutions"
        raise ValueError(f"{lesson.name} must have as many of each: {counts}")
    mark_what_grading_runs(cells)
    parts = zip(exercises, checks, answers, strict=True)
    for number, (exercise, check, answer) in enumerate(parts, start=1):
        hold_solution(exercise, number, answer)
        hold_tests(check, number, points)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK_TO_LESSON.sub(r"\1", FOLDED.sub("", LINKS.sub("", cell.source)))
    introduction = INTRODUCTION.format(number=len(exercises), points=points)
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(introduction))
    return notebook


def tagged(cells, tag):
    return [cell for cell in cells if tag in tags(cell)]


def mark_what_grading_runs(cells) -> None:
    needed = {cell.id for cell in needed_by_the_exercises(cells)}
    for number, cell in enumerate(cells):
        if cell.id in needed:
            mark(cell, f"given-{number}", locked=True)
        elif not only_defines(cell):
            cell.metadata["tags"] = [*tags(cell), "skip-execution"]


def only_defines(cell) -> bool:
    """Whether it costs nothing to run, and cannot fail: an answer may use what it defines."""
    source = TransformerManager().transform_cell(cell.source)
    return all(map(_is_import_or_plain_function, ast.parse(source).body))


def _is_import_or_plain_function(statement) -> bool:
    if not isinstance(statement, ast.FunctionDef):
        return isinstance(statement, ast.Import | ast.ImportFrom)
    arguments = statement.args
    return not (statement.decorator_list or arguments.defaults or arguments.kw_defaults)


def hold_solution(exercise, number: int, answer: str) -> None:
    """The solution defines anew what the stub has defined, so that both may stand in one cell."""
    exercise.source += f"\n### BEGIN SOLUTION\n{answer}### END SOLUTION"
    mark(exercise, f"exercise-{number}", solution=True)


def hold_tests(check, number: int, points: int) -> None:
    tests = check.source.replace("lesson.check(", "lesson.grade(")
    visible = TESTS_ARE_HIDDEN.format(number=number)
    check.source = f"{visible}\n### BEGIN HIDDEN TESTS\n{tests}\n### END HIDDEN TESTS"
    mark(check, f"tests-{number}", grade=True, locked=True, points=points)


def mark(cell, name: str, solution=False, grade=False, locked=False, **points) -> None:
    kind = {"solution": solution, "grade": grade, "locked": locked, "task": False}
    cell.metadata["nbgrader"] = {"schema_version": 3, "grade_id": name, **kind, **points}


if __name__ == "__main__":
    main(*sys.argv[1:])
