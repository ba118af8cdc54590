"""Reads a file as Arrow tables of some thousand rows, with all columns or some of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sentenc.errors import TextFileError
from sentenc.io.columns import checked_columns
from sentenc.io.formats import file_format
from sentenc.io.parquet import is_text
from sentenc.io.records import TEXT_FIELDS, likely_text_field
from sentenc.io.remote import is_remote
from sentenc.shards.records import open_records
from sentenc.shards.sources import local_copy, open_source

_ROWS_PER_TABLE = 8192
_BYTES_PER_TABLE = 64 << 20
# Column chunks are read piece by piece. Every piece of a remote file is a request.
_BYTES_PER_READ = {False: 1 << 20, True: 16 << 20}


class Tables(NamedTuple):
    """An open file.

    Attributes:
        schema: The columns to keep, and that of the texts.
        text: The name of the column of texts.
        tables: The rows, in tables of this schema.
    """

    schema: Any
    text: str
    tables: Iterator[Any]


@contextmanager
def open_tables(
    path: str, temporary: Path, *, format: str | None, text: str | None, columns: Sequence[str] | None
) -> Iterator[Tables]:
    """Opens a file of any format.

    Args:
        path: Its path or address.
        temporary: An empty folder for a copy of a remote file that is not Parquet.
        format: Its format, one of ``sentenc.io.FORMATS``; by default that of its suffix.
        text: The column of texts; by default the likeliest.
        columns: The columns to keep, by default all. That of the texts is read in any case.

    Raises:
        TextFileError: The file does not have its format, or lacks a column. While reading, with the line or row.
        OSError: The file cannot be opened.
    """
    kind = format or file_format(path)
    if kind != "parquet":
        with open_records(local_copy(path, temporary), path, kind, text, columns) as (schema, name, tables):
            yield Tables(schema, name, tables)
        return
    with open_source(path) as source:
        yield _open_parquet(path, source, text, columns)


def _open_parquet(path: str, source: Any, text: str | None, columns: Sequence[str] | None) -> Tables:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # With pre_buffer, a whole row group would be read into memory in advance.
        file = pq.ParquetFile(source, pre_buffer=False, buffer_size=_BYTES_PER_READ[is_remote(path)])
    except (pa.ArrowException, OSError) as error:
        raise TextFileError(f"{path}: not a Parquet file: {error}") from error
    schema = file.schema_arrow
    if text is None:
        strings = [field.name for field in schema if _may_be_text(pa.types, field)]
        text = likely_text_field(path, strings, schema.names)
    names = checked_columns(path, schema.names, None if columns is None else with_text(columns, text))
    checked_columns(path, schema.names, [text])
    kind = schema.field(text).type
    if not is_text(pa.types, kind) and not pa.types.is_null(kind):
        raise TextFileError(f"{path}: the column {text!r} has the type {kind}, expected strings")
    fields = [schema.field(name) for name in names]
    if pa.types.is_null(kind):
        # A file whose texts are all null does not state their type.
        fields[names.index(text)] = pa.field(text, pa.string())
    schema = pa.schema(fields, schema.metadata)
    return Tables(schema, text, _parquet_tables(path, file, schema))


def _may_be_text(types: Any, field: Any) -> bool:
    # A text that is null in all rows is a text nevertheless.
    return is_text(types, field.type) or (types.is_null(field.type) and field.name.lower() in TEXT_FIELDS)


def with_text(columns: Sequence[str], text: str) -> list[str]:
    """Returns the columns to read: those to keep, and that of the texts."""
    return [*columns, text] if text not in columns else list(columns)


def _parquet_tables(path: str, file: Any, schema: Any) -> Iterator[Any]:
    import pyarrow as pa

    done = 0
    batches = file.iter_batches(_rows_per_table(file.metadata), columns=schema.names, use_threads=False)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise TextFileError(f"{path}, after row {done}: {error}") from error
        if batch is None:
            return
        # The columns of a batch have the order of the file.
        table = pa.Table.from_batches([batch.select(schema.names)])
        yield table if table.schema.equals(schema) else table.cast(schema)
        done += len(batch)


def _rows_per_table(metadata: Any) -> int:
    # Long texts, and columns of vectors or images, must not fill the memory.
    size: int = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    rows = _BYTES_PER_TABLE * int(metadata.num_rows) // max(1, size)
    return max(1, min(_ROWS_PER_TABLE, rows))
