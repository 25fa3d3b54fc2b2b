"""What only a notebook needs: set-up, claims, exercise checks, live source and live pictures."""

import contextlib
import inspect
import io

import keras
import numpy as np
import tensorflow as tf
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from gfn_utils.classroom import plotting
from gfn_utils.validation import (
    check_flag,
    check_function,
    check_instance,
    check_integer,
    check_number,
    shown,
)


def setup(seed: int = 0) -> None:
    """Fix the random seeds and the look of figures and arrays, so that each run is the same."""
    keras.utils.set_random_seed(check_integer("seed", seed, minimum=0))
    # Each new kind of agent is compiled. TensorFlow takes that for a mistake, and says so.
    tf.get_logger().setLevel("ERROR")
    np.set_printoptions(precision=3, suppress=True, linewidth=100)
    plotting.use_course_style()


def claim(text: str, holds, measured=None, varies: bool = False) -> None:
    """State a fact that this run has just checked; AssertionError if it does not hold.

    `holds` is True or False, `measured` the value behind it, shown to four significant digits. Of
    a long training the digits depend on the processor: `varies=True` says so, shows two digits,
    and lets the test of the notebooks (tests/nbval_sanitize.cfg) accept others.
    """
    check_instance("text", text, str, "a sentence")
    digits, where = (2, "measured here") if check_flag("varies", varies) else (4, "measured")
    value = "" if measured is None else f"  [{where}: {_short(measured, digits)}]"
    if not check_flag("holds", holds):
        raise AssertionError(f"this does not hold here: {text}{value}")
    print(f"✓ {text}{value}")


def check(answer, cases, hint: str = "", tolerance: float = 1e-6) -> None:
    """Tell a learner whether a function of theirs is right, and if not where it goes wrong.

    `cases` lists pairs of arguments (a tuple) and the right result, a number or an array, in which
    NaN agrees with NaN alone. Prints one verdict: right, not yet (the first case that differs, and
    `hint`), or not answered.
    """
    print(_verdict(answer, cases, hint, tolerance))


def grade(answer, cases, hint: str = "", tolerance: float = 1e-6) -> None:
    """`check` for a grader: AssertionError, with the verdict, unless the answer is right.

    `make assignments` puts it into the hidden tests. What the answer writes to stderr is dropped:
    nbgrader would take a warning for an error.
    """
    with contextlib.redirect_stderr(io.StringIO()):
        verdict = _verdict(answer, cases, hint, tolerance)
    if not verdict.startswith("✓"):
        raise AssertionError(verdict)
    print(verdict)


def _verdict(answer, cases, hint, tolerance):
    """One line that begins with ✓ (right), ✗ (wrong) or ○ (not answered)."""
    check_function("answer", answer)
    check_instance("hint", hint, str, "a sentence")
    tolerance = check_number("tolerance", tolerance, minimum=0.0)
    name = _name_of(answer)
    for arguments, expected in _checked_cases(cases):
        call = f"{name}({', '.join(map(_short, arguments))})"
        try:
            found = answer(*arguments)
            if found is Ellipsis:
                return f"○ Not answered yet: complete {name}, then run this cell again."
            if found is None:
                return f"✗ Not yet: {call} gave nothing. Is a `return` missing?"
        except Exception as error:
            return f"✗ Not yet: {call} raised {type(error).__name__}: {error}"
        if not _agree(found, expected, tolerance):
            digits = 3 if _short(found) != _short(expected) else 8
            found, expected = _short(found, digits), _short(expected, digits)
            return f"✗ Not yet: {call} gave {found}, expected {expected}. {hint}"
    return f"✓ Right: {name} passes the check."


def show_source(thing) -> None:
    """Show the package's own source of a function or class, as it is now."""
    try:
        source = inspect.getsource(thing)
    except (TypeError, OSError) as error:
        form = "a function, class or module written in Python"
        raise TypeError(f"thing must be {form}, got {shown(thing)}") from error
    display(Markdown(f"```python\n{source}```"))


def show(figure: Figure, description: str) -> None:
    """Show a figure and close it, with a text for those who cannot see it.

    `description` says what the picture shows, with the numbers that matter, rounded so that they
    are the same on every machine: it is saved with the picture, and compared when tests run it.
    """
    description = _check_description(description)
    check_instance("figure", figure, Figure, "a matplotlib Figure")
    display({"image/png": plotting.png_of(figure), "text/plain": description}, raw=True)


class LivePicture:
    """A figure that changes while a cell runs, and stays as its last state in the saved notebook.

    `description` is the fixed text for those who cannot see the picture.
    """

    def __init__(self, description: str):
        self.description = _check_description(description)
        self._handle = None

    def show(self, figure: Figure) -> None:
        """Show the figure in the place of the one before, and close it."""
        bundle = {"image/png": plotting.png_of(figure), "text/plain": self.description}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def _check_description(description):
    form = "a sentence that says what the picture shows"
    if not check_instance("description", description, str, form).strip():
        raise ValueError(f"description must be {form}, got {shown(description)}")
    return description


def _checked_cases(cases):
    form = "a list of pairs, a tuple of arguments and the right result; at least one"
    check_instance("cases", cases, list | tuple, form)
    for case in cases:
        if not isinstance(case, tuple) or len(case) != 2 or not isinstance(case[0], tuple):
            raise TypeError(f"cases must be {form}, got {shown(case)} among them")
    if not cases:
        raise ValueError(f"cases must be {form}, got none")
    return cases


def _agree(found, expected, tolerance):
    with contextlib.suppress(Exception):
        same_shape = np.shape(found) == np.shape(expected)
        near = np.isclose(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
        return same_shape and near.all()
    # Not numbers: words, lists of unequal lengths, or something else altogether.
    with contextlib.suppress(Exception):
        return np.array_equal(found, expected)
    return False


def _name_of(function):
    return getattr(function, "__name__", type(function).__name__)


def _short(value, digits: int = 3) -> str:
    """A value as a reader wants it: few significant digits, arrays on one line."""
    if callable(value):
        return _name_of(value)
    try:
        short = np.asarray(value).tolist() if hasattr(value, "__array__") else value
        short = _rounded(short, digits)
        return f"{short:,.0f}" if isinstance(short, float) and abs(short) >= 1000 else str(short)
    except Exception:  # what a learner's function gives can refuse in any way
        return shown(value)


def _rounded(value, digits):
    if isinstance(value, (list, tuple)):
        return [_rounded(entry, digits) for entry in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
