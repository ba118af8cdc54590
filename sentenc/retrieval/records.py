"""Records out of files: a text each, perhaps an id, and the rest as payload; streamed in bounded memory.

Text (one a line), CSV, TSV, JSON lines and Parquet; all but Parquet also compressed by gzip or xz, and
from standard input. What cannot be read is reported with file and line, and nothing is guessed over.
"""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sentenc.errors import TextFileError
from sentenc.text_files import open_text

FORMATS = ("text", "csv", "tsv", "jsonl", "parquet")
# What a field with the text is likely to be called, the likeliest first.
TEXT_FIELDS = ("text", "sentence", "content", "body", "passage", "abstract", "title", "question", "query")
_SUFFIXES = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip

OnBytes = Callable[[int], None]


class Record(NamedTuple):
    """One entry of a file.

    Attributes:
        text: The text.
        id: Its id, where a field was named for it.
        payload: The other fields, as JSON values; None if there are none.
        path: The file.
        line: The line where it begins; the row, in Parquet. From 1.
    """

    text: str
    id: int | str | None
    payload: dict[str, Any] | None
    path: str
    line: int


class Fields(NamedTuple):
    """Names of the fields with the text and the id."""

    text: str
    id: str | None


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


def choose_text_field(
    path: str, strings: Sequence[str], fields: Sequence[str], named: str | None, id_field: str | None
) -> Fields:
    """Which field has the text, of the ``strings`` among the ``fields`` of a file.

    Raises:
        TextFileError: The named field is not there, or none was named and none is plainly the one.
    """
    for name in (named, id_field):
        if name is not None and name not in fields:
            raise TextFileError(f"{path} has no field {name!r}, only {_listed(fields)}")
    if named is not None:
        return Fields(named, id_field)
    candidates = [name for name in strings if name != id_field]
    spelt = {name.lower(): name for name in reversed(candidates)}
    for likely in TEXT_FIELDS:
        if likely in spelt:
            return Fields(spelt[likely], id_field)
    if len(candidates) == 1:
        return Fields(candidates[0], id_field)
    raise TextFileError(
        f"{path}: which field is the text? It has {_listed(fields)}: name one (text_field, --text-field)"
    )


def make_record(path: str, line: int, row: dict[str, Any], fields: Fields, unit: str = "line") -> Record:
    """A record of a row that is JSON values already; empties the row of what is not payload.

    Raises:
        TextFileError: Text or id are missing or of another type.
    """
    text = _taken(path, line, row, fields.text, unit)
    if not isinstance(text, str):
        raise TextFileError(
            f"{path}, {unit} {line}: field {fields.text!r} is {_kind(text)}, expected a string"
        )
    name = None
    if fields.id is not None:
        name = text if fields.id == fields.text else _taken(path, line, row, fields.id, unit)
        if not _is_id(name):
            raise TextFileError(
                f"{path}, {unit} {line}: field {fields.id!r} is {_kind(name)}, "
                "expected an id: a string, or an integer of 64 bits"
            )
    payload = {key: value for key, value in row.items() if value is not None}
    return Record(text, name, payload or None, path, line)


def _records(
    files: list[tuple[str, str]], text_field: str | None, id_field: str | None, on_bytes: OnBytes | None
) -> Iterator[Record]:
    for path, kind in files:
        if kind == "parquet":
            from sentenc.retrieval.parquet import read_parquet

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


def _taken(path: str, line: int, row: dict[str, Any], field: str, unit: str) -> Any:
    if field not in row:
        raise TextFileError(f"{path}, {unit} {line}: no field {field!r}, only {_listed(list(row))}")
    return row.pop(field)


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return value != ""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _kind(value: Any) -> str:
    # By JSON's names: the reader of the message wrote JSON, or a table.
    if value is None:
        return "null"
    if value == "" and isinstance(value, str):
        return "empty"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"a number ({value})" if abs(value) < 1e30 else "a large number"
    return {bool: "true or false", str: "a string", list: "a list", dict: "an object"}.get(
        type(value), type(value).__name__
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return (shown + (", ..." if len(names) > 20 else "")) or "none"
