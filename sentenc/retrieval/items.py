"""Items of an index: ids, texts and payloads, with look-up by id.

Items are JSON lines in one block of bytes, together with their offsets, so that a file of them can be
memory-mapped and read one at a time.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.texts import describe

Id = int | str
Payload = dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of an index.

    Attributes:
        id: What the entry is called, int or str; unique in its index.
        text: Its text; None where only a vector was given.
        payload: Whatever was stored with it, a JSON object, or None.
    """

    id: Id
    text: str | None
    payload: Payload

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"id": self.id, "text": self.text, "payload": self.payload}


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search: an item, and its exact score with the query (cosine or dot product).

    Attributes:
        score: Higher is nearer.
        id: As in :class:`Item`.
        text: As in :class:`Item`.
        payload: As in :class:`Item`.
    """

    score: float
    id: Id
    text: str | None
    payload: Payload

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"score": self.score, "id": self.id, "text": self.text, "payload": self.payload}


def pack_items(
    ids: Sequence[Id], texts: Sequence[str | None], payloads: Sequence[Payload]
) -> tuple[bytes, npt.NDArray[np.int64]]:
    """The items as JSON lines, and where each begins and ends: bytes, (n + 1,) int64.

    Raises:
        TypeError: A payload is not a JSON object; the message has its index.
        ValueError: A payload holds NaN or infinity, which JSON has not.
    """
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
    lines = []
    for i, (name, text, payload) in enumerate(zip(ids, texts, payloads, strict=True)):
        if payload is not None and not isinstance(payload, dict):
            raise TypeError(f"payloads[{i}] is {describe(payload)}, expected a dict or None")
        try:
            # A lone surrogate is text in Python, but no UTF-8.
            lines.append(f"{encode([name, text, payload])}\n".encode("utf-8", "surrogatepass"))
        except (TypeError, ValueError) as error:
            raise type(error)(f"payloads[{i}] is not JSON: {error}") from error
    offsets = np.zeros(len(lines) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)), out=offsets[1:])
    return b"".join(lines), offsets


def unpack_item(data: Any, start: int, end: int) -> Item:
    """The item in ``data[start:end]``."""
    name, text, payload = json.loads(bytes(data[start:end]).decode("utf-8", "surrogatepass"))
    return Item(name, text, payload)


def check_ids(ids: Any, count: int | None = None) -> list[Id]:
    """The ids as a list of int and str.

    Raises:
        TypeError: They are no collection, or one is neither int nor str.
        ValueError: There are not ``count`` of them, or one comes twice.
    """
    if isinstance(ids, str | bytes | Mapping) or not isinstance(ids, Iterable):
        raise TypeError(f"ids is {describe(ids)}, expected a list of int or str")
    names: list[Id] = []
    for i, name in enumerate(ids):
        if isinstance(name, str):
            names.append(str(name))
        elif isinstance(name, int | np.integer) and not isinstance(name, bool):
            if not -(2**63) <= int(name) < 2**63:
                raise ValueError(f"ids[{i}] is {name}, expected an integer of 64 bits")
            names.append(int(name))
        else:
            raise TypeError(f"ids[{i}] is {describe(name)}, expected int or str")
    if count is not None and len(names) != count:
        raise ValueError(f"{len(names)} ids for {count} items, expected one each")
    if len(set(names)) != len(names):
        seen: set[Id] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"ids has {twice!r} twice, expected distinct ids")
    return names


def hash_ids(ids: Sequence[Id]) -> npt.NDArray[np.uint64]:
    """64 bits of each id, (n,); 17 and "17" are different ids."""
    digests = b"".join(
        hashlib.blake2b(
            name.encode("utf-8", "surrogatepass") if isinstance(name, str) else b"\xff%d" % name,
            digest_size=8,
        ).digest()
        for name in ids
    )
    return np.frombuffer(digests, "<u8").astype(np.uint64)
