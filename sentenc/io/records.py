"""Records out of files: a text each, perhaps an id, and the rest as payload; streamed in bounded memory.

Text (one a line), CSV, TSV, JSON lines and Parquet; all but Parquet also compressed by gzip or xz, and
from standard input. What cannot be read is reported with file and line, and nothing is guessed over.
"""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sentenc.errors import TextFileError
from sentenc.io.progress import progress_bar
from sentenc.io.record import Record, _kind, _listed, choose_text_field, make_record
from sentenc.io.text import open_text

FORMATS = ("text", "csv", "tsv", "jsonl", "parquet")
_SUFFIXES = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip

OnBytes = Callable[[int], None]


def read_records(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    text_field: str | None = None,
    id_field: str | None = None,
    format: str | None = None,
    on_bytes: OnBytes | None = None,
) -> Iterator[Record]:
    """Reads files one after another, a record at a time.

    Fields other than text and id become the payload: JSON values as they are, dates and times as ISO
    strings, durations as seconds, decimals as strings. Null, NaN, infinity, binary data and the empty
    fields of CSV are left out. Every field of CSV is a string, ids too. Blank lines hold no record.
    Fields of CSV are limited by ``csv.field_size_limit()``.

    Args:
        paths: Files; ``-`` is standard input.
        text_field: The field with the text. Without it each file's is the first of ``TEXT_FIELDS`` that
            it has (in any case), or its only field of strings.
        id_field: The field with ids: str, or int of 64 bits.
        format: One of ``FORMATS``. Without it a file's suffix says (.csv, .tsv, .jsonl, .parquet, with
            or without .gz or .xz); any other suffix, and standard input, is text.
        on_bytes: Told now and then how many bytes were read since it was last told.

    Raises:
        ValueError: ``format`` is none of ``FORMATS``.
        TextFileError: A file is not what its format asks for. While reading, with file and line.
        OSError: A file cannot be opened.
    """
    names = [os.fspath(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    if format is not None and format not in FORMATS:
        raise ValueError(f"format is {format!r}, expected one of {', '.join(FORMATS)}")
    if names.count("-") > 1:
        raise ValueError("standard input (-) is given twice, expected once")
    files = [(name, format or file_format(name)) for name in names]
    for name, kind in files:
        if kind == "text" and (text_field or id_field):
            raise TextFileError(
                f"{name} is read as plain text, which has no field {text_field or id_field!r}: say its format (--format)"
            )
        if kind == "parquet" and name == "-":
            raise TextFileError("Parquet cannot be read from standard input: it starts at its end")
    return _records(files, text_field, id_field, on_bytes)


def file_format(path: str) -> str:
    """The format that a file's suffix stands for.

    Raises:
        TextFileError: The suffix is .json: one JSON value in all, which cannot be streamed.
    """
    stem, suffix = os.path.splitext(path.lower())
    if suffix in (".gz", ".xz"):
        suffix = os.path.splitext(stem)[1]
    if suffix == ".json":
        raise TextFileError(
            f"{path} is JSON, expected JSON lines: an object a line (if it is, say so: --format jsonl)"
        )
    return _SUFFIXES.get(suffix, "text")


def _records(
    files: list[tuple[str, str]], text_field: str | None, id_field: str | None, on_bytes: OnBytes | None
) -> Iterator[Record]:
    for path, kind in files:
        if kind == "parquet":
            from sentenc.io.parquet import read_parquet

            yield from read_parquet(path, text_field, id_field, on_bytes)
            continue
        with open_text(path, keep_ends=kind in ("csv", "tsv"), on_bytes=on_bytes) as lines:
            if kind == "text":
                yield from _text(path, lines)
            elif kind == "jsonl":
                yield from _json_lines(path, lines, text_field, id_field)
            else:
                yield from _csv(path, lines, "," if kind == "csv" else "\t", text_field, id_field)


def _text(path: str, lines: Iterator[str]) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        if line and not line.isspace():
            yield Record(line, None, None, path, number)


def _json_lines(
    path: str, lines: Iterator[str], text_field: str | None, id_field: str | None
) -> Iterator[Record]:
    # NaN and the infinities, which Python reads and JSON has not, become null.
    decode = json.JSONDecoder(parse_constant=lambda _: None).decode
    fields = None
    for number, line in enumerate(lines, 1):
        if not line or line.isspace():
            continue
        try:
            row: Any = decode(line)
        except (ValueError, RecursionError) as error:
            raise TextFileError(f"{path}, line {number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise TextFileError(f"{path}, line {number}: {_kind(row)}, expected an object")
        if fields is None:
            strings = [key for key, value in row.items() if isinstance(value, str)]
            fields = choose_text_field(f"{path}, line {number}", strings, list(row), text_field, id_field)
        yield make_record(path, number, row, fields)


def _csv(
    path: str, lines: Iterator[str], delimiter: str, text_field: str | None, id_field: str | None
) -> Iterator[Record]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    rows = _csv_rows(path, reader)
    _, header = next(rows, (1, None))
    if header is None:
        return
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise TextFileError(f"{path}: the header has {_listed(twice)} more than once")
    fields = choose_text_field(path, header, header, text_field, id_field)
    for number, row in rows:
        if len(row) != len(header):
            raise TextFileError(
                f"{path}, line {number}: {len(row)} fields, expected the header's {len(header)}"
            )
        values = {name: value for name, value in zip(header, row, strict=True) if value or name in fields}
        yield make_record(path, number, values, fields)


def _csv_rows(path: str, reader: Any) -> Iterator[tuple[int, list[str]]]:
    # Rows with the line where each begins: a quoted field may run over many.
    while True:
        begin = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            end = "" if reader.line_num <= begin else f" to {reader.line_num}"
            raise TextFileError(f"{path}, line {begin}{end}: bad CSV: {error}") from error
        if row:
            yield begin, row


# Characters in one field of CSV. Enough for a long text, and an end to what an unclosed quote swallows.
_LONGEST_FIELD = 1 << 24


@contextmanager
def open_records(
    files: tuple[str, ...],
    label: str,
    quiet: bool,
    *,
    text_field: str | None = None,
    id_field: str | None = None,
    format: str | None = None,
) -> Iterator[Iterator[Record]]:
    """The records of files, with a bar that moves by bytes read."""
    csv.field_size_limit(_LONGEST_FIELD)
    size = None if "-" in files else sum(os.path.getsize(file) for file in files)
    with progress_bar(size, label, not quiet and size is not None) as bar:
        yield read_records(
            files, text_field=text_field, id_field=id_field, format=format, on_bytes=bar.update
        )


def in_blocks(records: Iterator[Record], most: int, most_characters: int) -> Iterator[list[Record]]:
    """Lists of up to ``most`` records, of fewer where their texts come to ``most_characters``."""
    block: list[Record] = []
    characters = 0
    for record in records:
        block.append(record)
        characters += len(record.text)
        if len(block) == most or characters >= most_characters:
            yield block
            block, characters = [], 0
    if block:
        yield block
