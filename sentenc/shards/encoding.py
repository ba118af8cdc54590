"""Encodes one file: reads it in tables, encodes them, and writes a Parquet file that appears when it is complete."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sentenc.errors import TruncationWarning
from sentenc.io.parquet_writing import open_writer
from sentenc.shards.footers import entry
from sentenc.shards.options import EncodingOptions
from sentenc.shards.reading import open_tables
from sentenc.shards.sources import Source
from sentenc.shards.storage import Folder

if TYPE_CHECKING:
    from sentenc.encoders.base import Encoder

# A row group is written when it has one of these sizes. It is in memory until then.
_ROWS_PER_GROUP = 1 << 16
_BYTES_PER_GROUP = 64 << 20
# Progress is reported after each step.
_ROWS_OF_FIRST_STEP = 1024
_SECONDS_PER_STEP = 1.0


class Encoded(NamedTuple):
    """The number of rows of an encoded file, and the warnings of its encoding."""

    rows: int
    warnings: tuple[str, ...]
    is_truncated: bool


@dataclass(frozen=True)
class Job:
    """Everything that the files of a run have in common. It can be pickled."""

    encoder: "Encoder"
    options: EncodingOptions
    described: dict[str, Any]
    folder: Folder

    def __call__(self, source: Source, on_rows: Callable[[int], None]) -> Encoded:
        """Encodes a file.

        Args:
            source: The file.
            on_rows: Called with the number of rows that are done so far.

        Raises:
            TextFileError: The file cannot be read, or lacks a column.
            OSError: It cannot be opened, or the output cannot be written.
        """
        options = self.options
        with (
            self.folder.temporary() as temporary,
            open_tables(
                source.path, temporary, format=options.format, text=options.text, columns=options.columns
            ) as opened,
            _collected_warnings() as messages,
            self.folder.writing(source.target) as path,
        ):
            rows = self._write(path, source, opened, on_rows)
        texts = tuple(dict.fromkeys(str(m.message) for m in messages if not _is_truncation(m)))
        return Encoded(rows, texts, any(map(_is_truncation, messages)))

    def _write(self, path: Any, source: Source, opened: Any, on_rows: Callable[[int], None]) -> int:
        schema = self.encode_empty(opened.schema, opened.text).schema
        schema = schema.with_metadata(
            {**(schema.metadata or {}), **entry(source, opened.text, self.described)}
        )
        vectors = [name for name in schema.names if name == self.options.column]
        done = 0
        with open_writer(path, schema, vectors) as writer:
            group = _RowGroup(writer, schema)
            for table in _short_steps(opened.tables):
                group.add(self.encode(table, opened.text))
                done += len(table)
                on_rows(done)
            group.write()
        return done

    def encode_empty(self, schema: Any, text: str) -> Any:
        """Returns an encoded table without rows, which has the schema of the output."""
        import pyarrow as pa

        # ``schema.empty_table()`` would import pandas, which takes half a second.
        return self.encode(pa.Table.from_batches([], schema), text)

    def encode(self, table: Any, text: str) -> Any:
        """Returns a table with its vectors, and without the texts if they are not to be kept."""
        encoded = self.encoder.encode_table(table, text=text, **self.options.for_table())
        is_kept = self.options.columns is None or text in self.options.columns
        return encoded if is_kept else encoded.drop_columns([text])


def _short_steps(tables: Iterator[Any]) -> Iterator[Any]:
    """Divides tables so that each part is encoded in about a second, however slow the model is."""
    rows = _ROWS_OF_FIRST_STEP
    for table in tables:
        start = 0
        while start < len(table):
            began = time.monotonic()
            part = table.slice(start, rows)
            yield part
            start += len(part)
            seconds = time.monotonic() - began
            if seconds < _SECONDS_PER_STEP / 2:
                rows = min(2 * rows, _ROWS_PER_GROUP)
            elif seconds > _SECONDS_PER_STEP * 2:
                rows = max(_ROWS_OF_FIRST_STEP // 8, rows // 2)


class _RowGroup:
    """Collects tables until they are large enough for a row group."""

    def __init__(self, writer: Any, schema: Any) -> None:
        self._writer, self._schema = writer, schema
        self._tables: list[Any] = []
        self._rows = self._bytes = 0

    def add(self, table: Any) -> None:
        self._tables.append(table.replace_schema_metadata(self._schema.metadata))
        self._rows += len(table)
        self._bytes += table.nbytes
        if self._rows >= _ROWS_PER_GROUP or self._bytes >= _BYTES_PER_GROUP:
            self.write()

    def write(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._writer.write_table(pa.concat_tables(self._tables), row_group_size=self._rows)
        self._tables, self._rows, self._bytes = [], 0, 0


@contextmanager
def _collected_warnings() -> Iterator[list[warnings.WarningMessage]]:
    # Every table would warn, in every process.
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always", TruncationWarning)
        yield messages


def _is_truncation(message: warnings.WarningMessage) -> bool:
    return issubclass(message.category, TruncationWarning)
