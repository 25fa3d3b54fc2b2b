"""Checks of arguments: each error names the argument, its value and what is allowed."""

import math
import numbers


def check_integer(name: str, value, minimum: int, maximum: int = 2**31 - 1) -> int:
    """Return `value` as an int; raise TypeError if it is none, ValueError if out of bounds."""
    allowed = f"an integer of at least {minimum}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be {allowed}, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be {allowed}, got {value}")
    if value > maximum:
        raise ValueError(f"{name} must be {allowed} and at most {maximum}, got {value}")
    return int(value)


def check_number(
    name: str,
    value,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    above: float = -math.inf,
) -> float:
    """Return `value` as a float; raise unless it is finite, in [minimum, maximum] and > `above`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value) or not minimum <= value <= maximum or value <= above:
        bounds = [
            f"above {above:g}" if above > -math.inf else "",
            f"at least {minimum:g}" if minimum > -math.inf else "",
            f"at most {maximum:g}" if maximum < math.inf else "",
        ]
        allowed = " and ".join(filter(None, ["finite", *bounds]))
        raise ValueError(f"{name} must be {allowed}, got {value}")
    return float(value)


def check_choice(name: str, value, choices) -> str:
    """Return `value`; raise ValueError unless it is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def check_flag(name: str, value) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value
