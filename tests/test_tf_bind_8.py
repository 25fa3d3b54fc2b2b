"""The binding data: the file, what is made of it, and the script that rebuilds it."""

import hashlib
import importlib.util
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from gfn_utils import LeftToRightSequences, check_environment
from gfn_utils.rewards import tf_bind_8

ROOT = pathlib.Path(__file__).parents[1]
# To seven digits, from three lines of the measurements: (E + 0.47907) / (0.49105 + 0.47907).
SOME_SCORES = {"AGGTATCA": 1.0, "AAAAAAAA": 0.5247495, "GTTTTTTT": 0.3665114}


@pytest.fixture(scope="module")
def scores():
    return tf_bind_8.load_scores()


@pytest.fixture(scope="module")
def build():
    path = ROOT / "tools" / "build_tf_bind_8.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measurements(scores_of_pairs):
    """A text of the form of the measurements, from scores in the order of the canonical words."""
    rows = [
        f"{word}\t{tf_bind_8.reverse_complement(word)}\t{score:.5f}\t75038.19\t0.9"
        for word, score in zip(tf_bind_8.canonical_words(), scores_of_pairs, strict=True)
    ]
    return "\n".join(["8-mer\t8-mer\tE-score\tMedian\tZ-score", *rows])


def test_the_file_is_the_one_that_was_measured():
    digest = hashlib.sha256(tf_bind_8.DATA.read_bytes()).hexdigest()
    assert digest == "0fcb22e738e265a25b31161724eeb9caa8c875f9986ced5311426b07c65db397"
    assert digest in (tf_bind_8.DATA.parent / "README.md").read_text()


def test_every_word_has_a_score_from_0_to_1(scores):
    assert scores.shape == (4**8,)
    assert (scores.min(), scores.max()) == (0, 1)
    words = tf_bind_8.all_words()
    for word, score in SOME_SCORES.items():
        assert scores[words.index(word)] == pytest.approx(score, abs=1e-7)


def test_both_strands_have_the_same_score(scores):
    number = {word: i for i, word in enumerate(tf_bind_8.all_words())}
    other = [number[tf_bind_8.reverse_complement(word)] for word in number]
    np.testing.assert_array_equal(scores, scores[other])
    assert len(tf_bind_8.canonical_words()) == (4**8 + 4**4) / 2


def test_the_reward_is_the_power_of_the_score_above_a_floor(scores):
    env = LeftToRightSequences(tf_bind_8.log_reward(scores, beta=3, floor=0.01))
    some = np.random.default_rng(0).choice(tf_bind_8.all_words(), 300)
    number = {word: i for i, word in enumerate(tf_bind_8.all_words())}
    expected = [max(0.01, scores[number[word]] ** 3) for word in some]
    np.testing.assert_allclose(np.exp(env.log_reward(env.states_of(some))), expected, rtol=1e-12)
    assert min(expected) == 0.01
    check_environment(env)


