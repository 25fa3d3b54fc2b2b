"""Make slides of the lessons as they are saved, into build/slides.

    python tools/make_slides.py [lesson ...]      (all, unless lessons are named)

A slide shows what a class should see: headings, formulas, lists, predictions, pictures with their
"What to see", exercises, short code and its output. Of a long paragraph it keeps the first sentence
and those with a term in bold; the whole paragraph is in the speaker's notes. nbconvert makes the
pages by tools/slides_template. They ask no other host for anything: reveal.js comes from
sphinx-revealjs and MathJax from sphinx-mathjax-offline, and both are copied beside the slides.
"""

import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import nbformat
from lessons import LESSONS, read, tags
from nbconvert import SlidesExporter
from nbformat import NotebookNode
from stamp_launch_links import LINKS

TOOLS = Path(__file__).resolve().parent
SLIDES = TOOLS.parent / "build" / "slides"
MATHJAX = ["tex-chtml.js", "input/tex/extensions", "output/chtml/fonts"]
REVEAL = ["dist", "plugin/notes"]

# A slide has this many pixels below its heading, and a line of each kind takes so many of them.
ROOM, TEXT, CODE, ROW, FORMULA, PICTURE = 580, 36, 25, 38, 90, 500
LETTERS = 95  # in a line of text
LONGEST = 14  # lines: code that is longer is left out, output is cut

BLOCK = re.compile(
    r"<details>.*?</details>|```.*?```|\$\$.*?\$\$[^\n]*|[^\n]+(?:\n(?!\$\$|```)[^\n]+)*", re.S
)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z*`$(])")
LINK_TO_LESSON = re.compile(r"\]\((\d\w+)\.ipynb\)")
LINK_ELSEWHERE = re.compile(r"\[([^]]+)\]\((?!\w+\.html)[^):]*\)")


class Unit(NamedTuple):
    """What stays together on a slide: its cells, their height in pixels, and the whole prose."""

    cells: list[NotebookNode]
    height: float = 0
    notes: tuple[str, ...] = ()
    heading: str = ""  # of the section that begins here
    joins: bool = False  # it must not be parted from the unit before


def main(*names: str) -> None:
    known = {path.stem: path for path in LESSONS}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"LESSONS must be among {', '.join(known)}; got {', '.join(unknown)}")
    make([known[name] for name in names or known], SLIDES)
    print(f"{SLIDES}: open a lesson's page in a browser; the key S opens the speaker's notes")


def make(lessons: list[Path], folder: Path) -> None:
    """Write a page of slides for each lesson, with the files that they need."""
    copy_parts(
        Path(find_spec("sphinx_revealjs").origin).parent / "_static/revealjs",
        REVEAL,
        folder / "reveal.js",
    )
    mathjax = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax"
    copy_parts(mathjax, MATHJAX, folder / "mathjax")
    copy_parts(TOOLS / "slides_template", ["slides.css"], folder)
    exporter = SlidesExporter(
        template_name="slides_template",
        extra_template_basedirs=[str(TOOLS)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        reveal_url_prefix="reveal.js",
        reveal_theme="white",
        reveal_width="1280",
        reveal_height="720",
    )
    for lesson in lessons:
        page, _ = exporter.from_notebook_node(
            slides_of(lesson), {"metadata": {"name": lesson.stem}}
        )
        temporary = folder / f"{lesson.stem}.tmp"
        temporary.write_text(page)
        temporary.rename(folder / f"{lesson.stem}.html")


def copy_parts(source: Path, parts: list[str], target: Path) -> None:
    for part in parts:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            ignored = shutil.ignore_patterns("*.map", "*.esm.js", "*.eot", "*.ttf")
            shutil.copytree(source / part, target / part, dirs_exist_ok=True, ignore=ignored)
        else:
            shutil.copy(source / part, target / part)


def slides_of(lesson: Path) -> NotebookNode:
    """The lesson as a notebook whose cells are marked as slides and notes, for nbconvert."""
    notebook = read(lesson)
    del notebook.cells[1]  # the set-up
    units = [unit for cell in notebook.cells for unit in units_of(cell)]
    heading, cells = "", []
    for slide in without_lone_remarks(packed(joined(units))):
        heading = slide[0].heading or heading
        shown = [cell for unit in slide for cell in unit.cells]
        if not slide[0].heading:
            shown.insert(0, markdown(f'<p class="continued">{heading}</p>'))
        kind = "slide" if slide[0].heading else "subslide"
        cells += [marked(shown[0], kind), *(marked(cell, "-") for cell in shown[1:])]
        if notes := "\n\n".join(note for unit in slide for note in unit.notes):
            cells.append(marked(markdown(notes), "notes"))
    notebook.cells = cells
    return notebook


def joined(units: list[Unit]) -> list[Unit]:
    whole: list[Unit] = []
    for unit in units:
        if unit.joins and whole:
            before = whole.pop()
            height, notes = before.height + unit.height, before.notes + unit.notes
            unit = Unit(before.cells + unit.cells, height, notes, before.heading)
        whole.append(unit)
    return whole


def packed(units: list[Unit]) -> list[list[Unit]]:
    """As many units on a slide as it has room for; a heading begins a slide, never ends one."""
    slides: list[list[Unit]] = []
    for unit in units:
        here = slides[-1] if slides else []
        fits = sum(each.height for each in here) + unit.height <= ROOM or not here[-1].height
        if unit.heading or not fits:
            slides.append([])
        slides[-1].append(unit)
    return slides


def without_lone_remarks(slides: list[list[Unit]]) -> list[list[Unit]]:
    """A line or two alone on a slide is left to the notes of the slide before."""
    kept: list[list[Unit]] = []
    for slide in slides:
        notes = tuple(note for unit in slide for note in unit.notes)
        if notes and not slide[0].heading and sum(unit.height for unit in slide) < 3 * TEXT:
            kept[-1].append(Unit([], notes=notes))
        else:
            kept.append(slide)
    return kept


def markdown(source: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(source)


def marked(cell: NotebookNode, slide_type: str) -> NotebookNode:
    cell.metadata["slideshow"] = {"slide_type": slide_type}
    return cell


def units_of(cell: NotebookNode) -> list[Unit]:
    if cell.cell_type == "code":
        return units_of_code(cell)
    source = LINK_TO_LESSON.sub(r"](\1.html)", LINKS.sub("", cell.source))
    units: list[Unit] = []
    is_exercise = False  # its text stays whole
    for block in BLOCK.findall(LINK_ELSEWHERE.sub(r"\1", source)):
        if block.startswith("## "):
            is_exercise = block.startswith("## Exercise")
        units += units_of_block(block, is_exercise)
    return units


def units_of_block(block: str, is_exercise: bool) -> list[Unit]:
    if block.startswith(("Previous:", "Next:")):
        return []
    if block.startswith("<details>"):
        unfolded = re.sub(r"</?details>|</?summary>", "**", block).replace("****", "**")
        return [Unit([], notes=(unfolded.strip("*\n"),), joins=True)]
    if block.startswith("#"):
        return [Unit([markdown(block)], heading=block.lstrip("# "))]
    if block.startswith("$$"):
        return [Unit([markdown(block)], FORMULA, joins=True)]
    if block.startswith("```"):
        return [Unit([markdown(block)], CODE * len(block.splitlines()))]
    if block.startswith("|"):
        return [Unit([markdown(block)], ROW * len(block.splitlines()))]
    if is_exercise or block.startswith(">") or re.search(r"^(- |\d\. )", block, re.M):
        return [Unit([markdown(block)], height_of_text(block))]
    shown = what_to_see(block) if block.startswith("*What to see:*") else core_of(block)
    sees = block.startswith("*What to see:*")
    return [Unit([markdown(shown)], height_of_text(shown), notes=(block,), joins=sees)]


