"""Column names of tables: checks, and words for messages."""

from collections.abc import Sequence
from typing import Any

from sentenc.errors import TextFileError


def checked_columns(path: str, names: Sequence[str], fields: Sequence[str] | None) -> tuple[str, ...]:
    """Returns the columns to read: ``fields``, or else all that a header or schema ``names``.

    Raises:
        TextFileError: One of them is missing, or occurs more than once.
    """
    for name in fields if fields is not None else names:
        if name not in names:
            raise TextFileError(f"{path} has no column {name!r}, only {listed(names)}")
        if list(names).count(name) > 1:
            raise TextFileError(f"{path} has the column {name!r} more than once")
    return tuple(fields if fields is not None else names)


def listed(names: Sequence[str], empty: str = "none") -> str:
    """Returns at most twenty names with quotes and commas for a message; ``empty`` if there are none."""
    shown = ", ".join(map(repr, names[:20]))
    return (shown + (", ..." if len(names) > 20 else "")) or empty


def json_kind(value: Any) -> str:
    """Returns a short description of a JSON value, by JSON's names, for a message."""
    if value is None:
        return "null"
    if value == "" and isinstance(value, str):
        return "empty"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"a number ({value})" if abs(value) < 1e30 else "a large number"
    return {bool: "true or false", str: "a string", list: "a list", dict: "an object"}.get(
        type(value), type(value).__name__
    )
