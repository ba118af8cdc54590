"""The Parquet part of the reader of tables: batch by batch, with values that JSON has."""

import math
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import MissingExtraError, TextFileError
from sentenc.io.columns import checked_columns
from sentenc.io.files import file_size, open_file

# Rows that are Python objects at one time.
_ROWS_PER_BATCH = 4096

Rows = Iterator[tuple[int, tuple[Any, ...]]]
VectorBlocks = Iterator[tuple[int, list[str | None], npt.NDArray[Any], int]]


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
    with open_file(path) as source:
        file = _open(arrow, path, source)
        schema = file.schema_arrow
        readable = [field.name for field in schema if not _is_binary(arrow.types, field.type)]
        columns = checked_columns(path, readable, fields)
        texts = tuple(name for name in columns if is_text(arrow.types, schema.field(name).type))
        yield columns, texts, _rows(path, arrow, file, columns, texts, on_bytes)


def count_rows(path: str) -> int:
    """Returns the number of rows of a Parquet file, from its metadata."""
    arrow = _arrow()
    with open_file(path) as source:
        return int(_open(arrow, path, source).metadata.num_rows)


@contextmanager
def open_vector_columns(
    path: str,
    names: Callable[[Sequence[str], Sequence[str], dict[str, str]], tuple[str, str]],
    batch_rows: Callable[[int], int],
) -> Iterator[tuple[dict[str, str], VectorBlocks]]:
    """Opens a column of texts and one of vectors, whose numbers never become Python objects.

    Args:
        path: A Parquet file.
        names: Returns the names of the two columns, from those of all columns, those of the columns of strings, and
            the metadata of the schema.
        batch_rows: Returns the number of rows to read at a time from the dimension of the vectors.

    Yields:
        The metadata of the file's schema, and an iterator over the number of the first row of a block, its texts
        (None for null), their vectors (m, d), and the number of rows that were left out because their vector is
        null. Numbers that are null are NaN.

    Raises:
        MissingExtraError: pyarrow is not installed.
        TextFileError: The file is not Parquet, is damaged, or the columns have other types.
    """
    arrow = _arrow()
    with open_file(path) as source:
        file = _open(arrow, path, source)
        schema = file.schema_arrow
        pairs = (schema.metadata or {}).items()
        described = {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in pairs}
        strings = [field.name for field in schema if is_text(arrow.types, field.type)]
        text_name, vector_name = names(schema.names, strings, described)
        for name, is_kind, expected in (
            (text_name, is_text, "strings"),
            (vector_name, _is_vector, "lists of numbers"),
        ):
            kind = schema.field(name).type
            if not is_kind(arrow.types, kind):
                raise TextFileError(f"{path}: the column {name!r} has the type {kind}, expected {expected}")
        yield described, _vector_blocks(path, arrow, file, text_name, vector_name, batch_rows)


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
    size, n_rows = 0 if on_bytes is None else file_size(path), file.metadata.num_rows
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


def _vector_blocks(
    path: str,
    arrow: Any,
    file: Any,
    text_name: str,
    vector_name: str,
    batch_rows: Callable[[int], int],
) -> VectorBlocks:
    kind = file.schema_arrow.field(vector_name).type
    # The length of lists is unknown here unless it is part of the type; a batch is then of the widest vectors.
    dim = kind.list_size if arrow.types.is_fixed_size_list(kind) else 4096
    done = 0
    batches = file.iter_batches(batch_rows(dim), columns=[text_name, vector_name])
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                return
            texts = batch.column(text_name)
            vectors = batch.column(vector_name)
            is_valid = vectors.is_valid()
            numbers = np.flatnonzero(is_valid.to_numpy(zero_copy_only=False)) + done + 1
            texts, vectors = texts.filter(is_valid).to_pylist(), vectors.filter(is_valid)
            lengths = np.asarray(vectors.value_lengths().to_numpy(zero_copy_only=False))
            values = vectors.flatten().to_numpy(zero_copy_only=False)
        # A string that is not UTF-8 is a ValueError.
        except (arrow.ArrowException, OSError, ValueError) as error:
            raise TextFileError(f"{path}, after row {done}: {error}") from error
        if len(lengths):
            if (other := lengths != lengths[0]).any():
                place = int(other.argmax())
                raise TextFileError(
                    f"{path}, row {numbers[place]}: the vector has {lengths[place]} numbers, expected "
                    f"{lengths[0]} as in row {numbers[0]}"
                )
            yield int(numbers[0]), texts, values.reshape(len(lengths), -1), len(batch) - len(lengths)
        else:
            yield done + 1, [], np.zeros((0, 0), np.float32), len(batch)
        done += len(batch)


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


def is_text(types: Any, kind: Any) -> bool:
    """Returns whether a type of Arrow is one of strings; ``types`` is the module ``pyarrow.types``."""
    if types.is_dictionary(kind):
        kind = kind.value_type
    is_view = getattr(types, "is_string_view", lambda _: False)
    return bool(types.is_string(kind) or types.is_large_string(kind) or is_view(kind))


def _is_vector(types: Any, kind: Any) -> bool:
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(is_list and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)))


def _is_binary(types: Any, kind: Any) -> bool:
    is_view = getattr(types, "is_binary_view", lambda _: False)
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or is_view(kind)
    )
