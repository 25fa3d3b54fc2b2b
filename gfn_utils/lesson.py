"""What only a notebook needs: set-up, claims, exercise checks, live source and live pictures."""

import inspect
import io

import keras
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from gfn_utils import plotting


def setup(seed: int = 0) -> None:
    """Fix the random seeds and the look of figures and arrays, so that each run is the same."""
    keras.utils.set_random_seed(seed)
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
        except Exception as error:
            print(f"✗ Not yet: {call} raised {type(error).__name__}: {error}")
            return
        if found is None or found is Ellipsis:
            print(f"○ Not answered yet: complete {name}, then run this cell again.")
            return
        found, expected = np.asarray(found), np.asarray(expected)
        same_shape = found.shape == expected.shape
        if not same_shape or not np.allclose(found, expected, rtol=tolerance, atol=tolerance):
            print(f"✗ Not yet: {call} gave {_short(found)}, expected {_short(expected)}. {hint}")
            return
    print(f"✓ Right: {name} gives the right answer in all {len(cases)} cases.")


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


def _short(value, digits: int = 3) -> str:
    """A value as a reader wants it: few significant digits, arrays on one line."""
    value = np.asarray(value).tolist() if hasattr(value, "__array__") else value
    return str(_rounded(value, digits))


def _rounded(value, digits):
    if isinstance(value, (list, tuple)):
        return [_rounded(entry, digits) for entry in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
