"""Checks of the column names of tables, and descriptions of names and values for messages."""

from collections.abc import Sequence
from typing import Any

from sentenc.errors import TextFileError


def checked_columns(path: str, names: Sequence[str], fields: Sequence[str] | None) -> tuple[str, ...]:
    """Returns the columns to read: ``fields`` if passed, otherwise all ``names`` of a header or schema.

    Raises:
        TextFileError: A column is missing, or occurs more than once.
    """
    for name in fields if fields is not None else names:
        if name not in names:
            raise TextFileError(f"{path} has no column {name!r}, only {listed(names)}")
        if list(names).count(name) > 1:
            raise TextFileError(f"{path} has the column {name!r} more than once")
    return tuple(fields if fields is not None else names)


def listed(names: Sequence[str], empty: str = "none") -> str:
    """Returns at most twenty names in quotes, separated by commas; ``empty`` if there are none."""
    shown = ", ".join(map(repr, names[:20]))
    return (shown + (", ..." if len(names) > 20 else "")) or empty


def json_kind(value: Any) -> str:
    """Returns a short description of a JSON value for a message, in the terms of JSON."""
    if value is None:
        return "null"
    if value == "" and isinstance(value, str):
        return "empty"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"a number ({value})" if abs(value) < 1e30 else "a large number"
    return {bool: "true or false", str: "a string", list: "a list", dict: "an object"}.get(
        type(value), type(value).__name__
    )
