"""Checks of options and shapes that several objectives make."""

import math
from collections.abc import Sequence

from torch import Tensor


def checked_number(name: str, value: object, minimum: float, maximum: float = math.inf) -> float:
    """The value as a float, if it is a number from minimum to maximum.

    Raises:
        TypeError: It is no number.
        ValueError: It is outside, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (minimum <= value <= maximum and math.isfinite(value)):
        upper = "" if math.isinf(maximum) else f" and at most {maximum}"
        raise ValueError(f"{name} must be at least {minimum}{upper}, got {value}")
    return float(value)


def checked_temperature(value: object) -> float:
    """The value as a float, if it can be a softmax's temperature.

    Raises:
        TypeError: It is no number.
        ValueError: It is below 0.001, where similarities of float32 lose their meaning.
    """
    return checked_number("temperature", value, 1e-3)


def checked_count(name: str, value: object) -> int:
    """The value, if it is a whole number of at least one.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is less than one.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value


def checked_flag(name: str, value: object) -> bool:
    """The value, if it is true or false.

    Raises:
        TypeError: It is neither.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be true or false, got {value!r}")
    return value


def checked_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """The value, if it is one of the choices.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
    return value


def checked_columns(objective: str, vectors: Sequence[Tensor], count: int, minimum: int = 1) -> list[Tensor]:
    """The columns, if they are as many as expected, of one shape (B, d), and B is large enough.

    Args:
        objective: What the message names.
        vectors: A (B, d) tensor a column.
        count: Columns expected.
        minimum: The least B.

    Raises:
        ValueError: One of these is not so.
    """
    shapes = [tuple(column.shape) for column in vectors]
    if len(shapes) != count or len(set(shapes)) != 1 or len(shapes[0]) != 2:
        raise ValueError(f"{objective} expects {count} columns of vectors of one shape (B, d), got {shapes}")
    if shapes[0][0] < minimum:
        raise ValueError(f"{objective} needs a batch of at least {minimum}, got {shapes[0][0]}")
    return list(vectors)
