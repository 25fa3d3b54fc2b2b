"""Build the web site from the notebooks as they are saved, into build/site.

    python tools/build_site.py      (`make site`)

Sphinx wants all sources in one folder, so they are gathered in build/site-sources: the pages of
site/, the notebooks, README, docs and benchmarks, each in the place that their links expect.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
SOURCES, SITE = ROOT / "build" / "site-sources", ROOT / "build" / "site"
# Files of the checkout's root, and the pages that they become: links to the first lead there.
PAGES = {
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}


def main():
    gather()
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    shutil.rmtree(SITE, ignore_errors=True)
    doctrees = ROOT / "build" / "site-doctrees"
    done = subprocess.run([*command, "-d", str(doctrees), str(SOURCES), str(SITE)])
    if done.returncode:
        sys.exit(done.returncode)
    print(f"{SITE / 'index.html'}")


def gather() -> None:
    """Copy all sources of the site into one folder."""
    shutil.rmtree(SOURCES, ignore_errors=True)
    shutil.copytree(ROOT / "site", SOURCES)
    lessons = sorted((ROOT / "notebooks").glob("*.ipynb"))
    (SOURCES / "notebooks").mkdir()
    for lesson in lessons:
        copy_notebook(lesson, SOURCES / "notebooks" / lesson.name)
    for name, page in PAGES.items():
        copy_page(ROOT / name, SOURCES / page)
    for folder in ("docs", "benchmarks"):
        (SOURCES / folder).mkdir()
        for file in [*(ROOT / folder).glob("*.md"), *(ROOT / folder).glob("*.png")]:
            copy_page(file, SOURCES / folder / file.name)
    index = SOURCES / "index.md"
    listed = "\n".join(f"notebooks/{path.stem}" for path in lessons if path.stem[0].isdigit())
    index.write_text(index.read_text().replace("LESSONS", listed))


def copy_notebook(source: Path, target: Path) -> None:
    """A notebook whose links stay on the site, and whose pictures have their text as `alt`."""
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = led_to_pages(cell.source)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                text = " ".join(output.data.pop("text/plain", "").split())
                cell.metadata["mystnb"] = {"image": {"alt": text}}
    nbformat.write(notebook, target)


def copy_page(source: Path, target: Path) -> None:
    if source.suffix == ".md":
        target.write_text(led_to_pages(source.read_text()))
    else:
        shutil.copy(source, target)


def led_to_pages(text: str) -> str:
    """The text with links to these files that lead to their pages."""
    for name, page in PAGES.items():
        text = re.sub(rf"\]\(((?:\.\./)*){name}", rf"](\1{page}", text)
    return text.replace("[CITATION.cff](CITATION.cff)", "`CITATION.cff`")


if __name__ == "__main__":
    main()