def height_of_text(text: str) -> float:
    return sum(TEXT * -(-len(line) // LETTERS) for line in text.splitlines()) + 16


def core_of(paragraph: str) -> str:
    """Three lines whole; of more the first sentence, those with a bold term, one that leads on."""
    if len(paragraph) <= 3 * LETTERS:
        return paragraph
    first, *others = sentences_of(paragraph)
    kept = [first, *(each for each in others if "**" in each)]
    if paragraph.endswith((":", ",")) and others and kept[-1] != others[-1]:
        kept.append(others[-1])
    return " ".join(kept)


def what_to_see(paragraph: str) -> str:
    """Its first sentences: two lines or three below a picture."""
    shown, *others = sentences_of(paragraph)
    for sentence in others:
        if len(shown) + len(sentence) > 2.2 * LETTERS:
            break
        shown += f" {sentence}"
    return shown


def sentences_of(paragraph: str) -> list[str]:
    """The sentences; one that a bracket or a formula would be torn in is left whole."""
    sentences = [""]
    for part in SENTENCE_END.split(paragraph):
        if is_whole(sentences[-1]):
            sentences.append(part)
        else:
            sentences[-1] += f" {part}"
    return sentences[1:]


def is_whole(text: str) -> bool:
    in_pairs = all(text.count(mark) % 2 == 0 for mark in ("$", "`", "*"))
    return in_pairs and text.count("(") == text.count(")")


def units_of_code(cell: NotebookNode) -> list[Unit]:
    """A picture alone, or code that is short and what it prints; claims and checks are left out."""
    pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
    if {"hide-input", "check"} & {*tags(cell)} and not pictures:
        return []
    lines = len(cell.source.splitlines())
    if pictures:
        cell.outputs, height = pictures[-1:], PICTURE
    else:
        cell.outputs = [cut(output) for output in cell.outputs if output.output_type == "stream"]
        height = CODE * sum(len(output.text.splitlines()) for output in cell.outputs)
    tells = cell.outputs or re.search("^(def|class) ", cell.source, re.M)
    if pictures or not tells or (lines > LONGEST and "exercise" not in tags(cell)):
        cell.metadata["transient"] = {"remove_source": True}
        return [Unit([cell], height)] if cell.outputs else []
    return [Unit([cell], height + CODE * lines + 30)]


def cut(output: NotebookNode) -> NotebookNode:
    lines = output.text.splitlines()
    output.text = "\n".join(lines[:LONGEST] + ["…"] * (len(lines) > LONGEST))
    return output


if __name__ == "__main__":
    main(*sys.argv[1:])
