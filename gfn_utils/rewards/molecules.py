"""Chains of drug-like fragments, and how good a drug each would be by three scores of RDKit.

A letter stands for a fragment with two ends, as it is read from left to right; a word is the chain
of its fragments, closed by hydrogen at both ends. `data/README.md` tells where the table comes
from. Scoring and drawing need RDKit (`pip install "gfn_utils[multi_objective]"`); the table does
not.
"""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gfn_utils.validation import check_number, check_numbers, shown

DATA = Path(__file__).parent / "data" / "molecules.npz"


class Fragment(NamedTuple):
    """A fragment with two ends, read in one of its directions."""

    letter: str
    smiles: str
    """Its left end is the first atom, its right end the atom that the next fragment is put to."""
    reverse: str
    """The letter of the same fragment, read from the other end."""
    name: str
    drug: str
    """A drug in which it occurs."""


FRAGMENTS = (
    Fragment("C", "C", "C", "methylene", "imatinib"),
    Fragment("O", "O", "O", "ether", "gefitinib"),
    Fragment("p", "c1ccc(cc1)", "p", "para-phenylene", "imatinib"),
    Fragment("m", "c1cc(ccc1)", "m", "meta-phenylene", "erlotinib"),
    Fragment("y", "c1ccc(nc1)", "Y", "pyridine-2,5-diyl", "pioglitazone"),
    Fragment("Y", "c1ccc(cn1)", "y", "pyridine-2,5-diyl", "pioglitazone"),
    Fragment("t", "c1cnc(s1)", "T", "thiazole-2,5-diyl", "dasatinib"),
    Fragment("T", "c1ncc(s1)", "t", "thiazole-2,5-diyl", "dasatinib"),
    Fragment("a", "C(=O)N", "A", "amide", "imatinib"),
    Fragment("A", "NC(=O)", "a", "amide", "imatinib"),
    Fragment("z", "N1CCN(CC1)", "z", "piperazine-1,4-diyl", "imatinib"),
    Fragment("d", "C1CCN(CC1)", "D", "piperidine-1,4-diyl", "donepezil"),
    Fragment("D", "N1CCC(CC1)", "d", "piperidine-1,4-diyl", "donepezil"),
)
"""Nine fragments of approved drugs; four of them read differently from their two ends."""

ALPHABET = "".join(fragment.letter for fragment in FRAGMENTS)
_BY_LETTER = {fragment.letter: fragment for fragment in FRAGMENTS}
_STARTS_WITH_N_OR_O = [fragment for fragment in FRAGMENTS if fragment.smiles[0] in "NO"]

FORBIDDEN = tuple(
    first.reverse + second.letter for first in _STARTS_WITH_N_OR_O for second in _STARTS_WITH_N_OR_O
)
"""Pairs of neighbours that would bind N or O to N or O: often a weak or reactive bond."""

TABLE_LENGTH = 4
"""Fragments in the longest chain of the table."""

SAME_AT_AN_END = str.maketrans("pm", "mp")
"""A benzene ring at the end of a chain has one neighbour: then para and meta are the same."""


class Scores(NamedTuple):
    """What RDKit says of N molecules."""

    qed: np.ndarray
    """Quantitative estimate of drug-likeness, from 0 to 1 (Bickerton et al. 2012), `[N]`."""
    synthetic_accessibility: np.ndarray
    """From 1, easy to make, to 10 (Ertl and Schuffenhauer 2009), `[N]`."""
    weight: np.ndarray
    """Molecular weight in daltons, `[N]`."""


def smiles(word: str) -> str:
    """The chain as SMILES, not canonical. Raises ValueError for other letters, or for none."""
    return "".join(fragment.smiles for fragment in _fragments(word))


def reverse(word: str) -> str:
    """The same chain, read from the other end. Raises as `smiles`."""
    return "".join(fragment.reverse for fragment in reversed(_fragments(word)))


def _fragments(word):
    if not isinstance(word, str) or not word or not set(word) <= set(ALPHABET):
        raise ValueError(f"word must be a string of letters of {ALPHABET!r}, got {shown(word)}")
    return [_BY_LETTER[letter] for letter in word]


def spellings(word: str) -> list[str]:
    """All words that spell the same molecule, in alphabetical order: 1, 2, 4 or 8 of them.

    A chain can be read from either end, and a benzene ring at an end as para or as meta.
    """
    found = {word, reverse(word)}
    found |= {each[0].translate(SAME_AT_AN_END) + each[1:] for each in found}
    found |= {each[:-1] + each[-1].translate(SAME_AT_AN_END) for each in found}
    return sorted(found)


def load_scores(words: Iterable[str]) -> Scores:
    """The scores of words of up to `TABLE_LENGTH` letters, from the table: RDKit is not needed.

    Raises ValueError, naming the word, if one is not in the table.
    """
    place, table = _table()
    rows = []
    for word in words:
        row = place.get(word)
        if row is None:
            raise ValueError(
                f"words must be chains of up to {TABLE_LENGTH} letters of {ALPHABET!r} without "
                f"forbidden pairs, got {shown(word)}"
            )
        rows.append(row)
    return Scores(*(column[rows] for column in table))


@functools.cache
def _table():
    """Where each word stands in the table, and the table."""
    with np.load(DATA, allow_pickle=False) as archive:
        words = archive["words"].tolist()
        table = Scores(*(archive[name].astype(np.float64) for name in Scores._fields))
    return {each: i for i, word in enumerate(words) for each in spellings(word)}, table


def score(words: Iterable[str]) -> Scores:
    """The scores of words of any length, by RDKit: about 2 ms for each new molecule.

    Raises ImportError where RDKit is missing, ValueError for what is no word.
    """
    rows = [_score_of_molecule(min(spellings(word))) for word in words]
    return Scores(*np.array(rows, np.float64).reshape(-1, len(Scores._fields)).T)


@functools.lru_cache(maxsize=1_000_000)
def _score_of_molecule(word):
    molecule = to_rdkit(word)
    from rdkit.Chem import QED, Descriptors
    from rdkit.Contrib.SA_Score import sascorer

    return QED.qed(molecule), sascorer.calculateScore(molecule), Descriptors.MolWt(molecule)


def to_rdkit(word: str):
    """The molecule as an `rdkit.Chem.Mol`. Raises as `score`."""
    text = smiles(word)
    try:
        from rdkit import Chem
    except ImportError as error:
        raise ImportError(
            'molecules need RDKit: pip install "gfn_utils[multi_objective]", or pip install rdkit'
        ) from error
    return Chem.MolFromSmiles(text)


def objectives(scores: Scores, window: tuple[float, float] = (250.0, 350.0)) -> np.ndarray:
    """Three objectives in (0, 1], the more the better, float64 `[N, 3]`.

    QED; synthetic accessibility as (10 − score)/9; and the weight: 1 inside the window, falling
    to 0 over the next 150 daltons on either side. None is less than 0.01.

    Raises ValueError or TypeError if the window is not two weights in daltons, in order.
    """
    lightest = check_number("window[0]", window[0], minimum=0.0)
    heaviest = check_number("window[1]", window[1], minimum=lightest)
    weight = check_numbers("weight", scores.weight)
    outside = np.maximum(lightest - weight, 0) + np.maximum(weight - heaviest, 0)
    columns = scores.qed, (10 - scores.synthetic_accessibility) / 9, 1 - outside / 150
    return np.maximum(np.stack(columns, axis=-1), 0.01)
