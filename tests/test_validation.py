"""Checks of arguments, against hostile values; and what importing the package refuses and says."""

import fractions
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tensorflow as tf

import gfn_utils
from gfn_utils.validation import (
    check_callback,
    check_choice,
    check_flag,
    check_function,
    check_integer,
    check_number,
    check_numbers,
    check_stop,
    shown,
)


class Unshowable:
    def __repr__(self):
        raise RuntimeError("no words for it")

    def __eq__(self, other):
        raise RuntimeError("equal to nothing")

    __hash__ = None


NO_NUMBERS = [
    None,
    "",
    "1",
    b"1",
    True,
    np.True_,
    [],
    [1],
    (1,),
    {},
    {1},
    1j,
    Ellipsis,
    Unshowable(),
    len,
    np.array([1]),
    np.array([]),
    np.array("1"),
    np.array(None),
    np.complex64(1),
    np.datetime64("2020"),
    np.timedelta64(3, "s"),
    np.dtype("float32"),
    tf.constant([1, 2]),
    tf.constant("1"),
    np.ma.masked,
]
WHOLE = [(3, 3), (np.int64(3), 3), (np.uint8(3), 3), (np.array(3), 3), (tf.constant(3), 3)]
REAL = [
    (2.5, 2.5),
    (np.float32(2.5), 2.5),
    (np.float16(2.5), 2.5),
    (np.array(2.5), 2.5),
    (tf.constant(2.5), 2.5),
    (tf.Variable(2.5), 2.5),
    (fractions.Fraction(5, 2), 2.5),
]


@pytest.mark.parametrize(("value", "expected"), WHOLE, ids=repr)
def test_integers_come_back_as_pythons(value, expected):
    found = check_integer("n", value, minimum=1)
    assert (found, type(found)) == (expected, int)
    assert type(check_number("x", value)) is float


@pytest.mark.parametrize(("value", "expected"), REAL, ids=repr)
def test_numbers_come_back_as_pythons(value, expected):
    found = check_number("x", value)
    assert (found, type(found)) == (expected, float)
    with pytest.raises(TypeError, match="n must be an integer of at least 1, got"):
        check_integer("n", value, minimum=1)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_what_is_no_number_is_named(value):
    with pytest.raises(TypeError, match="x must be a number, got"):
        check_number("x", value)
    with pytest.raises(TypeError, match="n must be an integer of at least 0, got"):
        check_integer("n", value, minimum=0)


def test_numbers_must_be_finite():
    for value in (math.nan, math.inf, -math.inf, np.float32("nan"), 10**400, 10**5000):
        with pytest.raises(ValueError, match="x must be finite, got"):
            check_number("x", value)


def test_bounds_are_named():
    for value in (0, 4, 10**5000, -(10**5000)):
        with pytest.raises(ValueError, match="n must be an integer of at least 1"):
            check_integer("n", value, minimum=1, maximum=3)
    for value in (0.0, 1.5):
        with pytest.raises(
            ValueError, match=f"x must be finite and above 0 and at most 1, got {value}"
        ):
            check_number("x", value, above=0.0, maximum=1.0)
    assert check_number("x", 1, above=0.0, maximum=1.0) == 1.0


@pytest.mark.parametrize(
    "value", ["up", "", *NO_NUMBERS[4:]], ids=lambda value: type(value).__name__
)
def test_choices_are_strings(value):
    with pytest.raises((TypeError, ValueError), match="way must be one of 'down', 'float32', got"):
        check_choice("way", value, ("down", "float32"))


def test_a_choice_comes_back_as_pythons_string():
    assert type(check_choice("way", np.str_("down"), ("down",))) is str
    assert np.dtype("float32") == "float32"  # which made it pass for the string
    with pytest.raises(TypeError, match=r"dtype must be one of 'float32', got dtype\('float32'\)"):
        check_choice("dtype", np.dtype("float32"), ("float32",))


def test_flags():
    for value in (True, np.True_, np.array(True), tf.constant(True)):
        assert check_flag("explore", value) is True
        assert check_stop("callback", value) is True
    assert check_flag("explore", False) is False
    assert check_stop("callback", None) is False
    for value in ("False", "no", 0, 1, 1.0, [], [True], np.array([True, False]), Unshowable()):
        with pytest.raises(TypeError, match="explore must be True or False, got"):
            check_flag("explore", value)
        with pytest.raises(
            TypeError, match=r"callback must return True \(to stop\), False or None"
        ):
            check_stop("callback", value)
    with pytest.raises(TypeError, match="explore must be True or False, got None"):
        check_flag("explore", None)


def test_functions():
    assert check_function("answer", len) is len
    for value in (None, "len", Unshowable()):
        with pytest.raises(TypeError, match="answer must be a function, got"):
            check_function("answer", value)


def test_callbacks():
    assert check_callback("callback", len) is len
    assert check_callback("callback", None) is None
    with pytest.raises(TypeError, match=r"callback must be a function or None, got \[1\]"):
        check_callback("callback", [1])


def test_arrays_of_numbers():
    for value in ([1, 2], (1.0, 2.0), np.array([1, 2], np.uint8), tf.constant([1, 2]), range(1, 3)):
        found = check_numbers("p", value)
        assert found.dtype == np.float64
        assert found.tolist() == [1, 2]
    for value in (None, "ab", ["1", "2"], [1, None], [[1, 2], [3]], [True, False], [1j], {}, len):
        with pytest.raises(TypeError, match="p must be an array of numbers, got"):
            check_numbers("p", value)


def test_masked_numbers_are_not_taken_for_numbers():
    hidden = np.ma.masked_array([0.5, 7.0], [False, True])
    for value in (hidden, np.ma.masked):
        with pytest.raises(TypeError, match="p must be an array of numbers, got"):
            check_numbers("p", value)
    assert check_numbers("p", np.ma.masked_array([1, 2])).tolist() == [1, 2]


def test_values_are_shown_shortly_and_always():
    assert shown("a") == "'a'"
    assert shown(np.zeros([2, 2])) == "array([[0., 0.], [0., 0.]])"
    assert shown("a" * 10**6).endswith("… (1,000,002 characters)")
    assert len(shown(list(range(10**5)))) < 250
    assert "int" in shown(10**5000)
    assert "Unshowable" in shown(Unshowable())


def in_a_new_python(code, **variables):
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": "", **variables}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_of_keras_is_refused_in_words(backend):
    ended = in_a_new_python("import gfn_utils", KERAS_BACKEND=backend)
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(
        f"ImportError: gfn_utils needs Keras on TensorFlow, but its backend is {backend!r}"
    )


def test_a_settings_file_of_keras_does_not_change_the_backend_and_nothing_is_warned_of(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    code = "import warnings; warnings.simplefilter('error'); import gfn_utils, tensorflow"
    ended = in_a_new_python(code, KERAS_HOME=str(tmp_path))
    assert ended.returncode == 0, ended.stderr


def test_tensorflow_before_the_package_is_noticed_once():
    ended = in_a_new_python("import tensorflow, gfn_utils, gfn_utils.sampling; import gfn_utils")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("TensorFlow was imported before gfn_utils") == 1


def test_tensorflow_before_the_package_is_allowed_with_its_settings(monkeypatch):
    # TensorFlow is there already: this is what a later import of the package would do.
    settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gfn_utils._prepare_tensorflow()
    for name in settings:
        with monkeypatch.context() as one_missing:
            one_missing.delenv(name)
            with pytest.warns(UserWarning, match="TensorFlow was imported before gfn_utils"):
                gfn_utils._prepare_tensorflow()
