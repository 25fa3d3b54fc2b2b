"""The launch links: none without an address, and all of one address once it is stamped."""

import pathlib
import re
import shutil
import sys
import tomllib
import urllib.parse

import nbformat
import pytest

ROOT = pathlib.Path(__file__).parent.parent
sys.path.append(str(ROOT / "tools"))

import stamp_launch_links as links  # noqa: E402


@pytest.fixture
def course(tmp_path):
    """A copy of the files that get links, without any."""
    (tmp_path / "notebooks").mkdir()
    for path in [ROOT / "pyproject.toml", ROOT / "README.md", *ROOT.glob("notebooks/*.ipynb")]:
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    links.main(["--remove"], tmp_path)
    return tmp_path


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def lessons(root):
    paths = sorted((root / "notebooks").glob("*.ipynb"))
    return [(path, nbformat.read(path, as_version=4)) for path in paths]


def test_this_checkout_has_links_to_its_own_address_or_none():
    address = links.current_repository(ROOT)
    assert links.changed_files(ROOT, address, links.current_release(ROOT)) == {}
    if address is None:
        for path in [ROOT / "README.md", *ROOT.glob("notebooks/*.ipynb")]:
            assert not re.search("mybinder.org|colab.research.google.com", path.read_text()), path


def test_every_lesson_links_to_itself_on_colab_and_binder(course):
    links.main(["owner/name"], course)
    for path, notebook in lessons(course):
        title, line, _ = notebook.cells[0].source.split("\n\n", 2)
        assert title.startswith("# ")
        colab, binder = re.fullmatch(
            r"\[Open in Colab\]\((\S+)\) · \[Open in Binder\]\((\S+)\)", line
        ).groups()
        assert opened_by_colab(colab) == opened_by_binder(binder) == f"notebooks/{path.name}"


def test_the_readme_has_badges_that_open_the_first_lesson(course):
    links.main(["owner/name"], course)
    text = (course / "README.md").read_text()
    colab, binder = re.findall(r"\[!\[Open in \w+\]\(\S+?\)\]\((\S+)\)", text)
    assert opened_by_colab(colab) == opened_by_binder(binder) == "notebooks/00_start_here.ipynb"
    assert (course / opened_by_colab(colab)).exists()


def opened_by_colab(link):
    return link.removeprefix("https://colab.research.google.com/github/owner/name/blob/main/")


def opened_by_binder(link):
    place, query = link.split("?")
    assert place == "https://mybinder.org/v2/gh/owner/name/main"
    return urllib.parse.parse_qs(query)["labpath"][0]


def test_the_set_up_cell_installs_from_the_address_that_the_project_names(course):
    links.main(["owner/name"], course)
    project = tomllib.loads((course / "pyproject.toml").read_text())["project"]
    assert project["urls"] == {"Repository": "https://github.com/owner/name"}
    for _, notebook in lessons(course):
        set_up = next(cell for cell in notebook.cells if cell.cell_type == "code")
        installed = re.search(r"%pip install --quiet --no-deps.* (\S+)$", set_up.source, re.M)[1]
        assert installed == f"git+{project['urls']['Repository']}"


def test_only_the_title_and_the_set_up_cell_change(course):
    before = lessons(course)
    links.main(["owner/name"], course)
    for (_, old), (_, new) in zip(before, lessons(course), strict=True):
        set_up = next(i for i, cell in enumerate(old.cells) if cell.cell_type == "code")
        for changed in (0, set_up):
            assert old.cells[changed].source != new.cells[changed].source
            old.cells[changed].source = new.cells[changed].source
        assert old == new  # cell ids, outputs and execution counts too


def test_stamping_twice_changes_nothing(course):
    links.main(["owner/name"], course)
    once = contents(course)
    links.main(["owner/name"], course)
    links.main([], course)  # without a name: the address that is set
    assert contents(course) == once


