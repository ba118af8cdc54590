"""What counts as a list of texts, and the errors for what does not."""

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

import numpy as np

_REFUSED = (bytes, bytearray, memoryview, Mapping, Set)


def as_text_list(texts: Any) -> list[str]:
    """Returns ``texts`` as a list of str, or raises a ``TypeError`` that names the first bad item.

    Lists, tuples, one-dimensional string arrays, pandas Series, dataset columns and generators are
    taken by iteration. A dict would give its keys and a set an arbitrary order, so both are refused.
    """
    items = texts if type(texts) is list else list(iterate_texts(texts))
    # One pass in C for the common case; the slow pass below runs only to name the culprit.
    if set(map(type, items)) <= {str}:
        return items
    for index, item in enumerate(items):
        check_text(item, index)
    return [str(item) for item in items]


def iterate_texts(texts: Any) -> Iterator[Any]:
    """Returns an iterator over the items of ``texts``; refuses what cannot be a sequence of texts."""
    if isinstance(texts, _REFUSED) or not isinstance(texts, Iterable):
        raise TypeError(f"texts is {describe(texts)}, expected a str or an ordered collection of str")
    if isinstance(texts, np.ndarray) and texts.ndim != 1:
        raise TypeError(f"texts is an array of shape {texts.shape}, expected one dimension")
    return iter(texts)


def check_text(item: Any, index: int) -> None:
    """Raises ``TypeError`` unless ``item`` is a str."""
    if not isinstance(item, str):
        raise TypeError(f"texts[{index}] is {describe(item)}, expected str")


def describe(value: Any) -> str:
    """Type of a value, with the value itself where that helps: ``float (nan)``, ``NoneType (None)``."""
    name = type(value).__name__
    if value is None or isinstance(value, int | float | complex | np.generic):
        return f"{name} ({value})"
    return name


def replace_lone_surrogates(text: str) -> str:
    """Replaces surrogates without a partner, which no UTF-8 encoder takes, by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
