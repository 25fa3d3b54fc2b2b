"""Give readers lessons of their own to run and change, so that `git pull` never meets their work.

    python tools/my_notebooks.py             copy lessons that have no copy yet into my_notebooks/
    python tools/my_notebooks.py fresh 05    a fresh copy of lesson 05; the old one is kept too

`make lab` and `make fresh LESSON=05` call this. A copy that its reader has changed or run is never
written over. If its lesson is not what was copied any more, the reader is told. What was copied is
kept as a checksum, in my_notebooks/.copied.json.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "my_notebooks"
RECORD = ".copied.json"
FRESH = "py tools\\my_notebooks.py fresh " if os.name == "nt" else "make fresh LESSON="


def copy(root: Path = ROOT) -> None:
    """Copy every lesson that has no copy, or whose copy is untouched; say which have changed."""
    mine, copied = root / FOLDER, read_record(root)
    mine.mkdir(exist_ok=True)
    for lesson in sorted((root / "notebooks").glob("*.ipynb")):
        own, now = mine / lesson.name, checksum(lesson)
        before = copied.get(own.name)
        if not own.exists() or (before != now and checksum(own) in (before, now)):
            replace(own, lesson.read_bytes())
            copied[own.name] = now
        elif before != now:
            print(f"{own.name} has changed since you got your copy, which stays as it is.")
            print(f"  For the new one: {FRESH}{lesson.stem}")
    write_record(root, copied)
    print(f"Your lessons are in {FOLDER}/. Those in notebooks/ stay as they are.")


def fresh(lesson: str, root: Path = ROOT) -> None:
    """Put a fresh copy in place of the reader's, and keep theirs under another name."""
    source, copied = find(lesson, root), read_record(root)
    own = root / FOLDER / source.name
    own.parent.mkdir(exist_ok=True)
    if own.exists() and own.read_bytes() != source.read_bytes():
        kept = unused(own)
        own.rename(kept)
        print(f"Your old copy is now {FOLDER}/{kept.name}.")
    replace(own, source.read_bytes())
    write_record(root, copied | {own.name: checksum(source)})
    print(f"{FOLDER}/{own.name} is fresh.")


def find(lesson: str, root: Path) -> Path:
    """The lesson whose name is this, or begins with it and goes on with `_`; SystemExit if none."""
    lessons = sorted((root / "notebooks").glob("*.ipynb"))
    stem = lesson.removesuffix(".ipynb")
    found = [path for path in lessons if stem and (path.stem + "_").startswith(stem + "_")]
    if len(found) != 1:
        names = ", ".join(path.stem for path in lessons)
        sys.exit(f"LESSON should be a number such as 05 or one of {names}; not {lesson!r}")
    return found[0]


def unused(own: Path) -> Path:
    """A name beside the copy that no file has: 05_training.old.ipynb, then .old2, and so on."""
    names = ("old" if n == 1 else f"old{n}" for n in range(1, 10_000))
    return next(path for name in names if not (path := own.with_suffix(f".{name}.ipynb")).exists())


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_record(root: Path) -> dict[str, str]:
    """The checksum that each lesson had when it was copied."""
    path = root / FOLDER / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_record(root: Path, copied: dict[str, str]) -> None:
    replace(root / FOLDER / RECORD, json.dumps(copied, indent=1).encode())


def replace(path: Path, content: bytes) -> None:
    """Write to a temporary name first, so that an interrupt leaves the old file whole."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


if __name__ == "__main__":
    commands = {(): copy, ("fresh",): fresh}
    if command := commands.get(tuple(sys.argv[1:2])):
        command(*sys.argv[2:])
    else:
        sys.exit(__doc__)
