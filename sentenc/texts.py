"""Validates text inputs, and finds where texts begin in their concatenation."""

from collections.abc import Iterable, Iterator, Mapping, Set
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.arrow_texts import ArrowTexts, is_arrow

Texts = list[str] | ArrowTexts

# A dict iterates over its keys and a set in any order; bytes iterate over numbers.
_REFUSED = (bytes, bytearray, memoryview, Mapping, Set)


def as_text_list(texts: Any) -> list[str]:
    """Returns texts as a list of str.

    Lists, tuples, one-dimensional string arrays, Arrow arrays, pandas Series, dataset columns and generators are read
    by iteration.

    Raises:
        TypeError: ``texts`` is a str, a dict, a set, bytes or no iterable, or an item is not a str. The message
            has the index of the first such item.
    """
    if isinstance(texts, str):
        raise TypeError("texts is str, expected an ordered collection of str: one text is [text]")
    items = texts if type(texts) is list else list(iterate_texts(texts))
    # This pass runs in C and covers the common case. The slow pass below finds the item that is no str.
    if set(map(type, items)) <= {str}:
        return items
    for index, item in enumerate(items):
        check_text(item, index)
    # The value of a subclass: str() of a member of an enumeration is its name.
    return [str.__str__(item) for item in items]


def as_texts(texts: Any) -> Texts:
    """Returns the texts of an Arrow array as they are, and other texts as a list of str.

    Raises:
        TypeError: As for :func:`as_text_list`. The message has the index of the first null of an Arrow array.
    """
    if type(texts) is list or not is_arrow(texts):
        return texts if isinstance(texts, ArrowTexts) else as_text_list(texts)
    items = ArrowTexts(texts)
    valid = items.is_valid()
    if not valid.all():
        check_text(None, int(valid.argmin()))
    return items


def iterate_texts(texts: Any) -> Iterator[Any]:
    """Returns an iterator over the items of ``texts``.

    Raises:
        TypeError: ``texts`` cannot be a sequence of texts. Its items are not checked.
    """
    if isinstance(texts, ArrowTexts) or is_arrow(texts):
        return (texts if isinstance(texts, ArrowTexts) else ArrowTexts(texts)).or_none()
    if isinstance(texts, _REFUSED) or not isinstance(texts, Iterable):
        raise TypeError(f"texts is {describe(texts)}, expected a str or an ordered collection of str")
    # A matrix iterates over its rows, and a DataFrame over the names of its columns.
    shape = getattr(texts, "shape", None)
    if shape is not None and len(shape) != 1:
        kind = "an array" if isinstance(texts, np.ndarray) else type(texts).__name__
        raise TypeError(f"texts is {kind} of shape {tuple(shape)}, expected one dimension")
    return iter(texts)


def check_text(item: Any, index: int) -> None:
    """Raises ``TypeError`` with the index if ``item`` is not a str."""
    if not isinstance(item, str):
        raise TypeError(f"texts[{index}] is {describe(item)}, expected str")


def describe(value: Any) -> str:
    """Returns the type of a value, with a number or None itself: ``float (nan)``, ``NoneType (None)``."""
    name = type(value).__name__
    if value is None or isinstance(value, int | float | complex | np.generic):
        return f"{name} ({value})"
    return name


def has_surrogate(text: str) -> bool:
    """Returns whether a text has a surrogate, which UTF-8 cannot represent."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def replace_lone_surrogates(text: str) -> str:
    """Replaces surrogates without a partner by U+FFFD, because UTF-8 cannot represent them."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def offsets_of(texts: list[str] | list[bytes]) -> npt.NDArray[np.int64]:
    """Returns where each text begins and ends in the concatenation of all: shape (n + 1,)."""
    return np.fromiter(accumulate(map(len, texts), initial=0), np.int64, len(texts) + 1)
