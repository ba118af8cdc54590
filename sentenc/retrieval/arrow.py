"""Arrow tables of indexes: items as rows that other stores read, and the way back.

A table has the columns ``id``, ``text``, ``payload`` and ``embedding``, one row for each stored vector. If texts are
divided into passages, ``text`` is that of the passage, and there are four more columns: ``passage`` counts the passages
of an item from 0, ``start`` and ``end`` are its place in the text of the item, and ``document`` is this text in the
row of passage 0, null in the others. The metadata of the schema describe the encoder and the index.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import MissingExtraError
from sentenc.io.parquet import json_value
from sentenc.retrieval.arrow_metadata import schema_metadata
from sentenc.retrieval.chunking import Span
from sentenc.retrieval.items import Id, Item, Payload
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.quantization import FloatArray
from sentenc.retrieval.snapshot import Snapshot
from sentenc.texts import describe, has_surrogate

_ROWS_PER_CHUNK = 65_536
_PASSAGE_COLUMNS = ("passage", "start", "end", "document")
#: The metadata of a column of vectors that an index stores: its metric.
STORED_METRIC = "sentenc.metric"


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table.

    Attributes:
        id: Ids; a table without this column has none.
        text: Texts; a table without this column has none.
        embedding: Vectors.
        payload: Payloads, as JSON or structs. In a table without this column, all other columns are their fields.
    """

    id: str = "id"
    text: str = "text"
    embedding: str = "embedding"
    payload: str = "payload"


@dataclass(frozen=True, eq=False)
class TableItems:
    """The n items of a table, with m vectors.

    Attributes:
        ids: Their ids, not yet checked; None if the table has none.
        texts: Their texts, or None.
        payloads: Their payloads.
        vectors: (m, d) float32.
        spans: The spans of the passages of each item; None if every item has one vector.
        described: The metadata of the schema.
        stored_metric: The metric of the index that stored the vectors; None if they are not those of an index.
    """

    ids: list[Id] | None
    texts: list[str | None] | None
    payloads: list[Payload]
    vectors: FloatArray
    spans: list[list[Span]] | None
    described: dict[str, str]
    stored_metric: str | None


def arrow_table(snapshot: Snapshot, manifest: Manifest, structs: bool) -> Any:
    """Returns the live items of an index as a ``pyarrow.Table``; see :meth:`sentenc.Index.to_arrow`."""
    pa = arrow()
    divided = snapshot.is_first is not None
    ids: list[Id] = []
    columns: dict[str, list[Any]] = {name: [] for name in ("text", "payload", "embedding")}
    columns |= {name: [] for name in _PASSAGE_COLUMNS if divided}
    payloads: list[Payload] = []
    for rows in _blocks(np.flatnonzero(~snapshot.deleted)):
        items, spans = snapshot.items(rows), snapshot.spans(rows)
        ids += [item.id for item in items]
        if structs:
            payloads += [item.payload for item in items]
        else:
            columns["payload"].append(pa.array([_json(item.payload) for item in items], pa.string()))
        texts = [item.text for item in items]
        if divided:
            _add_passages(pa, columns, items, spans, snapshot.first_rows(rows) == rows)
            texts = [t if t is None or s is None else t[slice(*s)] for t, s in zip(texts, spans, strict=True)]
        columns["text"].append(_strings(pa, texts, items))
        columns["embedding"].append(_lists(pa, snapshot.vectors(rows)))
    if structs:
        columns["payload"] = [_structs(pa, payloads)]
    return _table(pa, ids, columns, manifest)


def arrow_table_of(
    blocks: Iterable[tuple[Sequence[Id], Sequence[str | None], Sequence[str | None], FloatArray]],
    manifest: Manifest,
) -> Any:
    """Returns a ``pyarrow.Table`` of rows that another store has, as :func:`arrow_table` does for those of an index.

    Args:
        blocks: Ids, texts, payloads in JSON, and vectors (n, d) of some rows each.
        manifest: Settings of the store.
    """
    pa = arrow()
    ids: list[Id] = []
    columns: dict[str, list[Any]] = {"text": [], "payload": [], "embedding": []}
    for names, texts, payloads, vectors in blocks:
        ids += names
        columns["text"].append(pa.array(texts, pa.string()))
        columns["payload"].append(pa.array(payloads, pa.string()))
        columns["embedding"].append(_lists(pa, vectors))
    return _table(pa, ids, columns, manifest)


