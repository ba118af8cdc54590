"""Rows in PostgreSQL's binary format of COPY, with the types of pgvector and tsvector."""

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.retrieval.items import Id, Payload, check_payload
from sentenc.retrieval.quantization import FloatArray
from sentenc.tokenization.analysis import Analyzer

#: The number types of vectors: the type of pgvector, and that of its numbers in network order.
VECTOR_TYPES = {"float32": ("vector", ">f4"), "float16": ("halfvec", ">f2")}
#: The greatest number of dimensions that an HNSW index of pgvector takes.
HNSW_DIMENSIONS = {"float32": 2000, "float16": 4000}
# Limits of tsvector: bytes of a lexeme, bytes of all, positions of a lexeme, and the last position.
_LEXEME_BYTES, _WORDS_BYTES, _OCCURRENCES, _LAST_POSITION = 2046, 1_000_000, 255, 16_383
_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_NULL = struct.pack(">i", -1)
_ROWS_PER_BLOCK = 1024
# Without and with the columns of words.
_N_COLUMNS = struct.pack(">h", 4), struct.pack(">h", 6)


@dataclass(frozen=True, eq=False)
class Rows:
    """The n rows to write.

    Attributes:
        ids: Their ids.
        texts: Their texts, or None.
        payloads: Their payloads.
        vectors: (n, d) float32.
    """

    ids: Sequence[Id]
    texts: Sequence[str | None]
    payloads: Sequence[Payload]
    vectors: FloatArray


def copy_blocks(rows: Rows, store: str, analyzer: Analyzer | None) -> Iterator[bytes]:
    """Yields rows as the input of ``COPY ... (FORMAT BINARY)``, many at a time.

    The columns are ``id``, ``text``, ``payload`` and ``embedding``, and with an analyzer ``words`` and ``n_words``.

    Args:
        rows: The rows.
        store: The number type of vectors, ``"float32"`` or ``"float16"``.
        analyzer: Computes the terms of texts; None leaves the two columns out.

    Raises:
        TypeError: A payload is not a JSON object; the message has its index.
        ValueError: A text or payload has a character that PostgreSQL cannot store; the message has its index.
    """
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
    yield _HEADER
    for begin in range(0, len(rows.ids), _ROWS_PER_BLOCK):
        end = min(begin + _ROWS_PER_BLOCK, len(rows.ids))
        embeddings, width = _vector_fields(rows.vectors[begin:end], VECTOR_TYPES[store][1])
        block: list[bytes] = []
        for i in range(begin, end):
            text, payload = rows.texts[i], rows.payloads[i]
            block += (_N_COLUMNS[analyzer is not None], _id_field(rows.ids[i], i))
            block.append(_NULL if text is None else _field(_utf8(text, "texts", i)))
            block.append(_NULL if payload is None else _field(b"\x01" + _payload(encode, payload, i)))
            block.append(embeddings[(i - begin) * width : (i - begin + 1) * width])
            if analyzer is not None and text is None:
                block += (_NULL, _NULL)
            elif analyzer is not None and text is not None:
                terms = analyzer.terms(text)
                block += (_field(_tsvector(terms)), struct.pack(">ii", 4, len(terms)))
        yield b"".join(block)
    yield _TRAILER


def vector_text(vector: FloatArray) -> str:
    """Returns a vector (d,) as the input of the types of pgvector."""
    return "[" + ",".join(map(str, vector.tolist())) + "]"


def read_vectors(values: Sequence[bytes], store: str, dim: int) -> FloatArray:
    """Returns vectors (n, d) float32 from the binary output of pgvector."""
    kind = np.dtype(VECTOR_TYPES[store][1])
    matrix = np.frombuffer(b"".join(value[4:] for value in values), kind).reshape(len(values), dim)
    return matrix.astype(np.float32)


def lexeme(term: str) -> str:
    """Returns a term as tsvector stores it: of a very long one, only the beginning."""
    data = term.encode("utf-8")
    return term if len(data) <= _LEXEME_BYTES else data[:_LEXEME_BYTES].decode("utf-8", "ignore")


def tsquery(terms: Sequence[str]) -> str:
    """Returns the tsquery that any of some terms matches."""
    return " | ".join("'" + term.replace("\\", "\\\\").replace("'", "''") + "'" for term in terms)


def _vector_fields(vectors: FloatArray, kind: str) -> tuple[bytes, int]:
    # The fields of all vectors after one another, and the bytes of one.
    n, dim = vectors.shape
    numbers = np.ascontiguousarray(vectors.astype(kind)).view(np.uint8).reshape(n, -1)
    head = np.frombuffer(struct.pack(">ihh", 4 + numbers.shape[1], dim, 0), np.uint8)
    fields: npt.NDArray[np.uint8] = np.empty((n, len(head) + numbers.shape[1]), np.uint8)
    fields[:, : len(head)], fields[:, len(head) :] = head, numbers
    return fields.tobytes(), fields.shape[1]


def _field(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def _id_field(name: Id, i: int) -> bytes:
    return _field(_utf8(name, "ids", i)) if isinstance(name, str) else struct.pack(">iq", 8, name)


def _utf8(text: str, name: str, place: Any) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"{name}[{place}] is {type(text).__name__}, expected str")
    if "\0" in text:
        raise ValueError(f"{name}[{place}] contains the character U+0000, which PostgreSQL cannot store")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name}[{place}] contains the lone surrogate U+{ord(text[error.start]):04X}, which PostgreSQL cannot store"
        ) from error


def _payload(encode: Any, payload: Payload, i: int) -> bytes:
    check_payload(payload, i)
    try:
        text = encode(payload)
    except (TypeError, ValueError) as error:
        raise type(error)(f"payloads[{i}] is not JSON: {error}") from error
    if "\\u0000" in text and "\0" in _strings(payload):
        raise ValueError(f"payloads[{i}] contains the character U+0000, which PostgreSQL cannot store")
    return _utf8(text, "payloads", i)


def _strings(value: Any) -> str:
    # All strings of a JSON value.
    if isinstance(value, dict):
        return "".join(key + _strings(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return "".join(map(_strings, value))
    return value if isinstance(value, str) else ""


def _tsvector(terms: Sequence[str]) -> bytes:
    positions: dict[str, list[int]] = {}
    for position, term in enumerate(terms, 1):
        positions.setdefault(lexeme(term), []).append(min(position, _LAST_POSITION))
    parts, size, count = [], 0, 0
    for term, places in positions.items():
        data = term.encode("utf-8") + b"\0"
        size += len(data) + 2 * len(places) + 4
        if size > _WORDS_BYTES:
            break
        # Positions of tsvector are distinct; those after the last one count once.
        own = list(dict.fromkeys(places[:_OCCURRENCES]))
        parts.append(data + struct.pack(f">H{len(own)}H", len(own), *own))
        count += 1
    return struct.pack(">i", count) + b"".join(parts)
