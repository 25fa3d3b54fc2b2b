"""What the notebooks say and check: `lesson.claim`, `lesson.check`, and the rest."""

import functools
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf

from gfn_utils.classroom import lesson


@pytest.mark.parametrize("holds", [True, np.True_, np.array(True), tf.constant(True)])
def test_a_claim_that_holds_is_printed(holds, capsys):
    lesson.claim("two and two are four", holds, 4.0)
    assert capsys.readouterr().out == "✓ two and two are four  [measured: 4.0]\n"


def test_a_claim_whose_digits_vary_says_so(capsys):
    lesson.claim("two and two are four", True, 4.056, varies=True)
    assert capsys.readouterr().out == "✓ two and two are four  [measured here: 4.1]\n"


def test_a_picture_is_shown_with_its_description(monkeypatch):
    shown = []
    monkeypatch.setattr(lesson, "display", lambda bundle, raw: shown.append((bundle, raw)))
    figure = plt.figure()
    lesson.show(figure, "An empty figure.")
    ((bundle, raw),) = shown
    assert raw
    assert bundle["text/plain"] == "An empty figure."
    assert bundle["image/png"].startswith(b"\x89PNG")
    assert not plt.fignum_exists(figure.number)
    with pytest.raises(ValueError, match="description must be a sentence that says what"):
        lesson.show(figure, "  ")
    with pytest.raises(TypeError, match="figure must be a matplotlib Figure, got 3"):
        lesson.show(3, "An empty figure.")


@pytest.mark.parametrize("holds", [False, np.False_, tf.constant(False)])
def test_a_claim_that_does_not_hold_raises(holds):
    with pytest.raises(AssertionError, match="this does not hold here: two and two are five"):
        lesson.claim("two and two are five", holds)


@pytest.mark.parametrize(
    "holds", [float("nan"), 1, 0.0, "no", None, [], np.array([True, True]), np.array(1.0)]
)
def test_a_claim_is_true_or_false_and_nothing_else(holds):
    with pytest.raises(TypeError, match="holds must be True or False, got "):
        lesson.claim("something", holds)


def double(x):
    return 2 * x


CASES = [((1,), 2), ((np.array([1.0, 2.0]),), np.array([2.0, 4.0]))]


def verdict(answer, capsys, cases=CASES, **settings):
    lesson.check(answer, cases, **settings)
    return capsys.readouterr().out


def test_verdicts(capsys):
    assert verdict(double, capsys) == "✓ Right: double passes the check.\n"
    assert verdict(functools.partial(double), capsys).startswith("✓ Right: partial")
    said = verdict(lambda x: x, capsys, hint="Twice.")
    assert said == "✗ Not yet: <lambda>(1) gave 1, expected 2. Twice.\n"
    assert "Is a `return` missing?" in verdict(lambda x: None, capsys)
    assert verdict(lambda x: ..., capsys).startswith("○ Not answered yet")
    assert "raised ZeroDivisionError" in verdict(lambda x: 1 / 0, capsys)


def test_a_grade_is_the_verdict_and_raises_unless_it_is_right(capsys):
    def loud(x):
        print("a warning", file=sys.stderr)
        return 2 * x

    lesson.grade(loud, CASES)
    assert capsys.readouterr() == ("✓ Right: loud passes the check.\n", "")
    with pytest.raises(
        AssertionError, match=r"✗ Not yet: <lambda>\(1\) gave 1, expected 2. Twice."
    ):
        lesson.grade(lambda x: x, CASES, hint="Twice.")
    with pytest.raises(AssertionError, match="○ Not answered yet: complete <lambda>"):
        lesson.grade(lambda x: ..., CASES)
    lesson.grade(lambda x: 2 * x + 0.1, CASES, tolerance=0.2)
    with pytest.raises(TypeError, match="answer must be "):
        lesson.grade(None, CASES)


@pytest.mark.parametrize("found", ["two", [[1], [2, 3]], np.nan, {"two": 2}, [2]])
def test_an_answer_of_another_kind_is_wrong_and_not_an_error(found, capsys):
    said = verdict(lambda x: found, capsys)
    assert said.startswith("✗ Not yet: <lambda>(1) gave ")
    assert "expected 2" in said


def test_what_is_not_known_agrees_with_itself_alone(capsys):
    case = [((1,), [np.nan, 2.0])]
    assert verdict(lambda x: [np.nan, 2.0], capsys, case).startswith("✓")
    for wrong in ([0.0, 2.0], [np.nan, np.nan], [2.0, np.nan], np.nan):
        assert verdict(lambda x, found=wrong: found, capsys, case).startswith("✗")


def test_words_are_compared_as_words(capsys):
    assert verdict(str.upper, capsys, [(("a",), "A")]).startswith("✓")
    assert verdict(str.lower, capsys, [(("a",), "A")]).startswith("✗")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, CASES), TypeError, "answer must be a function, got 3"),
        ((double, []), ValueError, "cases must be a list of pairs.* got none"),
        ((double, None), TypeError, "cases must be a list of pairs.* got None"),
        ((double, [(1, 2)]), TypeError, r"cases must be a list of pairs.* got \(1, 2\)"),
        ((double, [((1,), 2, 3)]), TypeError, "cases must be a list of pairs"),
        ((double, CASES, None), TypeError, "hint must be a sentence, got None"),
        ((double, CASES, "", -1.0), ValueError, "tolerance must be finite and at least 0"),
        ((double, CASES, "", np.nan), ValueError, "tolerance must be finite and at least 0"),
    ],
)
def test_a_check_that_could_not_fail_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        lesson.check(*arguments)


RECURSIVE = []
RECURSIVE.append(RECURSIVE)


@pytest.mark.parametrize(
    "given",
    [10**5000, [[1], [1, 2]], RECURSIVE, tf.ragged.constant([[1]])],
    ids=["huge", "ragged list", "recursive", "ragged"],
)
def test_whatever_a_learner_gives_gets_a_verdict(given, capsys):
    lesson.check(lambda number: given, CASES)
    assert capsys.readouterr().out.startswith("✗ Not yet: <lambda>(")
    lesson.claim("it is shown", True, given)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lesson.setup("0"), "seed must be an integer"),
        (lambda: lesson.show_source(3), "thing must be a function, class or module"),
        (lambda: lesson.show_source(len), "thing must be a function, class or module"),
        (lambda: lesson.LivePicture(3), "description must be a sentence"),
        (lambda: lesson.LivePicture("a picture").show(3), "figure must be a matplotlib Figure"),
        (lambda: lesson.claim(3, True), "text must be a sentence"),
    ],
)
def test_what_is_wrong_is_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()
