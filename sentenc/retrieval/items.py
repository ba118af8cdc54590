"""Items of an index: their ids, texts and payloads, and the JSON lines that store them.

The offsets of the lines are stored as well, so that single items can be read from a memory-mapped file.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sentenc.texts import describe
from sentenc.tokenization.analysis import Analyzer

Id = int | str
Payload = dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of an index.

    Attributes:
        id: An int or str, unique in the index.
        text: Its text; None if only a vector was added.
        payload: A JSON object that was added with it, or None.
    """

    id: Id
    text: str | None
    payload: Payload

    def to_dict(self) -> dict[str, Any]:
        """Returns the attributes as a dict of JSON values."""
        return {"id": self.id, "text": self.text, "payload": self.payload}


@dataclass(frozen=True, slots=True)
class Hit:
    """A result of a search: an item and its score with the query.

    Attributes:
        score: Higher is better. The cosine or dot product of the stored vector and the query if the search used
            the vectors alone, BM25 if it used the words alone, and a weighted sum of the z-scores of both if it
            was hybrid.
        id: The item's id.
        text: The item's text, or None.
        payload: The item's payload, or None.
        semantic: The part of the score that comes from the vectors; None if the search did not use them.
        lexical: The part of the score that comes from the words; None if the search did not use them.
        span: The place of the best passage in the text, ``text[start:end]``; None if the text is not divided.
        rerank: The score of the reranker; None if the search had none.
        query_terms: The terms of the query, with the analyzer that computed them; None without words.
    """

    score: float
    id: Id
    text: str | None
    payload: Payload
    semantic: float | None = None
    lexical: float | None = None
    span: tuple[int, int] | None = None
    rerank: float | None = None
    query_terms: "QueryTerms | None" = field(default=None, repr=False, compare=False)

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the passage that match words of the query, in their order.

        They are looked up when they are asked for, because this takes longer than the search itself.
        """
        if self.query_terms is None or self.passage is None:
            return ()
        return self.query_terms.analyzer.matched(self.passage, self.query_terms.terms)

    @property
    def passage(self) -> str | None:
        """The best passage: the whole text if it is not divided, None if there is no text."""
        return self.text if self.text is None or self.span is None else self.text[slice(*self.span)]

    def to_dict(self) -> dict[str, Any]:
        """Returns the attributes as a dict of JSON values, ``span`` and ``rerank`` only if there are any."""
        values: dict[str, Any] = {
            "score": self.score,
            "id": self.id,
            "text": self.text,
            "payload": self.payload,
            "semantic": self.semantic,
            "lexical": self.lexical,
            "words": list(self.words),
        }
        if self.span is not None:
            values["span"], values["passage"] = list(self.span), self.passage
        return values if self.rerank is None else values | {"rerank": self.rerank}


class QueryTerms(NamedTuple):
    """The terms of a query."""

    analyzer: Analyzer
    terms: frozenset[str]


def pack_items(
    ids: Sequence[Id], texts: Sequence[str | None], payloads: Sequence[Payload]
) -> tuple[bytes, npt.NDArray[np.int64]]:
    """Returns n items as JSON lines, and the offsets (n + 1,) int64 of the lines.

    Line i is the bytes from offset i to offset i + 1.

    Raises:
        TypeError: A payload is not a JSON object, or one of its keys is no str; the message has its index.
        ValueError: A payload contains NaN or infinity, which JSON cannot represent.
    """
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
    lines = []
    for i, (name, text, payload) in enumerate(zip(ids, texts, payloads, strict=True)):
        check_payload(payload, i)
        try:
            # Python texts may contain lone surrogates, which UTF-8 does not allow.
            lines.append(f"{encode([name, text, payload])}\n".encode("utf-8", "surrogatepass"))
        except (TypeError, ValueError, RecursionError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"payloads[{i}] is not JSON: {error}") from error
    offsets = np.zeros(len(lines) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)), out=offsets[1:])
    return b"".join(lines), offsets


def check_payload(payload: Any, i: int) -> None:
    """Checks that a payload is None or a dict whose keys are str, also within.

    Args:
        payload: The payload.
        i: Its index, for messages.

    Raises:
        TypeError: It is something else.
        ValueError: It contains itself, or is nested too deeply for JSON.
    """
    if payload is not None and not isinstance(payload, dict):
        raise TypeError(f"payloads[{i}] is {describe(payload)}, expected a dict or None")
    try:
        _check_keys(payload, f"payloads[{i}]")
    except RecursionError as error:
        raise ValueError(
            f"payloads[{i}] contains itself or is nested too deeply, expected a JSON object"
        ) from error


def _check_keys(value: Any, place: str) -> None:
    # The encoder would write other keys as strings, so that 1 and "1" could become the same key.
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{place} has the key {describe(key)}, expected str")
            if isinstance(item, dict | list | tuple):
                _check_keys(item, f"{place}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_keys(item, f"{place}[{i}]")


def unpack_item(data: Any, start: int, end: int) -> Item:
    """Returns the item in ``data[start:end]``."""
    name, text, payload = json.loads(bytes(data[start:end]).decode("utf-8", "surrogatepass"))
    return Item(name, text, payload)


def check_ids(ids: Any, count: int | None = None, *, ordered: bool = False) -> list[Id]:
    """Returns the ids as a list of int and str.

    Args:
        ids: The ids.
        count: Their number; None accepts any.
        ordered: Whether they belong to texts or vectors of the same order, which those of a set do not.

    Raises:
        TypeError: ``ids`` is not a collection, or a set that must be ordered, or an id is neither int nor str.
        ValueError: The number of ids is not ``count``, an id occurs twice, or an int has more than 64 bits.
    """
    if isinstance(ids, str | bytes | Mapping) or not isinstance(ids, Iterable):
        raise TypeError(f"ids is {describe(ids)}, expected a list of int or str")
    if ordered and isinstance(ids, set | frozenset):
        raise TypeError(f"ids is {describe(ids)}, which has no order, expected a list of int or str")
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
        for name in names:
            if name in seen:
                raise ValueError(f"ids has {name!r} twice, expected distinct ids")
            seen.add(name)
    return names


def hash_ids(ids: Sequence[Id]) -> npt.NDArray[np.uint64]:
    """Returns a 64-bit hash of each id, (n,); the ids 17 and "17" have different hashes."""
    digests = b"".join(
        hashlib.blake2b(
            name.encode("utf-8", "surrogatepass") if isinstance(name, str) else b"\xff%d" % name,
            digest_size=8,
        ).digest()
        for name in ids
    )
    return np.frombuffer(digests, "<u8").astype(np.uint64)
