"""Scores of sets of objects, against SciPy and against what each is defined as."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist

from gfn_utils import evaluation
from gfn_utils.evaluation import hamming

# Few letters and places, so that equal objects and equal distances come up.
SCORED_WORDS = st.lists(
    st.tuples(
        st.tuples(*[st.integers(0, 2)] * 3), st.sampled_from([-math.inf, -2.0, 0.0, 0.5, 1.0])
    ),
    min_size=1,
    max_size=15,
).map(lambda pairs: (np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])))

RNG = np.random.default_rng(0)
WORDS = RNG.integers(0, 4, (40, 8))
LOG_R = np.round(RNG.normal(size=40), 1)


def euclidean(a, b):
    return np.sqrt(np.square(a - b).sum(axis=1))


def every_one(objects, log_rewards):
    return np.ones(len(objects), bool)


def test_hamming_counts_the_places_that_differ():
    assert hamming([[0, 1, 2], [3, 3, 3]], [[0, 2, 1], [3, 3, 3]]).tolist() == [2, 0]
    assert hamming([1, 2], [1, 3]).tolist() == [0, 1]
    assert hamming(np.zeros([2, 3, 4]), np.ones([2, 3, 4])).tolist() == [12, 12]
    with pytest.raises(ValueError, match="a and b must have the same shape"):
        hamming([[0, 1]], [[0, 1], [0, 1]])


@given(SCORED_WORDS)
def test_ranked_gives_each_object_once_with_its_best_reward(scored):
    found = evaluation.ranked(*scored)
    best = {}
    for word, log_r in zip(map(tuple, scored[0]), scored[1], strict=True):
        best[word] = max(log_r, best.get(word, -math.inf))
    expected = sorted(best, key=lambda word: (-best[word], word))
    assert list(map(tuple, found.objects)) == expected
    assert found.log_rewards.tolist() == [best[word] for word in expected]


def test_objects_may_have_any_shape():
    numbers, boards = np.array([3, 1, 3, 2]), np.arange(4)[:, None, None] // 2 * np.ones([4, 2, 2])
    assert evaluation.ranked(numbers, [0, 5, 1, 5]).objects.tolist() == [1, 2, 3]
    assert evaluation.ranked(boards, [0, 1, 2, 3]).objects.tolist() == [[[1, 1]] * 2, [[0, 0]] * 2]
    assert evaluation.diversity(boards, hamming) == pytest.approx(4 * 4 / 6)


def test_top_k_mean_is_of_rewards_of_distinct_objects():
    objects = [[0, 1], [2, 2], [0, 1], [3, 0]]
    log_r = np.log([4.0, 1.0, 4.0, 2.0])
    assert evaluation.top_k_mean(objects, log_r, 1) == pytest.approx(4)
    assert evaluation.top_k_mean(objects, log_r, 2) == pytest.approx(3)
    assert evaluation.top_k_mean(objects, log_r, 3) == pytest.approx(7 / 3)
    assert evaluation.top_k(objects, log_r, 2).objects.tolist() == [[0, 1], [3, 0]]
    with pytest.raises(ValueError, match="k must be at most 3, the number of distinct objects"):
        evaluation.top_k_mean(objects, log_r, 4)


def test_diversity_is_the_mean_pairwise_distance():
    expected = 8 * pdist(WORDS, "hamming").mean()
    assert evaluation.diversity(WORDS, hamming) == pytest.approx(expected, rel=1e-12)
    expected = pdist(WORDS).mean()
    assert evaluation.diversity(WORDS, euclidean) == pytest.approx(expected, rel=1e-12)
    assert evaluation.diversity([[1, 2], [1, 2]], hamming) == 0


def test_novelty_is_the_mean_distance_to_the_nearest():
    known = RNG.integers(0, 4, (7, 8))
    expected = cdist(WORDS, known).min(axis=1).mean()
    assert evaluation.novelty(WORDS, known, euclidean) == pytest.approx(expected, rel=1e-12)
    assert evaluation.novelty(WORDS, WORDS[::-1], hamming) == 0


def test_a_distance_is_asked_about_one_object_at_a_time():
    asked = []

    def recording(a, b):
        asked.append(len(b))
        assert a.shape == b.shape
        return hamming(a, b)

    evaluation.diversity(WORDS, recording)
    evaluation.novelty(WORDS, WORDS[:3], recording)
    evaluation.separate_modes(WORDS, LOG_R, every_one, recording, 3)
    assert max(asked) < len(WORDS)


@given(SCORED_WORDS, st.integers(0, 4))
def test_modes_are_apart_and_the_best_that_are(scored, min_distance):
    modes = evaluation.separate_modes(
        *scored, lambda objects, log_rewards: log_rewards >= 0, hamming, min_distance
    )
    apart = 3 * cdist(modes.objects, modes.objects, "hamming") if len(modes.objects) else []
    for i in range(len(modes.objects)):
        assert modes.log_rewards[i] >= 0
        assert all(apart[i][j] >= min_distance for j in range(i))
    # Whatever else could be one is too close to one at least as good.
    kept = set(map(tuple, modes.objects))
    for word, log_r in zip(map(tuple, scored[0]), scored[1], strict=True):
        if log_r >= 0 and word not in kept:
            better = modes.objects[modes.log_rewards >= log_r]
            assert any(hamming([word] * len(better), better) < min_distance)


def test_modes_on_a_line():
    points, log_r = np.array([0, 1, 2, 3, 10]), [0.0, 2.0, 1.0, 3.0, -1.0]
    modes = evaluation.separate_modes(points, log_r, every_one, lambda a, b: abs(a - b), 2)
    assert modes.objects.tolist() == [3, 1, 10]
    assert modes.log_rewards.tolist() == [3, 2, -1]
    modes = evaluation.separate_modes(
        points, log_r, lambda objects, log_rewards: objects < 0, lambda a, b: abs(a - b), 2
    )
    assert len(modes.objects) == 0


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (lambda: evaluation.ranked([], []), "objects must hold at least one object"),
        (lambda: evaluation.ranked([["a"]], [0.0]), "objects must be an array of numbers"),
        (lambda: evaluation.ranked([[1], [1, 2]], [0, 0]), "objects must be an array of numbers"),
        (lambda: evaluation.ranked(3, [0.0]), r"objects must hold .*, got shape \[\]"),
        (lambda: evaluation.ranked(WORDS, [0.0]), r"log_rewards must be of shape \[40\], got"),
        (lambda: evaluation.ranked([1], [math.nan]), "log_rewards must be finite or -inf, got nan"),
        (lambda: evaluation.top_k(WORDS, LOG_R, 0), "k must be an integer of at least 1, got 0"),
        (lambda: evaluation.diversity(WORDS[:1], hamming), "the number of objects must be"),
        (lambda: evaluation.diversity(WORDS, "hamming"), "distance must be a function"),
        (lambda: evaluation.diversity(WORDS, lambda a, b: 0.0), "distance must give 39 numbers"),
        (
            lambda: evaluation.diversity(WORDS, lambda a, b: -hamming(a, b)),
            "distance must give 39 numbers of at least 0",
        ),
        (
            lambda: evaluation.diversity(WORDS, lambda a, b: hamming(a, b) * math.nan),
            "distance must give 39 numbers",
        ),
        (lambda: evaluation.diversity(WORDS, lambda a, b: ["a"] * 39), "what distance gives"),
        (lambda: evaluation.novelty(WORDS, [], hamming), "known must hold at least one object"),
        (lambda: evaluation.novelty(WORDS, [[1, 2]], hamming), "known must hold objects of the"),
        (lambda: evaluation.novelty(WORDS, WORDS, None), "distance must be a function"),
        (
            lambda: evaluation.separate_modes(WORDS, LOG_R, None, hamming, 1),
            "is_mode must be a function",
        ),
        (
            lambda: evaluation.separate_modes(WORDS, LOG_R, lambda x, r: r, hamming, 1),
            "is_mode must give 40 times True or False",
        ),
        (
            lambda: evaluation.separate_modes(WORDS, LOG_R, every_one, hamming, -1),
            "min_distance must be finite and at least 0, got -1",
        ),
    ],
)
def test_bad_input_is_named(question, message):
    with pytest.raises((ValueError, TypeError), match=message):
        question()
