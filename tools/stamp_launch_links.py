"""Write the repository's address into the launch links, or take the links out again.

    python tools/stamp_launch_links.py owner/name     stamp, or stamp with another name
    python tools/stamp_launch_links.py                stamp again with the address in pyproject.toml
    python tools/stamp_launch_links.py --release v1   lead to the tag v1 ('': to the branch main)
    python tools/stamp_launch_links.py --remove       take every link out

The address is kept in pyproject.toml, under [project.urls]. From there it goes into the badges of
README.md, the links below each lesson's title, and the cell that installs the package on Colab,
where a notebook opened from GitHub comes without the rest of the repository. With a release, all of
these lead to its tag, so that an opened lesson and the package it installs stay what they were.
"""

import argparse
import os
import pathlib
import re
import sys
import tomllib
import urllib.parse

import nbformat

ROOT = pathlib.Path(__file__).resolve().parent.parent
BRANCH = "main"
FIRST_LESSON = "notebooks/00_start_here.ipynb"

# What GitHub allows: an owner of up to 39 letters, digits and single hyphens, a name of up to 100.
OWNER_AND_NAME = re.compile(
    r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}/(?!\.{1,2}$)(?!.*\.git$)[A-Za-z0-9._-]{1,100}"
)
TAG = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,98}[A-Za-z0-9]")

ADDRESS = re.compile(
    r'^\[project\.urls\]\nRepository = "https://github\.com/(\S+)"\n'
    r'(?:Release = "https://github\.com/\S+/releases/tag/(\S+)"\n)?\n',
    re.M,
)
BADGES = re.compile(r"^<!-- launch links -->\n.*?<!-- end of launch links -->\n\n", re.M | re.S)
LINKS = re.compile(r"^\[Open in Colab\]\(\S+\) · \[Open in Binder\]\(\S+\)\n\n", re.M)
INSTALL = re.compile(r"(%pip install --quiet --no-deps (?:\S+ )*)(?:\.\.|git\+\S+)$", re.M)