def test_another_name_replaces_the_first_and_removing_restores_every_byte(course):
    bare = contents(course)
    links.main(["first/one"], course)
    links.main(["owner-2/the_other.name"], course)
    stamped = contents(course)
    assert not any(b"first/one" in text for text in stamped.values())
    links.main(["--remove"], course)
    assert contents(course) == bare
    links.main(["owner-2/the_other.name"], course)
    assert contents(course) == stamped
    links.main([""], course)  # `make launch-links REPO=`
    assert contents(course) == bare


def test_a_release_is_what_links_open_and_the_set_up_cell_installs(course):
    links.main(["owner/name", "--release", "v0.1.0"], course)
    stamped = contents(course)
    for _, notebook in lessons(course):
        title, set_up = notebook.cells[0].source, notebook.cells[1].source
        assert "/github/owner/name/blob/v0.1.0/notebooks/" in title
        assert "mybinder.org/v2/gh/owner/name/v0.1.0?" in title
        assert re.search(
            r"^ *%pip install .* git\+https://github.com/owner/name@v0.1.0$", set_up, re.M
        )
    assert (course / "README.md").read_text().count("name/blob/v0.1.0/") == 1
    links.main([], course)  # stays
    links.main(["owner/name"], course)
    assert contents(course) == stamped
    links.main(["--release", ""], course)  # `make launch-links RELEASE=`
    assert not any(b"v0.1.0" in text for text in contents(course).values())
    links.main(["--release", "v0.1.0"], course)
    assert contents(course) == stamped
    links.main(["other/name"], course)  # has no such tag
    assert not any(b"v0.1.0" in text for text in contents(course).values())


@pytest.mark.parametrize("wrong", ["v 1", "-v1", "v1.", "v..1", "v1/x", 'v"1', "v1\n", "ü"])
def test_what_is_no_tag_is_refused_and_nothing_written(course, wrong, capsys):
    before = contents(course)
    with pytest.raises(SystemExit):
        links.main(["owner/name", f"--release={wrong}"], course)
    assert f"RELEASE should be a tag such as v1.0, not {wrong!r}" in capsys.readouterr().err
    assert contents(course) == before


@pytest.mark.parametrize(
    "wrong",
    ["name", "https://github.com/owner/name", "owner/name/", "-owner/name", "own--er/name",
     "owner/..", "owner/name.git", "owner/na me", "owner/name\n", f"{'o' * 40}/name",
     'owner/"name', "öwner/name", "/name", "owner/"],
)  # fmt: skip
def test_what_is_no_repository_is_refused_and_nothing_written(course, wrong, capsys):
    before = contents(course)
    with pytest.raises(SystemExit) as stopped:
        links.main([wrong] if not wrong.startswith("-") else ["--", wrong], course)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "REPO should be owner/name" in message
    assert repr(wrong) in message
    assert contents(course) == before


def test_without_a_name_and_without_an_address_it_asks_for_one(course, capsys):
    with pytest.raises(SystemExit):
        links.main([], course)
    assert "REPO=owner/name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "named"), [("%pip install --quiet", "%pip install"), ("# 09 ·", "title")]
)
def test_a_lesson_without_a_place_for_its_links_is_named_and_nothing_written(
    course, place, named, capsys
):
    lesson = course / "notebooks" / "09_biological_sequences.ipynb"
    lesson.write_text(lesson.read_text().replace(place, "", 1))
    before = contents(course)
    with pytest.raises(SystemExit):
        links.main(["owner/name"], course)
    message = capsys.readouterr().err
    assert "09_biological_sequences.ipynb" in message
    assert named in message
    assert contents(course) == before


def test_addresses_that_somebody_else_wrote_are_left_alone(course, capsys):
    project = course / "pyproject.toml"
    written = '[project.urls]\nDocumentation = "https://example.org"\n\n[tool.ruff]'
    project.write_text(project.read_text().replace("[tool.ruff]", written, 1))
    before = contents(course)
    with pytest.raises(SystemExit):
        links.main(["owner/name"], course)
    assert "[project.urls]" in capsys.readouterr().err
    assert contents(course) == before
