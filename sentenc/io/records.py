"""The reader of records, which consist of a text, an optional id and a payload, in bounded memory."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sentenc.errors import TextFileError
from sentenc.io.columns import json_kind, listed
from sentenc.io.formats import FORMATS, file_format
from sentenc.io.progress import progress_bar
from sentenc.io.tables import Table, open_table
from sentenc.io.text import Malformed, OnBytes, open_text

# Likely names of the field with the text, the likeliest first.
TEXT_FIELDS = ("text", "sentence", "content", "body", "passage", "abstract", "title", "question", "query")
# Decides whether a row without a text is left out, from its file, line and field, and whether it has no text at
# all (True) or a blank one.
OnEmpty = Callable[[str, bool], bool]
#: Enough for a long text, and an end to what an unclosed quote takes in.
CHARACTERS_PER_FIELD = 1 << 24


class Record(NamedTuple):
    """One entry of a file.

    Attributes:
        text: The text.
        id: Its id; None unless a field was named for it.
        payload: The other fields, as JSON values; None if there are none.
        path: The file.
        line: The line where it begins (of Parquet, the row), from 1.
    """

    text: str
    id: int | str | None
    payload: dict[str, Any] | None
    path: str
    line: int


class _Fields(NamedTuple):
    text: str
    id: str | None


def read_records(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    text_field: str | None = None,
    id_field: str | None = None,
    format: str | None = None,
    on_bytes: OnBytes | None = None,
    on_empty: OnEmpty | None = None,
) -> Iterator[Record]:
    """Reads files one after another, one record at a time.

    A file is text (one record per line), CSV, TSV, JSON lines or Parquet; all but Parquet may be compressed
    by gzip, bzip2, xz or Zstandard, or come from standard input. :mod:`sentenc.io.tables` states the rules of
    these formats.

    Fields other than text and id become the payload. JSON values do not change, dates and times become ISO
    strings, durations become seconds, and decimals become strings. Null, NaN, infinity, binary data and the
    empty fields of CSV and TSV are left out. Every field of CSV and TSV is a string, including ids. Blank
    rows are skipped.

    Args:
        paths: Files; ``-`` is standard input.
        text_field: The field with the text. By default each file's is the first of ``TEXT_FIELDS`` that
            it has (in any case), or its only field of strings.
        id_field: The field with ids: str, or int of 64 bits.
        format: One of ``FORMATS``. By default that of a file's suffix (.csv, .tsv, .jsonl, .parquet, with
            or without .gz, .bz2, .xz or .zst); a file with any other suffix, and standard input, is text.
        on_bytes: Called now and then with the number of bytes (as stored on disk) read since the last call.
        on_empty: Called with the place of each row without a text, and with True if it is null or missing,
            False if it is blank. The row is left out if the function returns True. Otherwise, and by default,
            a null or missing text is an error, and a blank one is a text.

    Raises:
        ValueError: ``format`` is none of ``FORMATS``, or standard input occurs twice.
        TextFileError: A file does not have its format, or lacks a field. While reading, with file and line.
        OSError: A file cannot be opened.
    """
    names = [os.fspath(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    if format is not None and format not in FORMATS:
        raise ValueError(f"format is {format!r}, expected one of {', '.join(FORMATS)}")
    if names.count("-") > 1:
        raise ValueError("standard input (-) is passed twice, expected once")
    files = [(name, format or file_format(name)) for name in names]
    for name, kind in files:
        if kind == "text" and (text_field or id_field):
            raise TextFileError(
                f"{name} is read as plain text, which has no field {text_field or id_field!r}: "
                "choose its format (format, --format)"
            )
        if kind == "parquet" and name == "-":
            raise TextFileError("Parquet cannot be read from standard input: its index is at its end")
    return _records(files, text_field, id_field, on_bytes, on_empty)


@contextmanager
def open_records(
    files: tuple[str, ...],
    label: str,
    quiet: bool,
    *,
    text_field: str | None = None,
    id_field: str | None = None,
    format: str | None = None,
    on_empty: OnEmpty | None = None,
) -> Iterator[Iterator[Record]]:
    """Yields the records of files, with a progress bar that moves by bytes read.

    Fields of CSV may have 16 million characters. The limit of the ``csv`` module is raised to that for the
    whole process.
    """
    csv.field_size_limit(CHARACTERS_PER_FIELD)
    size = None if "-" in files else sum(os.path.getsize(file) for file in files)
    with progress_bar(size, label, not quiet and size is not None) as bar:
        yield read_records(
            files,
            text_field=text_field,
            id_field=id_field,
            format=format,
            on_bytes=bar.update,
            on_empty=on_empty,
        )


def record_blocks(records: Iterator[Record], max_records: int, max_characters: int) -> Iterator[list[Record]]:
    """Yields lists of ``max_records`` records, or of fewer if their texts reach ``max_characters``."""
    block: list[Record] = []
    characters = 0
    for record in records:
        block.append(record)
        characters += len(record.text)
        if len(block) == max_records or characters >= max_characters:
            yield block
            block, characters = [], 0
    if block:
        yield block


def _records(
    files: list[tuple[str, str]],
    text_field: str | None,
    id_field: str | None,
    on_bytes: OnBytes | None,
    on_empty: OnEmpty | None,
) -> Iterator[Record]:
    for path, kind in files:
        if kind == "text":
            with open_text(path, on_bytes=on_bytes) as lines:
                for number, line in enumerate(lines, 1):
                    if line and not line.isspace():
                        yield Record(line, None, None, path, number)
            continue
        with open_table(path, format=kind, on_bytes=on_bytes) as table:
            yield from _table_records(path, table, text_field, id_field, kind in ("csv", "tsv"), on_empty)


def _table_records(
    path: str,
    table: Table,
    text_field: str | None,
    id_field: str | None,
    drop_empty: bool,
    on_empty: OnEmpty | None,
) -> Iterator[Record]:
    fields = None
    if table.columns and table.text_columns is not None:
        fields = _choose_fields(path, table.text_columns, table.columns, text_field, id_field)
    for number, row in table.rows:
        if row is None:
            continue
        if isinstance(row, Malformed):
            raise TextFileError(f"{path}, {table.unit} {number}: {row.why}")
        if fields is None:
            strings = [
                key for key, value in row.items() if isinstance(value, str) or _is_null_text(key, value)
            ]
            fields = _choose_fields(f"{path}, line {number}", strings, list(row), text_field, id_field)
        text, record_id = row.get(fields.text), None if fields.id is None else row.get(fields.id)
        why = _no_text(row, fields.text)
        if on_empty is not None and why and on_empty(f"{path}, {table.unit} {number}: {why}", text is None):
            continue
        if not isinstance(text, str) or not (fields.id is None or _is_id(record_id)):
            raise TextFileError(f"{path}, {table.unit} {number}: {_missing(row, fields)}")
        payload = {key: value for key, value in row.items() if value is not None and key not in fields}
        if drop_empty:
            payload = {key: value for key, value in payload.items() if value}
        yield Record(text, record_id, payload or None, path, number)


def _choose_fields(
    place: str, strings: Sequence[str], names: Sequence[str], text_field: str | None, id_field: str | None
) -> _Fields:
    for name in (text_field, id_field):
        if name is not None and name not in names:
            raise TextFileError(f"{place} has no field {name!r}, only {listed(names)}")
    if text_field is not None:
        return _Fields(text_field, id_field)
    return _Fields(likely_text_field(place, [name for name in strings if name != id_field], names), id_field)


def likely_text_field(place: str, candidates: Sequence[str], names: Sequence[str]) -> str:
    """Returns the first of ``TEXT_FIELDS`` among the fields of strings, in any case, or the only field of strings.

    Args:
        place: The file, and the line if there is one, for the message.
        candidates: The fields of strings.
        names: All fields, for the message.

    Raises:
        TextFileError: There is none.
    """
    spellings = {name.lower(): name for name in reversed(candidates)}
    likely = [spellings[name] for name in TEXT_FIELDS if name in spellings]
    if likely or len(candidates) == 1:
        return (likely or candidates)[0]
    raise TextFileError(
        f"{place}: which field is the text? It has {listed(names)}: name one (text_field, --text-field)"
    )


def _no_text(row: dict[str, Any], name: str) -> str | None:
    if name not in row:
        return f"no field {name!r}"
    value = row[name]
    if value is None:
        return f"field {name!r} is null"
    return f"field {name!r} is empty" if isinstance(value, str) and not value.strip() else None


def _is_null_text(name: str, value: Any) -> bool:
    # A text that is null in the first row is a text nevertheless.
    return value is None and name.lower() in TEXT_FIELDS


def _missing(row: dict[str, Any], fields: _Fields) -> str:
    for name in fields:
        if name is not None and name not in row:
            return f"no field {name!r}, only {listed(list(row))}"
    if not isinstance(row[fields.text], str):
        return f"field {fields.text!r} is {json_kind(row[fields.text])}, expected a string"
    kind = json_kind(row.get(fields.id or ""))
    return f"field {fields.id!r} is {kind}, expected an id: a string, or an integer of 64 bits"


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return value != ""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
