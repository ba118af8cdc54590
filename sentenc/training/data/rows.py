"""Rows of a corpus source, and the interface of what reads them."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from sentenc.io.text import Malformed

# The texts of a row, stripped; () if the row is blank.
Row = tuple[str, ...] | Malformed


class Reader(Protocol):
    """The rows of a source, in parts. The end of a part also ends a document.

    Attributes:
        name: Name of the source in reports.
        parts: Names of the parts.
    """

    name: str
    parts: tuple[str, ...]

    def rows(self, part: str) -> Iterator[tuple[int, Row]]:
        """Yields the rows of a part with their numbers, from 1."""

    def estimate(self) -> float | None:
        """Estimates the number of rows; None if it is unknown."""

    def identity(self) -> list[Any]:
        """Returns JSON values that change if the content changes."""


def checked_row(values: Sequence[Any], names: Sequence[str]) -> Row:
    """Returns the texts of a row, stripped; malformed if one is not a string, or the third one is empty."""
    try:
        # One check of all values: escapes of JSON may be lone surrogates, which are not UTF-8.
        joined = "".join(values)
        if not joined.isascii():
            joined.encode()
    except (TypeError, UnicodeEncodeError):
        return _first_malformed(values, names)
    texts = tuple([value.strip() for value in values])
    if len(texts) == 3 and not texts[2]:
        return Malformed(f"{names[2]} is empty, expected the text of a negative")
    return texts


def _first_malformed(values: Sequence[Any], names: Sequence[str]) -> Malformed:
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, str):
            return Malformed(f"{name} is {type(value).__name__}, expected a string")
        if any("\ud800" <= character <= "\udfff" for character in value):
            return Malformed(f"{name} is not UTF-8")
    raise ValueError(f"no value of {list(names)} is malformed")


def default_fields(n_texts: int) -> tuple[str, ...]:
    """Returns the names of the columns of rows with 1, 2 or 3 texts, if none are set."""
    return ("text",) if n_texts == 1 else tuple(f"text{i}" for i in range(1, n_texts + 1))
