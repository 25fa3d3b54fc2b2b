"""The commands of every system, and the reader's own copies of the lessons."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import nbformat
import pytest

ROOT = pathlib.Path(__file__).parent.parent
sys.path.append(str(ROOT / "tools"))

import course  # noqa: E402
import my_notebooks  # noqa: E402


@pytest.fixture
def checkout(tmp_path):
    """A checkout with three small lessons, and where the reader's copies would be."""
    (tmp_path / "notebooks").mkdir()
    for name in ("05_training", "11_trade_offs", "11b_molecules"):
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(f"{name} as published")
    return tmp_path


def mine(checkout):
    return {p.name: p.read_text() for p in (checkout / "my_notebooks").glob("*.ipynb")}


def published(checkout, name, text):
    (checkout / "notebooks" / f"{name}.ipynb").write_text(text)


def write(checkout, name, text):
    (checkout / "my_notebooks" / f"{name}.ipynb").write_text(text)


def test_every_lesson_is_copied_once(checkout, capsys):
    my_notebooks.copy(checkout)
    names = ["05_training", "11_trade_offs", "11b_molecules"]
    assert mine(checkout) == {f"{name}.ipynb": f"{name} as published" for name in names}
    write(checkout, "05_training", "my work")
    capsys.readouterr()
    my_notebooks.copy(checkout)
    assert mine(checkout)["05_training.ipynb"] == "my work"
    assert "has changed" not in capsys.readouterr().out  # the lesson has not


def test_my_work_stays_when_the_lesson_changes_and_i_am_told_every_time(checkout, capsys):
    my_notebooks.copy(checkout)
    write(checkout, "05_training", "my work")
    published(checkout, "05_training", "a better lesson")
    for _ in range(2):
        capsys.readouterr()
        my_notebooks.copy(checkout)
        assert mine(checkout)["05_training.ipynb"] == "my work"
        told = capsys.readouterr().out
        assert "05_training.ipynb has changed since you got your copy" in told
        assert my_notebooks.FRESH + "05_training" in told
        assert "11" not in told


def test_a_copy_that_nobody_touched_follows_its_lesson(checkout, capsys):
    my_notebooks.copy(checkout)
    published(checkout, "05_training", "a better lesson")
    my_notebooks.copy(checkout)
    assert mine(checkout)["05_training.ipynb"] == "a better lesson"
    assert "has changed" not in capsys.readouterr().out


def test_a_notebook_that_was_there_before_any_copy_stays(checkout):
    (checkout / "my_notebooks").mkdir()
    write(checkout, "05_training", "from elsewhere")
    my_notebooks.copy(checkout)
    assert mine(checkout)["05_training.ipynb"] == "from elsewhere"


def test_fresh_gives_the_lesson_as_it_is_now_and_keeps_what_was_there(checkout, capsys):
    my_notebooks.copy(checkout)
    for work in ("first", "second"):
        write(checkout, "05_training", work)
        published(checkout, "05_training", f"a lesson after the {work}")
        my_notebooks.fresh("05", checkout)
    found = mine(checkout)
    assert found["05_training.ipynb"] == "a lesson after the second"
    assert found["05_training.old.ipynb"] == "first"
    assert found["05_training.old2.ipynb"] == "second"
    capsys.readouterr()
    my_notebooks.fresh("05_training.ipynb", checkout)  # nothing to keep
    assert len(mine(checkout)) == 5
    my_notebooks.copy(checkout)
    assert "has changed" not in capsys.readouterr().out


def test_a_lesson_is_named_by_its_number(checkout):
    assert my_notebooks.find("11", checkout).stem == "11_trade_offs"
    assert my_notebooks.find("11b", checkout).stem == "11b_molecules"


@pytest.mark.parametrize("wrong", ["", "1", "12", "training", "../05"])
def test_what_is_no_lesson_is_refused_with_the_names_that_there_are(checkout, wrong):
    with pytest.raises(SystemExit, match=f"05_training, .*not '{re.escape(wrong)}'"):
        my_notebooks.fresh(wrong, checkout)
    assert not (checkout / "my_notebooks").exists()


