"""Checks of arguments: each error names the argument, its value and what is allowed.

NumPy scalars, and arrays and tensors of shape [], count as the numbers that they hold.
"""

import math
import numbers

import numpy as np


def check_integer(name: str, value, minimum: int, maximum: int = 2**31 - 1) -> int:
    """Return `value` as an int; raise TypeError if it is none, ValueError if out of bounds."""
    allowed = f"an integer of at least {minimum}"
    number = _unwrapped(value)
    if isinstance(number, bool | np.generic) or not isinstance(number, numbers.Integral):
        raise TypeError(f"{name} must be {allowed}, got {shown(value)}")
    if number < minimum:
        raise ValueError(f"{name} must be {allowed}, got {shown(number)}")
    if number > maximum:
        raise ValueError(f"{name} must be {allowed} and at most {maximum}, got {shown(number)}")
    return int(number)


def check_number(
    name: str,
    value,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    above: float = -math.inf,
) -> float:
    """Return `value` as a float; raise unless it is finite, in [minimum, maximum] and > `above`."""
    number = _unwrapped(value)
    if isinstance(number, bool | np.generic) or not isinstance(number, numbers.Real):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    try:
        number = float(number)
    except OverflowError:  # an integer beyond all floats
        number = math.inf
    if not math.isfinite(number) or not minimum <= number <= maximum or number <= above:
        bounds = [
            f"above {above:g}" if above > -math.inf else "",
            f"at least {minimum:g}" if minimum > -math.inf else "",
            f"at most {maximum:g}" if maximum < math.inf else "",
        ]
        allowed = " and ".join(filter(None, ["finite", *bounds]))
        raise ValueError(f"{name} must be {allowed}, got {shown(_unwrapped(value))}")
    return number


def check_numbers(name: str, value) -> np.ndarray:
    """Return `value`, an array or nested lists of numbers, as float64; raise TypeError otherwise.

    NaN and ±inf count as numbers here: whether they are allowed is for the caller to say.
    """
    try:
        array = np.asarray(value)
    except Exception as error:  # ragged lists, and objects that refuse in a way of their own
        raise TypeError(f"{name} must be an array of numbers, got {shown(value)}") from error
    if array.dtype.kind not in "iuf" or np.ma.is_masked(value):
        raise TypeError(f"{name} must be an array of numbers, got {shown(value)}")
    return array.astype(np.float64)


def check_log_numbers(name: str, value, n: int | None = None) -> np.ndarray:
    """Return logarithms in nats, one or more, `[n]`, as float64; finite or −inf, the log of 0.

    Raises TypeError if they are no numbers, ValueError for another shape or value.
    """
    array = check_numbers(name, value)
    if array.ndim != 1 or not len(array) or n not in (None, len(array)):
        length = "K ≥ 1" if n is None else n
        raise ValueError(f"{name} must be of shape [{length}], got shape {list(array.shape)}")
    if not (array < math.inf).all():
        wrong = array[~(array < math.inf)][0]
        raise ValueError(f"{name} must be finite or -inf, got {wrong} among them")
    return array


def check_choice(name: str, value, choices) -> str:
    """Return `value`, a string; raise TypeError or ValueError unless it is one of `choices`."""
    if isinstance(value, str) and value in choices:
        return str(value)
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(f"{name} must be one of {', '.join(map(repr, choices))}, got {shown(value)}")


def check_instance(name: str, value, kind, allowed: str):
    """Return `value`; raise TypeError, saying what is `allowed`, unless it is of this kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {allowed}, got {shown(value)}")
    return value


def check_flag(name: str, value) -> bool:
    """Return `value` as a bool; raise TypeError unless it is True or False, NumPy's included."""
    flag = _unwrapped(value)
    if not isinstance(flag, bool):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return flag


def check_function(name: str, value, allowed: str = "a function"):
    """Return `value`; raise TypeError, saying what is `allowed`, unless it can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be {allowed}, got {shown(value)}")
    return value


def check_callback(name: str, value):
    """Return `value`; raise TypeError unless it is a function or None."""
    return value if value is None else check_function(name, value, "a function or None")


def check_stop(name: str, result) -> bool:
    """Whether what the callback `name` returned says to stop; TypeError unless a bool or None."""
    if result is None:
        return False
    flag = _unwrapped(result)
    if not isinstance(flag, bool):
        raise TypeError(f"{name} must return True (to stop), False or None, got {shown(result)}")
    return flag


def shown(value) -> str:
    """`value` as an error message shows it: whole where it is short, and never an error itself."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an integer of more than 4,300 digits, for one
        text = f"a value of type {type(value).__name__} that cannot be shown"
    return text if len(text) <= 200 else f"{text[:180]} … ({len(text):,} characters)"


def in_short(error: Exception) -> str:
    """An error's kind and what it says, on one line and not too long."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= 300 else text[:300] + ' …'}"


def _unwrapped(value):
    """The Python number in a NumPy scalar, or in an array or tensor of shape []."""
    kind = getattr(getattr(value, "dtype", None), "name", "")
    is_masked = isinstance(value, np.ma.MaskedArray)
    if kind.startswith(("bool", "int", "uint", "float")) and value.shape == () and not is_masked:
        return np.asarray(value).item()
    return value
