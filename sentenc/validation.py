"""Checks of single values: integers, numbers, switches and choices.

Every check returns the value. Every message has the form "NAME is VALUE, expected ...".
"""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any


def check_integer(name: str, value: Any, *, at_least: int = 1, at_most: int | None = None) -> int:
    """Returns an integer, Python's or NumPy's, as an ``int``.

    Raises:
        TypeError: The value is no integer. A ``bool`` is none.
        ValueError: The value is out of the range.
    """
    # The type of most values is int itself, and a look at the abstract class takes longer than the rest.
    if type(value) is not int and (not isinstance(value, Integral) or isinstance(value, bool)):
        raise TypeError(f"{name} is {value!r}, expected {_integers(at_least, at_most)}")
    integer = int(value)
    if integer < at_least or (at_most is not None and integer > at_most):
        raise ValueError(f"{name} is {value}, expected {_integers(at_least, at_most)}")
    return integer


def check_number(
    name: str,
    value: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> float:
    """Returns a finite number, Python's or NumPy's, as a ``float``.

    Raises:
        TypeError: The value is no number. A ``bool`` is none.
        ValueError: The value is infinite, NaN or out of the range.
    """
    bounds = {">=": at_least, ">": above, "<=": at_most, "<": below}
    limits = " and ".join(f"{sign} {bound}" for sign, bound in bounds.items() if bound is not None)
    expected = f"a finite number {limits}".rstrip()
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}, expected {expected}")
    number = float(value)
    in_range = (
        math.isfinite(number)
        and (at_least is None or number >= at_least)
        and (above is None or number > above)
        and (at_most is None or number <= at_most)
        and (below is None or number < below)
    )
    if not in_range:
        raise ValueError(f"{name} is {value}, expected {expected}")
    return number


def check_switch(name: str, value: Any) -> bool:
    """Returns a ``bool``.

    Raises:
        TypeError: The value is something else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}, expected True or False")
    return value


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Returns a string that is one of the choices.

    Raises:
        ValueError: The value is none of them.
    """
    allowed = choices if isinstance(choices, tuple) else tuple(choices)
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} is {value!r}, expected {_alternatives(allowed)}")
    return value


def _integers(at_least: int, at_most: int | None) -> str:
    return f"an integer >= {at_least}" if at_most is None else f"an integer from {at_least} to {at_most}"


def _alternatives(choices: tuple[str, ...]) -> str:
    *others, last = map(repr, choices)
    return f"{', '.join(others)} or {last}" if others else last