def read_table(table: Any, columns: Columns) -> TableItems:
    """Reads the items of a ``pyarrow.Table`` or ``RecordBatch``.

    Raises:
        TypeError: ``table`` is no table of Arrow, or a column has the wrong type.
        ValueError: A column or a vector is missing, or passages are incomplete.
    """
    names = list(getattr(getattr(table, "schema", None), "names", ()))
    if not hasattr(table, "column") or not names:
        raise TypeError(f"table is {describe(table)}, expected a pyarrow.Table or RecordBatch")
    defaults = Columns()
    for kind in ("embedding", "id", "text", "payload"):
        name = getattr(columns, kind)
        if name not in names and (kind == "embedding" or name != getattr(defaults, kind)):
            raise ValueError(f"the table has no column {name!r}, only {', '.join(map(repr, names))}")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the table has {names.count(name)} columns {name!r}, expected different names")
    described = _text_metadata(table.schema)
    stored_metric = _text_metadata(table.schema.field(columns.embedding)).get(STORED_METRIC)
    ids = _read_ids(table.column(columns.id), described) if columns.id in names else None
    texts = table.column(columns.text).to_pylist() if columns.text in names else None
    vectors = _read_vectors(table.column(columns.embedding), columns.embedding)
    scale = f"{columns.embedding}_scale"
    if scale in names:
        # Encoder.encode_table has int8 vectors with a scale for each.
        vectors *= table.column(scale).to_numpy(zero_copy_only=False).astype(np.float32)[:, None]
    is_divided = all(name in names for name in _PASSAGE_COLUMNS)
    own = {columns.id, columns.text, columns.embedding, scale, *(_PASSAGE_COLUMNS if is_divided else ())}
    payloads = _read_payloads(table, columns.payload, [name for name in names if name not in own])
    if not is_divided:
        return TableItems(ids, texts, payloads, vectors, None, described, stored_metric)
    if ids is None:
        raise ValueError(
            f"the table has passages but no column {columns.id!r}, expected the ids of their items"
        )
    parts = [table.column(name).to_pylist() for name in _PASSAGE_COLUMNS]
    joined = _joined(ids, payloads, vectors, parts)
    return TableItems(*joined, described, stored_metric)


def arrow() -> Any:
    """Returns the module ``pyarrow``; raises MissingExtraError if it is not installed."""
    try:
        return import_module("pyarrow")
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow", "an Arrow table of an index") from error


def _table(pa: Any, ids: list[Id], columns: dict[str, list[Any]], manifest: Manifest) -> Any:
    id_column, described = _id_column(pa, ids)
    kinds = {"text": pa.string(), "payload": pa.string(), "embedding": pa.list_(pa.float32(), manifest.dim)}
    kinds |= {"passage": pa.int32(), "start": pa.int64(), "end": pa.int64(), "document": pa.string()}
    arrays = [pa.chunked_array(parts, None if parts else kinds[name]) for name, parts in columns.items()]
    fields = [pa.field(name, array.type) for name, array in zip(columns, arrays, strict=True)]
    # Another program may replace the column, and keep the metadata of the schema.
    stored = {STORED_METRIC: manifest.metric}
    fields = [field.with_metadata(stored) if field.name == "embedding" else field for field in fields]
    schema = pa.schema([pa.field("id", id_column.type), *fields], schema_metadata(manifest) | described)
    return pa.table([id_column, *arrays], schema=schema)


def _lists(pa: Any, vectors: FloatArray) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float32()), vectors.shape[1])


def _text_metadata(described: Any) -> dict[str, str]:
    # The metadata of a schema or a field.
    pairs = (described.metadata or {}).items()
    return {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in pairs}