def main(arguments: list[str] | None = None, root: pathlib.Path = ROOT) -> None:
    """Stamp, or remove; a file is written only if it changes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", nargs="?", help="owner/name on GitHub; '' removes the links")
    parser.add_argument("--release", help="a tag that the links lead to; '' for the branch main")
    parser.add_argument("--remove", action="store_true", help="take the launch links out")
    chosen = parser.parse_args(arguments)
    try:
        removing = chosen.remove or chosen.repository == ""
        repository = None if removing else chosen.repository or current_repository(root)
        if not removing and repository is None:
            raise ValueError("REPO is missing: no address is set yet, so say REPO=owner/name")
        release = chosen.release
        if release is None and repository == current_repository(root):
            release = current_release(root)
        changed = changed_files(root, repository, release or None)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    for path, text in changed.items():
        replace(path, text)
    print(f"{len(changed)} files changed; launch links: {repository or 'none'}")
    if repository and release:
        print(f"They lead to the tag {release}: commit them, then tag that commit.")


def current_repository(root: pathlib.Path) -> str | None:
    """The owner/name that pyproject.toml holds, or None; ValueError if it holds other addresses."""
    text = (root / "pyproject.toml").read_text()
    address = ADDRESS.search(text)
    if address is None and "urls" in tomllib.loads(text)["project"]:
        raise ValueError(
            "pyproject.toml: [project.urls] should hold one line, "
            'Repository = "https://github.com/owner/name", and an empty line after it'
        )
    return address and address[1]


def current_release(root: pathlib.Path) -> str | None:
    """The tag that the links lead to; None if that is the branch main."""
    address = ADDRESS.search((root / "pyproject.toml").read_text())
    return address and address[2]


def changed_files(
    root: pathlib.Path, repository: str | None, release: str | None = None
) -> dict[pathlib.Path, str]:
    """The files that differ once stamped (without links for None), each with its new text.

    Raises ValueError, naming what is wrong, if `repository` is no owner/name, if `release` is no
    tag, or if a file has no place for its links.
    """
    if repository is not None and not OWNER_AND_NAME.fullmatch(repository):
        raise ValueError(
            f"REPO should be owner/name as on GitHub, not {repository!r}: letters, digits and "
            "single hyphens; then a slash; then letters, digits, hyphens, dots and underscores"
        )
    if release is not None and not TAG.fullmatch(release):
        raise ValueError(
            f"RELEASE should be a tag such as v1.0, not {release!r}: letters, digits, hyphens, "
            "dots and underscores"
        )
    current_repository(root)
    stamped = {
        root / "pyproject.toml": stamp_project(
            (root / "pyproject.toml").read_text(), repository, release
        ),
        root / "README.md": stamp_readme((root / "README.md").read_text(), repository, release),
    }
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        stamped[path] = stamp_lesson(path, repository, release)
    return {path: text for path, text in stamped.items() if text != path.read_text()}


def stamp_project(text: str, repository: str | None, release: str | None) -> str:
    text = ADDRESS.sub("", text)
    if repository is None:
        return text
    block = f'[project.urls]\nRepository = "https://github.com/{repository}"\n'
    if release is not None:
        block += f'Release = "https://github.com/{repository}/releases/tag/{release}"\n'
    return text.replace("[tool.", f"{block}\n[tool.", 1)


def stamp_readme(text: str, repository: str | None, release: str | None) -> str:
    text = BADGES.sub("", text)
    if repository is None:
        return text
    title, rest = text.split("\n\n", 1)
    badges = (
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"({colab_link(repository, release, FIRST_LESSON)})\n"
        "[![Open in Binder](https://mybinder.org/badge_logo.svg)]"
        f"({binder_link(repository, release, FIRST_LESSON)})\n"
    )
    return f"{title}\n\n<!-- launch links -->\n{badges}<!-- end of launch links -->\n\n{rest}"


def stamp_lesson(path: pathlib.Path, repository: str | None, release: str | None) -> str:
    notebook = nbformat.read(path, as_version=4)
    title_cell = notebook.cells[0]
    set_up = next((cell for cell in notebook.cells if cell.cell_type == "code"), None)
    if not title_cell.source.startswith("# ") or "\n\n" not in title_cell.source:
        raise ValueError(f"{path.name}: the first cell is not a title with text below")
    if set_up is None or not INSTALL.search(set_up.source):
        raise ValueError(
            f"{path.name}: the first code cell has no line `%pip install --quiet --no-deps ..`"
        )
    source = f"git+https://github.com/{repository}" if repository else ".."
    if repository and release:
        source += f"@{release}"
    set_up.source = INSTALL.sub(rf"\g<1>{source}", set_up.source)
    title, rest = LINKS.sub("", title_cell.source).split("\n\n", 1)
    links = [] if repository is None else [lesson_links(path, repository, release)]
    title_cell.source = "\n\n".join([title, *links, rest])
    return nbformat.writes(notebook) + "\n"


def lesson_links(path: pathlib.Path, repository: str, release: str | None) -> str:
    lesson = f"notebooks/{path.name}"
    colab = colab_link(repository, release, lesson)
    return (
        f"[Open in Colab]({colab}) · [Open in Binder]({binder_link(repository, release, lesson)})"
    )


def colab_link(repository: str, release: str | None, lesson: str) -> str:
    ref = release or BRANCH
    return f"https://colab.research.google.com/github/{repository}/blob/{ref}/{lesson}"


def binder_link(repository: str, release: str | None, lesson: str) -> str:
    opened = urllib.parse.quote(lesson, safe="")
    return f"https://mybinder.org/v2/gh/{repository}/{release or BRANCH}?labpath={opened}"


def replace(path: pathlib.Path, text: str) -> None:
    """Write to a temporary name first, so that an interrupt leaves the old file whole."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


if __name__ == "__main__":
    main(sys.argv[1:])
