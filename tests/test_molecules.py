"""Molecules by their words: spellings by brute force, the table beside RDKit, the bias removed."""

import builtins
import collections
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from gfn_utils.environments import FragmentChains
from gfn_utils.rewards import molecules

WINDOW = (250.0, 350.0)


def chains(length, log_reward_of=lambda letters: np.zeros(len(letters))):
    return FragmentChains(
        log_reward_of,
        length,
        molecules.ALPHABET,
        min_length=1,
        forbidden=molecules.FORBIDDEN,
        python_reward=True,
    )


def words_of(env):
    return [word.rstrip("·") for word in env.words(env.complete_states())]


@pytest.fixture(scope="module")
def short_words():
    """All words of up to three letters, with the canonical SMILES that RDKit has of each."""
    return {word: Chem.CanonSmiles(molecules.smiles(word)) for word in words_of(chains(3))}


def test_every_word_is_a_valid_molecule_without_bonds_between_n_and_o(short_words):
    assert len(short_words) == 1979
    heteroatoms = Chem.MolFromSmarts("[N,O]~[N,O]")
    for word in short_words:
        molecule = molecules.to_rdkit(word)
        assert molecule is not None, word
        assert not molecule.HasSubstructMatch(heteroatoms), word


def test_each_letter_reversed_is_the_same_fragment_read_from_its_other_end():
    for fragment in molecules.FRAGMENTS:
        other = molecules.smiles(fragment.reverse)
        assert Chem.CanonSmiles(f"F{fragment.smiles}Cl") == Chem.CanonSmiles(f"Cl{other}F")


def test_spellings_are_all_words_of_the_same_molecule(short_words):
    same = collections.defaultdict(list)
    for word, canonical in short_words.items():
        same[canonical].append(word)
    for word, canonical in short_words.items():
        assert molecules.spellings(word) == sorted(same[canonical]), word
    assert {len(found) for found in same.values()} == {1, 2, 4, 8}


def test_long_words_are_spelled_alike(short_words):
    rng = np.random.default_rng(0)
    for _ in range(100):
        word = "".join(rng.choice([*"Cpmyta"], size=7))
        found = {Chem.CanonSmiles(molecules.smiles(each)) for each in molecules.spellings(word)}
        assert len(found) == 1, word


def test_the_table_is_what_rdkit_says():
    rng = np.random.default_rng(1)
    words = [*rng.choice(words_of(chains(4)), 60, replace=False), "p", "tATD"]
    for stored, live in zip(molecules.load_scores(words), molecules.score(words), strict=True):
        np.testing.assert_allclose(stored, live, rtol=0, atol=6e-4)


def test_the_table_holds_each_word_of_up_to_four_letters():
    words = words_of(chains(4))
    assert len(words) == 23_452
    assert np.isfinite(np.stack(molecules.load_scores(words))).all()
    with np.load(molecules.DATA) as archive:
        stored = archive["words"].tolist()
    assert len(stored) == len({min(molecules.spellings(word)) for word in words}) == 9912


def test_the_file_is_the_one_of_the_data_card():
    card = (molecules.DATA.parent / "README.md").read_text()
    digest = hashlib.sha256(molecules.DATA.read_bytes()).hexdigest()
    assert digest in re.findall(r"`([0-9a-f]{64})`", card)


def test_a_reward_of_words_divided_by_spellings_is_a_reward_of_molecules():
    words = words_of(chains(3))
    value = molecules.objectives(molecules.load_scores(words)).sum(axis=1)
    log_reward = 8 * np.log(value) - np.log([len(molecules.spellings(word)) for word in words])
    row = {word: i for i, word in enumerate(words)}

    def reward_of(letters):
        batch = ["".join(molecules.ALPHABET[i] for i in word if i >= 0) for word in letters]
        return log_reward[[row[word] if word else 0 for word in batch]]

    env = chains(3, reward_of)
    target = env.target()[np.asarray(env.index(env.complete_states()))]
    of_molecule, deserved = collections.Counter(), {}
    for word, probability, each in zip(words, target, value, strict=True):
        of_molecule[min(molecules.spellings(word))] += probability
        deserved[min(molecules.spellings(word))] = each**8
    total = sum(deserved.values())
    for word, probability in of_molecule.items():
        assert probability == pytest.approx(deserved[word] / total, rel=1e-9)


def test_objectives_by_hand():
    scores = molecules.Scores(*np.array([[0.5, 0.9], [1.0, 5.5], [250.0, 500.0]]))
    np.testing.assert_allclose(
        molecules.objectives(scores, WINDOW), [[0.5, 1, 1], [0.9, 0.5, 0.01]]
    )
    light = molecules.Scores(*np.array([[0.0], [10.0], [175.0]]))
    np.testing.assert_allclose(molecules.objectives(light, WINDOW), [[0.01, 0.01, 0.5]])
    np.testing.assert_allclose(molecules.objectives(light, (0, 100))[:, 2], [0.5])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: molecules.smiles("pX"), ValueError, "word must be a string of letters"),
        (lambda: molecules.smiles(""), ValueError, "word must be"),
        (lambda: molecules.smiles(3), ValueError, "word must be"),
        (lambda: molecules.load_scores(["p", "OO"]), ValueError, "words must be chains.*'OO'"),
        (lambda: molecules.load_scores(["ppppp"]), ValueError, "words must be chains"),
        (lambda: molecules.score(["p?"]), ValueError, "word must be"),
        (
            lambda: molecules.objectives(molecules.load_scores(["p"]), (300, 200)),
            ValueError,
            r"window\[1\]",
        ),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_without_rdkit_the_table_works_and_the_rest_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without_rdkit(name, *args, **kwargs):
        if name.startswith("rdkit"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_rdkit)
    assert molecules.load_scores(["p"]).weight == pytest.approx(78.1, abs=0.1)
    with pytest.raises(ImportError, match=r"pip install .*gfn_utils\[multi_objective\]"):
        molecules.to_rdkit("p")


def test_the_package_imports_without_rdkit():
    code = "import sys, gfn_utils.rewards.molecules; assert 'rdkit' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
