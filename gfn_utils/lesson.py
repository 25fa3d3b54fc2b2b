"""What only a notebook needs: set-up, claims, exercise checks, live source and live pictures."""

import inspect
import io

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from gfn_utils import plotting


def setup(seed: int = 0) -> None:
    """Fix the random seeds and the look of figures and arrays, so that each run is the same."""
    keras.utils.set_random_seed(seed)
    # Each new kind of agent is compiled. TensorFlow takes that for a mistake, and says so.
    tf.get_logger().setLevel("ERROR")
    np.set_printoptions(precision=3, suppress=True, linewidth=100)
    plotting.use_course_style()


def claim(text: str, holds, measured=None) -> None:
    """State a fact that this run has just checked; AssertionError if it does not hold.

    `measured` is the value behind it, shown to four significant digits.
    """
    shown = "" if measured is None else f"  [measured: {_short(measured, digits=4)}]"
    if not bool(holds):
        raise AssertionError(f"this does not hold here: {text}{shown}")
    print(f"✓ {text}{shown}")


def check(answer, cases, hint: str = "", tolerance: float = 1e-6) -> None:
    """Tell a learner whether a function of theirs is right, and if not where it goes wrong.

    `cases` lists pairs of arguments (a tuple) and the right result, a number or an array. Prints
    one verdict: right, not yet (the first case that differs, and `hint`), or not answered.
    """
    name = answer.__name__
    for arguments, expected in cases:
        call = f"{name}({', '.join(map(_short, arguments))})"
        try:
            found = answer(*arguments)
            if found is Ellipsis:
                print(f"○ Not answered yet: complete {name}, then run this cell again.")
                return
            if found is None:
                print(f"✗ Not yet: {call} gave nothing. Is a `return` missing?")
                return
            right = _agree(found, expected, tolerance)
        except Exception as error:
            print(f"✗ Not yet: {call} raised {type(error).__name__}: {error}")
            return
        if not right:
            digits = 3 if _short(found) != _short(expected) else 8
            found, expected = _short(found, digits), _short(expected, digits)
            print(f"✗ Not yet: {call} gave {found}, expected {expected}. {hint}")
            return
    print(f"✓ Right: {name} passes the check.")


def show_source(thing) -> None:
    """Show the package's own source of a function or class, as it is now."""
    display(Markdown(f"```python\n{inspect.getsource(thing)}```"))


class LivePicture:
    """A figure that changes while a cell runs, and stays as its last state in the saved notebook.

    `description` is the fixed text for who cannot see the picture.
    """

    def __init__(self, description: str):
        self.description = description
        self._handle = None

    def show(self, figure: Figure) -> None:
        """Show the figure in the place of the one before, and close it."""
        png = io.BytesIO()
        figure.savefig(png, format="png")
        plt.close(figure)
        bundle = {"image/png": png.getvalue(), "text/plain": self.description}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def _agree(found, expected, tolerance):
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        return False
    return np.allclose(found, expected, rtol=tolerance, atol=tolerance)


def _short(value, digits: int = 3) -> str:
    """A value as a reader wants it: few significant digits, arrays on one line."""
    if callable(value):
        return value.__name__
    value = np.asarray(value).tolist() if hasattr(value, "__array__") else value
    value = _rounded(value, digits)
    return f"{value:,.0f}" if isinstance(value, float) and abs(value) >= 1000 else str(value)


def _rounded(value, digits):
    if isinstance(value, (list, tuple)):
        return [_rounded(entry, digits) for entry in value]
    if not isinstance(value, float):
        return value
    return float(f"{value:.{digits}g}")
