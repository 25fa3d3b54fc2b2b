"""Rebuild the table of gfn_utils/rewards/molecules.py: what RDKit says of each molecule.

    python tools/build_molecules.py

It needs RDKit, and takes half a minute.
"""

import argparse
from pathlib import Path

import numpy as np

from gfn_utils.checkpoint import replacing
from gfn_utils.environments import FragmentChains
from gfn_utils.rewards import molecules


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=molecules.DATA)
    output = parser.parse_args().output
    words = canonical_words()
    scores = molecules.score(words)
    with replacing(output) as file:
        np.savez_compressed(file, words=words, **rounded(scores))
    print(f"{output}: {len(words):,} molecules, {output.stat().st_size:,} bytes")


def canonical_words() -> list[str]:
    """Of each molecule of the table its first spelling, in order of length, then alphabetical."""
    chains = FragmentChains(
        lambda letters: np.zeros(len(letters)),
        molecules.TABLE_LENGTH,
        molecules.ALPHABET,
        min_length=1,
        forbidden=molecules.FORBIDDEN,
        python_reward=True,
    )
    words = {word.rstrip("·") for word in chains.words(chains.complete_states())}
    return sorted({min(molecules.spellings(word)) for word in words}, key=lambda w: (len(w), w))


def rounded(scores: molecules.Scores) -> dict[str, np.ndarray]:
    """The columns to four decimals, weights to three, as float32."""
    return {
        name: np.round(column, 3 if name == "weight" else 4).astype(np.float32)
        for name, column in scores._asdict().items()
    }


if __name__ == "__main__":
    main()
