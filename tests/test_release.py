"""What a release says of itself: its version, its notes, its links, and what is in its archives."""

import pathlib
import re
import shutil
import sys
import tarfile
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent
sys.path.append(str(ROOT / "tools"))

import build_distribution  # noqa: E402
import release_notes  # noqa: E402
import stamp_launch_links  # noqa: E402

VERSION = build_distribution.PROJECT["version"]


@pytest.fixture
def course(tmp_path):
    """A checkout that is ready to be tagged with its version."""
    (tmp_path / "notebooks").mkdir()
    for name in ("pyproject.toml", "README.md", "CITATION.cff", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    stamp_launch_links.main(["owner/name", "--release", f"v{VERSION}"], tmp_path)
    return tmp_path


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_notes_of_a_release_are_its_section_of_the_changelog(course, capsys):
    (course / "CHANGELOG.md").write_text(
        "# Changelog\n\n## Unreleased\n\n- Later.\n\n"
        f"## {VERSION} - 2026-01-02\n\n### Lessons\n\n- New.\n\n## 0.9.0 - 2025-01-02\n\n- Old.\n"
    )
    capsys.readouterr()
    release_notes.main(f"v{VERSION}", course)
    assert capsys.readouterr().out == "### Lessons\n\n- New.\n"


def test_this_checkout_has_notes_of_its_version():
    assert "### Lessons" in release_notes.notes(VERSION, ROOT)


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("pyproject.toml", f'version = "{VERSION}"', 'version = "9.9"', "should be v9.9"),
        ("CITATION.cff", f"version: {VERSION}", "version: 9.9", "CITATION.cff has version 9.9"),
        ("CHANGELOG.md", f"## {VERSION} - ", "## Unreleased ", "CHANGELOG.md has no section"),
        ("pyproject.toml", f"releases/tag/v{VERSION}", "releases/tag/v9", "links lead to v9"),
    ],
)  # fmt: skip
def test_a_tag_that_does_not_fit_is_refused(course, file, old, new, complaint):
    replace(course / file, old, new)
    with pytest.raises(SystemExit, match=complaint):
        release_notes.main(f"v{VERSION}", course)


def test_links_of_the_readme_lead_to_the_release_and_others_stay():
    text = (
        "![A\ngrid](docs/a.png) [one](notebooks/1.ipynb) [in](#here) [out](https://a.org/b.md) x(1)"
    )
    assert build_distribution.with_absolute_links(text, "owner/name", "v1") == (
        "![A\ngrid](https://raw.githubusercontent.com/owner/name/v1/docs/a.png) "
        "[one](https://github.com/owner/name/blob/v1/notebooks/1.ipynb) [in](#here) "
        "[out](https://a.org/b.md) x(1)"
    )
    readme = (ROOT / "README.md").read_text()
    absolute = build_distribution.with_absolute_links(readme, "owner/name", "v1")
    links = re.findall(r"\]\(([^)]+)\)", absolute)
    assert len(links) == len(re.findall(r"\]\(([^)]+)\)", readme)) > 20
    assert all(link.startswith("https://") for link in links)


def test_files_that_an_archive_lacks_are_named(tmp_path, monkeypatch):
    sources = tmp_path / "sources"
    for name in ("gfn_utils/agent.py", "gfn_utils/rewards/data/README.md", "LICENSE"):
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (sources / name).write_text("")
    monkeypatch.setattr(build_distribution, "SOURCES", sources)
    wheel, archive = tmp_path / "a.whl", tmp_path / "a.tar.gz"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("gfn_utils/agent.py", "")
        file.writestr("a-1.dist-info/licenses/LICENSE", "")
    with tarfile.open(archive, "w:gz") as file:
        file.add(sources / "gfn_utils", "a-1/gfn_utils")
    assert build_distribution.missing_files(wheel, archive) == [
        "gfn_utils/rewards/data/README.md in a.whl",
        "LICENSE in a.tar.gz",
    ]
