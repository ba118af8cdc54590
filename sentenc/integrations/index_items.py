"""Adds, replaces and finds items of an index whose ids are strings, as other libraries have them."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.retrieval.index import Index
from sentenc.retrieval.items import Id, Item, Payload

# The strings that str() returns for integers of 64 bits.
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")


def upsert(
    index: Index,
    ids: Sequence[str],
    texts: Sequence[str],
    payloads: Sequence[Payload],
    vectors: npt.ArrayLike | None = None,
) -> None:
    """Adds items, and replaces those whose id the index contains.

    The string of an integer also replaces the item with this integer, as other libraries see it by this string.

    Args:
        index: The index.
        ids: n distinct ids.
        texts: n texts.
        payloads: n JSON objects or None.
        vectors: (n, dim) numbers; None if the index encodes the texts.

    Raises:
        TypeError: A text or payload has the wrong type.
        ValueError: An id occurs twice, or a vector has another length.
    """
    stored = [_stored_id(index, name) for name in ids]
    is_old = np.array([name is not None for name in stored], bool)
    names = [old if old is not None else new for old, new in zip(stored, ids, strict=True)]
    rows = None if vectors is None else np.asarray(vectors, np.float32)
    for method, chosen in ((index.update, is_old), (index.add, ~is_old)):
        places = np.flatnonzero(chosen).tolist()
        if places:
            method(
                ids=[names[i] for i in places],
                texts=[texts[i] for i in places],
                payloads=[payloads[i] for i in places],
                vectors=None if rows is None else rows[places],
            )


def all_or_none(vectors: Sequence[Any]) -> Sequence[Any] | None:
    """Returns the vectors of items, or None if no item has a vector.

    Raises:
        ValueError: Some items have a vector and others have None.
    """
    missing = sum(vector is None for vector in vectors)
    if 0 < missing < len(vectors):
        raise ValueError(f"{missing} of {len(vectors)} items have no embedding, expected all or none")
    return None if missing else vectors


def stored_ids(index: Index, ids: Sequence[str]) -> list[Id]:
    """Returns the ids that the index contains, each once. The string of an integer also matches this integer."""
    stored = (_stored_id(index, name) for name in ids)
    return list(dict.fromkeys(name for name in stored if name is not None))


def _stored_id(index: Index, name: str) -> Id | None:
    if name in index:
        return name
    return int(name) if _INTEGER.fullmatch(name) and int(name) in index else None


def items_with(index: Index, field: str, value: Any) -> list[Item]:
    """Returns the items whose payload has a value in a field."""
    return [item for item in index if item.payload is not None and item.payload.get(field) == value]
