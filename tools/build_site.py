"""Build the web site from the notebooks as they are saved, into build/site.

    python tools/build_site.py              build it (`make site`)
    python tools/build_site.py linkcheck    ask every outside link (`make check-links`)

Sphinx wants all sources in one folder, so they are gathered in build/site-sources: the pages of
site/, the notebooks, README, docs and benchmarks, each in the place that their links expect. Slides
of the lessons go beside the pages that Sphinx has made.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import make_slides
import nbformat
from lessons import LESSONS
from stamp_launch_links import BADGES

ROOT = Path(__file__).resolve().parent.parent
SOURCES, SITE = ROOT / "build" / "site-sources", ROOT / "build" / "site"
# Files of the checkout's root, and the pages that they become: links to the first lead there.
PAGES = {
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
}


def main(builder: str = "html") -> None:
    """Gather the sources, and let Sphinx make the pages, or do what another builder does."""
    gather()
    made = SITE if builder == "html" else SITE.with_name(builder)
    shutil.rmtree(made, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", builder]
    folders = ["-d", SITE.with_name("site-doctrees"), SOURCES, made]
    if code := subprocess.run([*command, *folders]).returncode:
        sys.exit(code)
    if builder == "html":
        make_slides.make(LESSONS, SITE / "slides")
    print(made / ("index.html" if builder == "html" else "output.txt"))


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
    for folder in ("docs", "docs/teaching", "benchmarks"):
        (SOURCES / folder).mkdir()
        for file in [*(ROOT / folder).glob("*.md"), *(ROOT / folder).glob("*.png")]:
            copy_page(file, SOURCES / folder / file.name)
    shutil.copytree(ROOT / "deploy", SOURCES / "deploy")  # a page leads to them
    with (SOURCES / "docs" / "teaching" / "overview.md").open("a") as page:
        page.write(links_to_slides(lessons))
    index = SOURCES / "index.md"
    listed = "\n".join(f"notebooks/{path.stem}" for path in lessons if path.stem[0].isdigit())
    index.write_text(index.read_text().replace("LESSONS", listed))


def links_to_slides(lessons: list[Path]) -> str:
    """In HTML: Sphinx does not know these pages, which are made after its own."""
    names = [path.stem for path in lessons if path.stem[0].isdigit()]
    links = [f'<a href="../../slides/{name}.html">{name.split("_")[0]}</a>' for name in names]
    return f"\nSlides on this site: {' · '.join(links)}\n"


def copy_notebook(source: Path, target: Path) -> None:
    """Links stay on the site, pictures have their text as `alt`, lessons lead to their symbols."""
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = led_to_pages(cell.source)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                text = " ".join(output.data.pop("text/plain", "").split())
                cell.metadata["mystnb"] = {"image": {"alt": text}}
    if source.stem[0].isdigit():
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(symbols_of(source.name)))
    nbformat.write(notebook, target)


def symbols_of(lesson: str) -> str:
    """Links to what the glossary says this lesson introduces, and to all of it."""
    glossary = (ROOT / "site" / "glossary.md").read_text()
    entries = re.findall(r"^(\S.*)\n((?:  .*\n)+)", glossary, re.M)
    terms = [f"{{term}}`{term}`" for term, meaning in entries if f"notebooks/{lesson}" in meaning]
    return "Symbols and terms: " + " · ".join([*terms, "[all of them](../glossary.md)"])


def copy_page(source: Path, target: Path) -> None:
    if source.suffix == ".md":
        target.write_text(led_to_pages(source.read_text()))
    else:
        shutil.copy(source, target)


def led_to_pages(text: str) -> str:
    """The text with links that lead to pages, and without badges, which other hosts would serve."""
    text = BADGES.sub("", text)
    for name, page in PAGES.items():
        text = re.sub(rf"\]\(((?:\.\./)*){name}", rf"](\1{page}", text)
    return text.replace("[CITATION.cff](CITATION.cff)", "`CITATION.cff`")


if __name__ == "__main__":
    main(*sys.argv[1:])
