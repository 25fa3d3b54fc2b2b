"""TF-Bind-8: how strongly a protein binds each of the 65,536 DNA words of eight letters.

The protein is the human transcription factor SIX6, measured by Barrera et al. (2016, Science
351:1450); `data/README.md` tells where the numbers come from. GFlowNets were first tried on such
data in arXiv 2203.04115.
"""

import itertools
from pathlib import Path

import numpy as np
import tensorflow as tf

from gfn_utils.validation import check_number, check_numbers, shown

ALPHABET = "ACGT"
LENGTH = 8
DATA = Path(__file__).parent / "data" / "tf_bind_8_six6_ref_r1.npz"
COMPLEMENT = str.maketrans(ALPHABET, ALPHABET[::-1])


def load_scores(path=DATA) -> np.ndarray:
    """The binding scores of all words in alphabetical order, scaled to [0, 1], float64 `[65536]`.

    A word and its reverse complement are the two strands of one molecule and have one score.
    `path` is a file that tools/build_tf_bind_8.py wrote, of this or another factor.

    Raises FileNotFoundError if there is none, ValueError if it is something else.
    """
    canonical = canonical_words()
    try:
        with np.load(path, allow_pickle=False) as archive:
            e_score = check_numbers("e_score", archive["e_score"])
    except FileNotFoundError:
        raise
    except Exception as error:  # a foreign or damaged file can fail in any way
        raise ValueError(
            f"path must be a file that tools/build_tf_bind_8.py wrote, got {shown(path)} "
            f"({type(error).__name__}: {error})"
        ) from error
    if e_score.shape != (len(canonical),) or not 0 < np.ptp(e_score) < np.inf:
        raise ValueError(
            f"path must hold different, finite scores for {len(canonical)} pairs of strands, "
            f"got {shown(path)} with shape {list(e_score.shape)}"
        )
    place = {word: i for i, word in enumerate(canonical)}
    rows = [place[min(word, reverse_complement(word))] for word in all_words()]
    scaled = (e_score - e_score.min()) / np.ptp(e_score)
    return scaled[rows]


def log_reward(scores: np.ndarray, beta: float = 3.0, floor: float = 1e-3):
    """The log-reward function of words, for an environment: log max(floor, score^β).

    Takes scores of all words in alphabetical order, `[n_letters ** length]`, at most 1.

    Raises ValueError if β < 0, if the floor is not in (0, 1], or if a score is not in [0, 1];
    TypeError for what is no number.
    """
    beta = check_number("beta", beta, minimum=0.0)
    floor = check_number("floor", floor, above=0.0, maximum=1.0)
    scores = check_numbers("scores", scores)
    if scores.shape != (len(ALPHABET) ** LENGTH,):
        raise ValueError(f"scores must have shape [{len(ALPHABET) ** LENGTH}], got {scores.shape}")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(f"scores must be in [0, 1], got {scores.min():g} to {scores.max():g}")
    table = tf.constant(np.log(np.maximum(scores**beta, floor)))
    place_values = tf.constant([len(ALPHABET) ** i for i in reversed(range(LENGTH))])

    def log_reward_of_word(letters):
        return tf.gather(table, tf.reduce_sum(letters * place_values, axis=-1))

    return log_reward_of_word


def all_words() -> list[str]:
    """All words of eight letters, in alphabetical order."""
    return ["".join(letters) for letters in itertools.product(ALPHABET, repeat=LENGTH)]


def canonical_words() -> list[str]:
    """Of each word and its reverse complement the one that comes first, in alphabetical order."""
    return [word for word in all_words() if word <= reverse_complement(word)]


def reverse_complement(word: str) -> str:
    """The other strand, read in its own direction. Raises ValueError for other letters."""
    if not isinstance(word, str) or not set(word) <= set(ALPHABET):
        raise ValueError(f"word must be a string of letters of {ALPHABET!r}, got {shown(word)}")
    return word.translate(COMPLEMENT)[::-1]
