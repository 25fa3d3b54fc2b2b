"""Print what CHANGELOG.md says of a release, after checking that its tag can be published.

    python tools/release_notes.py v1.0.0

The tag has to be the version in pyproject.toml and CITATION.cff, and the launch links have to lead
to it (`make launch-links RELEASE=v1.0.0`). The workflow release.yml runs this.
"""

import re
import sys
import tomllib
from pathlib import Path

from stamp_launch_links import ROOT, current_release


def main(tag: str, root: Path = ROOT) -> None:
    """Print the notes, or end with all that is wrong."""
    if wrong := faults(tag, root):
        sys.exit("\n".join(wrong))
    print(notes(tag.removeprefix("v"), root))


def faults(tag: str, root: Path) -> list[str]:
    """What keeps this tag from being published, in sentences."""
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    cited = re.search(r"^version: *(\S+)", citation, re.M)[1]
    wrong = []
    if tag != f"v{version}":
        wrong.append(f"The tag {tag} should be v{version}, the version in pyproject.toml.")
    if cited != version:
        wrong.append(f"CITATION.cff has version {cited}, pyproject.toml {version}.")
    if notes(version, root) is None:
        wrong.append(f"CHANGELOG.md has no section `## {version} - YYYY-MM-DD`.")
    if (leads_to := current_release(root)) != tag:
        wrong.append(
            f"The launch links lead to {leads_to or 'the branch main'}: "
            f"run `make launch-links RELEASE={tag}`, commit, and tag that commit."
        )
    return wrong


def notes(version: str, root: Path) -> str | None:
    """The section of this version in CHANGELOG.md, without its heading; None if there is none."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d\n+"
    found = re.search(rf"{heading}(.*?)\s*(?=^## |\Z)", text, re.M | re.S)
    return found and found[1]


if __name__ == "__main__":
    main(*sys.argv[1:])
