"""The Parquet part of the reader of tables: batch by batch, with values that JSON has."""

import math
import numbers
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from typing import Any

from sentenc.errors import MissingExtraError, TextFileError
from sentenc.io.columns import checked_columns

# Rows that are Python objects at one time.
_ROWS_PER_BATCH = 4096

Rows = Iterator[tuple[int, tuple[Any, ...]]]


@contextmanager
def open_parquet(
    path: str, fields: Sequence[str] | None, on_bytes: Callable[[int], None] | None
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], Rows]]:
    """Opens a Parquet file for :func:`sentenc.io.tables.open_table`.

    Yields:
        The columns to read, the string columns among them, and the values of each row with its number from 1.

    Raises:
        MissingExtraError: pyarrow is not installed.
        TextFileError: The file is not Parquet, is damaged, or lacks the fields.
    """
    if path == "-":
        raise TextFileError("Parquet cannot be read from standard input: its index is at its end")
    arrow = _arrow()
    with open(path, "rb") as source:
        file = _open(arrow, path, source)
        schema = file.schema_arrow
        readable = [field.name for field in schema if not _is_binary(arrow.types, field.type)]
        columns = checked_columns(path, readable, fields)
        texts = tuple(name for name in columns if _is_text(arrow.types, schema.field(name).type))
        yield columns, texts, _rows(path, arrow, file, columns, texts, on_bytes)


def count_rows(path: str) -> int:
    """Returns the number of rows of a Parquet file, from its metadata."""
    arrow = _arrow()
    with open(path, "rb") as source:
        return int(_open(arrow, path, source).metadata.num_rows)


def json_value(value: Any) -> Any:
    """Converts a value to JSON; NaN, infinity and bytes become None.

    Dates and times become ISO strings, and durations become seconds. Other values, such as decimals, become
    strings.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _arrow() -> Any:
    try:
        return import_module("pyarrow")
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow", "reading Parquet") from error


def _open(arrow: Any, path: str, source: Any) -> Any:
    parquet = import_module("pyarrow.parquet")
    try:
        # With pre_buffer, a whole row group would be read into memory in advance.
        return parquet.ParquetFile(source, pre_buffer=False)
    except (arrow.ArrowException, OSError) as error:
        raise TextFileError(f"{path}: not a Parquet file: {error}") from error


def _rows(
    path: str, arrow: Any, file: Any, columns: tuple[str, ...], texts: tuple[str, ...], on_bytes: Any
) -> Rows:
    size, n_rows = os.path.getsize(path), file.metadata.num_rows
    reported = done = 0
    batches = file.iter_batches(_ROWS_PER_BATCH, columns=list(columns))
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                return
            table = _microseconds(arrow, batch)
            values = [table.column(name).to_pylist() for name in columns]
        # A string that is not UTF-8 is a ValueError.
        except (arrow.ArrowException, OSError, ValueError) as error:
            raise TextFileError(f"{path}, after row {done}: {error}") from error
        for place, name in enumerate(columns):
            if name not in texts:
                values[place] = list(map(json_value, values[place]))
        yield from enumerate(zip(*values, strict=True), done + 1)
        done += len(batch)
        if on_bytes is not None:
            on_bytes(size * done // n_rows - reported)
            reported = size * done // n_rows


def _microseconds(pa: Any, batch: Any) -> Any:
    # Python's dates have no nanoseconds, and pyarrow refuses to drop them unasked.
    kinds = {
        pa.timestamp: pa.types.is_timestamp,
        pa.duration: pa.types.is_duration,
        pa.time64: pa.types.is_time64,
    }
    table = pa.Table.from_batches([batch])
    for i, field in enumerate(table.schema):
        for make, is_kind in kinds.items():
            if is_kind(field.type) and field.type.unit == "ns":
                zone = (field.type.tz,) if make is pa.timestamp else ()
                coarse = table.column(i).cast(make("us", *zone), safe=False)
                table = table.set_column(i, field.name, coarse)
    return table


def _is_text(types: Any, kind: Any) -> bool:
    if types.is_dictionary(kind):
        kind = kind.value_type
    is_view = getattr(types, "is_string_view", lambda _: False)
    return bool(types.is_string(kind) or types.is_large_string(kind) or is_view(kind))


def _is_binary(types: Any, kind: Any) -> bool:
    is_view = getattr(types, "is_binary_view", lambda _: False)
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or is_view(kind)
    )