def test_the_order_is_that_of_the_environment(scores):
    env = LeftToRightSequences(tf_bind_8.log_reward(scores, beta=1, floor=1e-9))
    assert env.words(env.complete_states()) == tf_bind_8.all_words()
    rewards = np.exp(env.log_reward(env.complete_states()))
    np.testing.assert_allclose(rewards, np.maximum(scores, 1e-9), rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": -1}, "beta must be .*at least 0, got -1"),
        ({"floor": 0}, "floor must be .*above 0"),
        ({"floor": 2}, "floor must be .*at most 1, got 2"),
        ({"scores": np.ones(7)}, r"scores must have shape \[65536\], got \(7,\)"),
        ({"scores": np.full(4**8, 1.5)}, r"scores must be in \[0, 1\], got 1.5"),
        ({"scores": np.full(4**8, np.nan)}, r"scores must be in \[0, 1\], got nan"),
    ],
)
def test_a_reward_out_of_bounds(scores, change, message):
    with pytest.raises(ValueError, match=message):
        tf_bind_8.log_reward(**{"scores": scores, **change})


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        tf_bind_8.load_scores(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("8-mer")
    np.savez(tmp_path / "other.npz", weights=np.ones(3))
    np.savez(tmp_path / "short.npz", e_score=np.arange(5))
    for name in ("text.npz", "other.npz", "short.npz"):
        with pytest.raises(ValueError, match=rf"path must .*{name}"):
            tf_bind_8.load_scores(tmp_path / name)


def test_the_script_rebuilds_what_was_measured(build, tmp_path, monkeypatch):
    e_score = np.random.default_rng(0).integers(-50_000, 50_000, (4**8 + 4**4) // 2) / 1e5
    (tmp_path / "factor.txt").write_text(measurements(e_score))
    arguments = ["--measurements", "factor.txt", "--output", "factor.npz"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["build_tf_bind_8.py", *arguments])
    build.main()
    assert {path.name for path in tmp_path.iterdir()} == {"factor.txt", "factor.npz"}
    scores = tf_bind_8.load_scores(tmp_path / "factor.npz")
    scaled = (e_score - e_score.min()) / np.ptp(e_score)
    number = {word: i for i, word in enumerate(tf_bind_8.all_words())}
    canonical = [number[word] for word in tf_bind_8.canonical_words()]
    np.testing.assert_allclose(scores[canonical], scaled, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("E-score", "Score", 1), "columns"),
        (lambda text: text.rsplit("\n", 1)[0], "32896 pairs"),
        (lambda text: text + "\n" + text.rsplit("\n", 1)[1], "32896 pairs"),
        (lambda text: text.replace("AAAAAAAC\tGTTTTTTT", "AAAAAAAC\tGTTTTTTA"), "other strand"),
        (lambda text: text.replace("0.25000", "0.2500012", 1), "five decimals"),
    ],
)
def test_the_script_refuses_other_texts(build, change, message):
    text = measurements(np.full((4**8 + 4**4) // 2, 0.25))
    with pytest.raises(ValueError, match=message):
        build.parse(change(text))


def test_a_reward_is_compiled_without_its_table(scores):
    log_reward = tf_bind_8.log_reward(scores)
    compiled = tf.function(log_reward, jit_compile=True)
    letters = tf.constant(np.random.default_rng(0).integers(4, size=[50, 8]), tf.int32)
    np.testing.assert_allclose(compiled(letters), log_reward(letters), rtol=1e-14)


@pytest.mark.parametrize(
    "wrong",
    [None, "ab", ["0.5"] * 4**8, [None] * 4**8, [True] * 4**8, 0.5, {}],
    ids=lambda w: str(w)[:9],
)
def test_scores_that_are_no_numbers(wrong):
    with pytest.raises((TypeError, ValueError), match="scores must"):
        tf_bind_8.log_reward(wrong)


def test_later_changes_of_the_scores_change_no_reward(scores):
    mine = scores.copy()
    log_reward = tf_bind_8.log_reward(mine)
    before = log_reward(tf.zeros([1, 8], tf.int32)).numpy()
    mine[:] = 1
    assert log_reward(tf.zeros([1, 8], tf.int32)).numpy() == before < 0


@pytest.mark.parametrize("path", [None, 5, [], b"\xff", ".", "missing\0.npz"], ids=repr)
def test_what_is_no_file_of_scores(path):
    with pytest.raises((ValueError, FileNotFoundError)):
        tf_bind_8.load_scores(path)


def test_a_file_with_a_score_that_is_none(tmp_path):
    for bad in (np.nan, np.inf):
        e_score = np.arange(32896.0)
        e_score[5] = bad
        np.savez(tmp_path / "bad.npz", e_score=e_score)
        with pytest.raises(ValueError, match="path must hold different, finite scores"):
            tf_bind_8.load_scores(tmp_path / "bad.npz")


@pytest.mark.parametrize("word", [None, 5, "ACGU", "acgt", b"ACGT", ["A"]], ids=repr)
def test_only_dna_has_another_strand(word):
    with pytest.raises(ValueError, match="word must be a string of letters of 'ACGT'"):
        tf_bind_8.reverse_complement(word)