def test_an_interrupt_leaves_the_old_copy_whole(checkout, monkeypatch):
    my_notebooks.copy(checkout)
    published(checkout, "05_training", "a better lesson")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        my_notebooks.copy(checkout)
    assert mine(checkout)["05_training.ipynb"] == "05_training as published"


def test_links_between_lessons_lead_somewhere_from_the_copies_too():
    for path in ROOT.glob("notebooks/*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
            if "://" not in link:
                beside = re.fullmatch(r"[\w.]+\.ipynb", link)
                assert (path.parent / link).exists(), link
                assert beside or link.startswith("../"), link  # one folder below the root, as here


def test_git_ignores_the_copies():
    asked = ["git", "check-ignore", "my_notebooks/05_training.ipynb"]
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs git")
    assert subprocess.run(asked, cwd=ROOT, capture_output=True).returncode == 0


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """The commands that would be run, in a checkout without an environment; all succeed."""
    commands = []
    monkeypatch.setattr(course, "ROOT", tmp_path)
    monkeypatch.setattr(course, "READY", tmp_path / "ready")
    monkeypatch.setattr(course, "run", lambda *command: commands.append([*map(str, command)]) or 0)
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_text("")
    return commands


def test_set_up_happens_once_and_again_when_the_pins_change(ran, tmp_path):
    assert course.main("setup") == 0
    assert [command[2] for command in ran] == ["venv", "pip", "pip"]
    assert "--require-hashes" in ran[1]
    assert course.main("setup") == 0
    assert len(ran) == 3
    os.utime(tmp_path / "requirements.txt", (2e9, 2e9))
    course.main("setup")
    assert len(ran) == 6


def test_a_set_up_that_fails_is_not_taken_for_one(ran, monkeypatch):
    monkeypatch.setattr(course, "run", lambda *command: ran.append(command) or 7)
    assert course.main("lab") == 7
    assert len(ran) == 1
    assert not course.READY.exists()


def test_another_python_is_refused_and_told_what_is_allowed(ran, monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 14, 1))
    monkeypatch.setattr(sys, "version", "3.14.1 (main)")
    assert course.main("test") == 2
    assert not ran
    assert "needs Python 3.11, 3.12 or 3.13. This is 3.14.1" in capsys.readouterr().out


def test_lab_opens_copies_and_on_demand_the_lessons_themselves(ran, monkeypatch):
    copied = []
    monkeypatch.setattr(my_notebooks, "copy", lambda: copied.append(True))
    course.READY.touch()
    course.main("lab")
    assert ran[-1][-1] == "--LabApp.default_url=/lab/tree/my_notebooks/00_start_here.ipynb"
    assert copied == [True]
    course.main("lab", "notebooks")
    assert ran[-1][-1] == "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"
    assert copied == [True]


def test_test_runs_everything_or_what_is_named(ran):
    course.READY.touch()
    course.main("test")
    assert ran[-1][-2:] == ["notebooks", "tests"]
    course.main("test", "notebooks", "tests/test_course.py")
    assert ran[-1][-2:] == ["notebooks", "tests/test_course.py"]
    assert "tests" not in ran[-1]


def test_what_is_no_command_is_answered_with_the_commands(ran, capsys):
    assert course.main("open") == 2
    assert "tools/course.py lab" in capsys.readouterr().out
    assert not ran


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_calls_the_same_commands():
    for target, expected in {
        "lab": "course.py lab",
        "test": "course.py test",
        ".venv/ready": "course.py setup",
        "lab NOTEBOOKS=notebooks": "course.py lab notebooks",
        "fresh LESSON=05": 'my_notebooks.py fresh "05"',
    }.items():
        asked = ["make", "--no-print-directory", "--dry-run", "--always-make", *target.split()]
        done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.rstrip().endswith(expected), target