def _blocks(rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    for begin in range(0, len(rows), _ROWS_PER_CHUNK):
        yield rows[begin : begin + _ROWS_PER_CHUNK]


def _add_passages(
    pa: Any,
    columns: dict[str, list[Any]],
    items: Sequence[Item],
    spans: Sequence[Span | None],
    is_first: npt.NDArray[np.bool_],
) -> None:
    # An item may begin in the block before, so that its passages continue from there.
    numbers, earlier = [], columns["passage"]
    number = int(earlier[-1][-1].as_py()) if earlier else -1
    for first in is_first.tolist():
        number = 0 if first else number + 1
        numbers.append(number)
    places = [
        span or (0, len(item.text or "")) if item.text is not None else None
        for item, span in zip(items, spans, strict=True)
    ]
    earlier.append(pa.array(numbers, pa.int32()))
    for i, name in enumerate(("start", "end")):
        columns[name].append(pa.array([None if place is None else place[i] for place in places], pa.int64()))
    documents = [item.text if first else None for item, first in zip(items, is_first.tolist(), strict=True)]
    columns["document"].append(_strings(pa, documents, items))


def _strings(pa: Any, texts: Sequence[str | None], items: Sequence[Item]) -> Any:
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError as error:
        for text, item in zip(texts, items, strict=True):
            if text is not None and has_surrogate(text):
                raise ValueError(
                    f"the text of the item {item.id!r} has a lone surrogate, which Arrow cannot store"
                ) from error
        raise


def _json(payload: Payload) -> str | None:
    # Other characters than ASCII are escaped, lone surrogates among them.
    return None if payload is None else json.dumps(payload, separators=(",", ":"))


def _raw(payload: Payload) -> str:
    return json.dumps(payload, ensure_ascii=False)


def _structs(pa: Any, payloads: list[Payload]) -> Any:
    if not any(payloads):
        raise ValueError("no item has a payload with a field, expected one: pass payloads='json'")
    try:
        return pa.array(payloads)
    except UnicodeEncodeError as error:
        number = next(i for i, payload in enumerate(payloads) if has_surrogate(_raw(payload)))
        raise ValueError(
            f"the payload {payloads[number]!r} has a lone surrogate, which a struct of Arrow cannot store: pass "
            "payloads='json'"
        ) from error
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise ValueError(
            f"the payloads are no struct of Arrow, because a field has values of several types: {error}. "
            "Pass payloads='json'"
        ) from error


def _id_column(pa: Any, ids: list[Id]) -> tuple[Any, dict[str, str]]:
    kinds = {str if isinstance(name, str) else int for name in ids}
    if kinds == {int, str}:
        # As JSON, 17 and "17" remain different.
        return pa.array([json.dumps(name) for name in ids], pa.string()), {"ids": "json"}
    if kinds == {str}:
        for name in ids:
            if has_surrogate(str(name)):
                raise ValueError(f"the id {name!r} has a lone surrogate, which Arrow cannot store")
        return pa.array(ids, pa.string()), {}
    return pa.array(ids, pa.int64()), {}


def _read_ids(column: Any, described: Mapping[str, str]) -> list[Id]:
    ids: list[Id] = column.to_pylist()
    return [json.loads(str(name)) for name in ids] if described.get("ids") == "json" else ids


def _read_vectors(column: Any, name: str) -> FloatArray:
    pa = arrow()
    kind, types = column.type, pa.types
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if not is_list or not (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
        raise TypeError(f"the column {name!r} has the type {kind}, expected lists of numbers")
    blocks, first = [], 0
    dim = kind.list_size if types.is_fixed_size_list(kind) else None
    for chunk in column.chunks if hasattr(column, "chunks") else [column]:
        if chunk.null_count:
            row = first + int(np.argmin(chunk.is_valid().to_numpy(zero_copy_only=False)))
            raise ValueError(f"{name}[{row}] is null, expected a vector")
        lengths = chunk.value_lengths().to_numpy(zero_copy_only=False)
        dim = int(lengths[0]) if dim is None and len(lengths) else dim
        if len(lengths) and (lengths != dim).any():
            row = int((lengths != dim).argmax())
            raise ValueError(f"{name}[{first + row}] has {lengths[row]} numbers, expected {dim} as before")
        values = chunk.flatten().to_numpy(zero_copy_only=False)
        blocks.append(values.astype(np.float32, copy=False).reshape(len(chunk), dim or 0))
        first += len(chunk)
    return np.concatenate(blocks) if blocks else np.zeros((0, dim or 0), np.float32)


def _read_payloads(table: Any, name: str, others: list[str]) -> list[Payload]:
    types = arrow().types
    if name not in others:
        values = [table.column(other).to_pylist() for other in others]
        rows = zip(*values, strict=True) if others else ((),) * len(table)
        return [json_value(dict(zip(others, row, strict=True))) if row else None for row in rows]
    column = table.column(name)
    if types.is_struct(column.type):
        return [None if value is None else json_value(value) for value in column.to_pylist()]
    if not (types.is_string(column.type) or types.is_large_string(column.type) or types.is_null(column.type)):
        raise TypeError(
            f"the column {name!r} has the type {column.type}, expected strings of JSON or structs"
        )
    try:
        return [None if value is None else json.loads(value) for value in column.to_pylist()]
    except ValueError as error:
        raise ValueError(f"the column {name!r} is not JSON: {error}") from error


def _joined(
    ids: list[Id],
    payloads: list[Payload],
    vectors: FloatArray,
    parts: list[list[Any]],
) -> tuple[list[Id], list[str | None], list[Payload], FloatArray, list[list[Span]]]:
    # The items of passages, whose rows may have any order.
    numbers, starts, ends, documents = parts
    rows_of: dict[Id, list[int]] = {}
    for row, name in enumerate(ids):
        rows_of.setdefault(name, []).append(row)
    order: list[int] = []
    spans: list[list[Span]] = []
    for name, rows in rows_of.items():
        rows.sort(key=lambda row: numbers[row])
        if [numbers[row] for row in rows] != list(range(len(rows))):
            raise ValueError(
                f"the item {name!r} has the passages {[numbers[row] for row in rows]}, expected 0 to "
                f"{len(rows) - 1}"
            )
        order += rows
        spans.append([(starts[row] or 0, ends[row] or 0) for row in rows])
    firsts = [rows[0] for rows in rows_of.values()]
    texts = [documents[row] for row in firsts]
    for name, text, own in zip(rows_of, texts, spans, strict=True):
        if text is None and len(own) > 1:
            raise ValueError(f"the item {name!r} has {len(own)} passages but no document, expected its text")
    return list(rows_of), texts, [payloads[row] for row in firsts], vectors[order], spans
