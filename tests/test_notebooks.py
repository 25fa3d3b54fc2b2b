"""Every lesson is saved as a clean run, and its exercises tell right from wrong."""

import itertools
import re

import matplotlib.pyplot as plt
import pytest
from IPython.core.interactiveshell import InteractiveShell
from kernels import tried_again
from lessons import (
    LESSONS,
    NOTEBOOKS,
    code_cells,
    names_of,
    needed_by_the_exercises,
    read,
    run,
    solutions,
    tags,
)
from wrong_answers import WRONG_ANSWERS

LONGEST_CELL = 25
LARGEST_NOTEBOOK = 600_000
LARGEST_COURSE = 5_000_000
SHORTEST_TEXT = 60


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_saved_as_one_clean_run(path):
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    for cell in cells:
        assert cell.source.count("\n") < LONGEST_CELL, cell.source
        names = [output.get("name") for output in cell.outputs]
        assert not any(a == b and a for a, b in itertools.pairwise(names)), cell.source
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_picture_is_followed_by_what_to_see(path):
    notebook = read(path)
    for cell, *following in zip(
        notebook.cells, notebook.cells[1:], [*notebook.cells[2:], None], strict=False
    ):
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            texts = [c.source for c in following if c is not None and c.cell_type == "markdown"]
            assert any("*What to see:*" in text for text in texts), cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_picture_is_described_for_those_who_cannot_see_it(path):
    for cell in code_cells(read(path)):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                text = output.data.get("text/plain", "")
                assert len(text) >= SHORTEST_TEXT, (text, cell.source)
                assert not text.startswith("<"), (text, cell.source)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_code_that_only_guards_is_folded_in_jupyterlab_and_on_the_site(path):
    for cell in read(path).cells:
        folded = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert folded == ("hide-input" in tags(cell)), cell.source


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_no_later_cell_rests_on_what_a_check_binds(path):
    """`make assignments` hides the checks from students."""
    hidden = set()
    for cell in code_cells(read(path)):
        changed, read_here = names_of(cell.source)
        if "check" in tags(cell):
            hidden |= changed
        else:
            assert not (hidden & read_here) - changed, cell.source
            hidden -= changed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_between_lessons_lead_somewhere(path):
    for cell in read(path).cells:
        for target in re.findall(r"\]\(([^):]+\.ipynb)\)", cell.source):
            assert (path.parent / target).exists(), target


def test_notebooks_are_small():
    sizes = [path.stat().st_size for path in NOTEBOOKS]
    assert max(sizes) < LARGEST_NOTEBOOK
    assert sum(sizes) < LARGEST_COURSE


def test_wrong_answers_are_listed_for_every_lesson():
    assert set(WRONG_ANSWERS) == {path.stem for path in LESSONS}


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_exercises_accept_the_solution_and_nothing_else(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    plt.switch_backend("agg")
    notebook = read(path)
    right, wrong = iter(solutions(notebook)), iter(WRONG_ANSWERS[path.stem])
    shell = InteractiveShell()
    checks = 0
    for cell in needed_by_the_exercises(code_cells(notebook)):
        run(shell, cell.source)
        if "check" in tags(cell):
            solution = next(right)
            for mistake in next(wrong):
                run(shell, wrong_answer(mistake, solution))
                assert "✗ Not yet" in run(shell, cell.source), mistake
            run(shell, solution)
            assert "✓ Right" in run(shell, cell.source)
            checks += 1
    plt.close("all")
    assert checks >= 2
    assert next(right, None) is None
    assert next(wrong, None) is None


def wrong_answer(mistake, solution):
    if isinstance(mistake, str):
        return mistake
    part, instead = mistake
    assert solution.count(part) == 1, mistake
    return solution.replace(part, instead)


@pytest.mark.parametrize("n_deaths", [0, 2, 3])
def test_a_kernel_that_dies_before_it_answers_is_started_again(n_deaths):
    asked = []

    def start(name, timeout):
        asked.append((name, timeout))
        if len(asked) <= n_deaths:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return len(asked)

    if n_deaths == 3:
        with pytest.raises(RuntimeError, match="Kernel died"):
            tried_again(start)("python", timeout=60)
    else:
        assert tried_again(start)("python", timeout=60) == n_deaths + 1
    assert asked == [("python", 60)] * min(n_deaths + 1, 3)
