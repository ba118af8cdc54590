"""Records out of Parquet: row group by row group, in batches, with values that JSON has."""

import math
import numbers
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from sentenc.errors import MissingExtraError, TextFileError
from sentenc.io.record import Record, choose_text_field, make_record

# Rows that are Python objects at one time.
_BATCH = 4096


def read_parquet(
    path: str, text_field: str | None, id_field: str | None, on_bytes: Callable[[int], None] | None
) -> Iterator[Record]:
    """The records of one file, as :func:`sentenc.io.records.read_records` has them.

    Raises:
        MissingExtraError: pyarrow is not installed.
        TextFileError: The file is not Parquet, is damaged, or lacks the fields.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow", "reading Parquet") from error
    with open(path, "rb") as source:
        try:
            # Without the buffer that would hold a whole row group in advance.
            file = pq.ParquetFile(source, pre_buffer=False)
            schema = file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise TextFileError(f"{path}: not a Parquet file: {error}") from error
        twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if twice:
            raise TextFileError(f"{path}: the schema has {', '.join(map(repr, twice))} more than once")
        strings = [field.name for field in schema if _is_text(pa.types, field.type)]
        fields = choose_text_field(path, strings, schema.names, text_field, id_field)
        if fields.text not in strings:
            kind = schema.field(fields.text).type
            raise TextFileError(f"{path}: column {fields.text!r} is {kind}, expected strings")
        columns = [f.name for f in schema if f.name in fields or not _is_binary(pa.types, f.type)]
        size, rows, told, done = os.path.getsize(path), file.metadata.num_rows, 0, 0
        for batch in _batches(path, pa, file, columns):
            for number, row in enumerate(batch, done + 1):
                yield make_record(path, number, {k: json_value(v) for k, v in row.items()}, fields, "row")
            done += len(batch)
            if on_bytes is not None:
                on_bytes(size * done // rows - told)
                told = size * done // rows


def json_value(value: Any) -> Any:
    """The nearest that JSON has; None where it has nothing (NaN, infinity, bytes)."""
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


def _batches(path: str, pa: Any, file: Any, columns: list[str]) -> Iterator[list[dict[str, Any]]]:
    batches = file.iter_batches(_BATCH, columns=columns)
    done = 0
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                return
            rows = _microseconds(pa, batch).to_pylist()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise TextFileError(f"{path}, after row {done}: {error}") from error
        yield rows
        done += len(rows)


def _microseconds(pa: Any, batch: Any) -> Any:
    # Python's dates have no nanoseconds, and pyarrow refuses to lose them unasked.
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
