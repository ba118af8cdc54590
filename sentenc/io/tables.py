"""The reader of tables: rows of CSV, TSV, JSON lines and Parquet, streamed in bounded memory.

All parts of the library that read tables use the rows of this reader. Its rules are:

- CSV has double quotes, and is separated by the most frequent of comma, semicolon, tab and vertical bar in its
  header, or by the character that a first line such as ``sep=;`` states.
- TSV is separated by tabs and has no quotes, as the files of GLUE: a quote is part of the text.
- Both have a header, unless the caller names the columns. White space around the names in a header is removed.
  Columns without a name are left out.
- A line of white space, or of separators alone, is a blank row.
- Text is UTF-8, with or without a byte order mark, plain or compressed by gzip, bzip2, xz or Zstandard.
- A row that cannot be read is yielded as ``Malformed``, and the caller counts it or raises an error.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

from sentenc.errors import TextFileError
from sentenc.io.columns import checked_columns, json_kind, listed
from sentenc.io.compression import DECOMPRESSION_ERRORS, decompressed_head
from sentenc.io.files import file_size, open_file
from sentenc.io.formats import FORMATS, file_format
from sentenc.io.parquet import count_rows, open_parquet
from sentenc.io.text import MOST_BYTES_PER_LINE, Malformed, OnBytes, open_lines

# None is a blank row.
Row = dict[str, Any] | Malformed | None
Selection = tuple[Any, ...] | Malformed | None
_Cells = Iterator[tuple[int, list[str] | Malformed | None]]
_Lines = Iterator[tuple[int, str | Malformed]]
_SEPARATORS_TO_SPACES = str.maketrans("\t\r\n", "   ")
# The part of a file from which its number of rows is estimated.
# A block of bzip2 may have most of a megabyte.
_BYTES_OF_SAMPLE = 1 << 20
# The likelier separators of CSV come first.
_SEPARATORS = ",;\t|"
_QUOTED = re.compile('"[^"]*"')
_STATED_SEPARATOR = re.compile(r'sep=[^\w\s"\']\r?\n?|sep=\t\r?\n?', re.IGNORECASE)


class Table(NamedTuple):
    """An open table.

    Attributes:
        columns: Names of the columns; None for JSON lines, whose objects may differ.
        text_columns: Names of the columns of strings, all columns of CSV and TSV; None for JSON lines.
        rows: Pairs of a number from 1 and the values of a row by column. The number is that of the first line
            of the row, or for Parquet that of the row. A blank row is None.
        unit: "line" or "row", the unit of the numbers.
    """

    columns: tuple[str, ...] | None
    text_columns: tuple[str, ...] | None
    rows: Iterator[tuple[int, Row]]
    unit: str = "line"


@contextmanager
def open_table(
    path: str, *, format: str | None = None, encoding: str = "utf-8", on_bytes: OnBytes | None = None
) -> Iterator[Table]:
    """Opens a table with all of its columns, reading its header or schema.

    Values of CSV and TSV are str. Those of JSON lines and Parquet are JSON values; ``json_value`` converts
    other types. NaN and infinity become None. Binary columns of Parquet are left out. Fields of CSV are
    limited by ``csv.field_size_limit()``.

    Args:
        path: A file; ``-`` is standard input, except for Parquet.
        format: "csv", "tsv", "jsonl" or "parquet"; by default that of the suffix.
        encoding: Encoding of CSV, TSV and JSON lines.
        on_bytes: Called from time to time with the number of bytes (as stored on disk) since the last call.

    Raises:
        ValueError: The format is not one of a table.
        TextFileError: A column occurs twice, the header cannot be read, or (while the rows are read) the
            file is damaged; with the file and the line if there is one.
        MissingExtraError: The file is Parquet, and pyarrow is not installed.
        OSError: The file cannot be opened.
    """
    kind = _table_format(path, format)
    if kind == "parquet":
        with open_parquet(path, None, on_bytes) as (columns, text_columns, values):
            rows = ((number, dict(zip(columns, row, strict=True))) for number, row in values)
            yield Table(columns, text_columns, rows, "row")
        return
    with open_lines(path, encoding=encoding, on_bytes=on_bytes) as lines:
        if kind == "jsonl":
            yield Table(None, None, _json_rows(lines))
        else:
            cells = _csv_cells(lines) if kind == "csv" else _tsv_cells(lines)
            header = _header(path, cells)
            columns = checked_columns(path, [name for name in header if name], None)
            yield Table(columns, columns, _dicts(cells, header))


@contextmanager
def open_columns(
    path: str,
    fields: Sequence[str],
    *,
    format: str | None = None,
    names: Sequence[str] | None = None,
    ignore_extra: bool = False,
    max_line_bytes: int = MOST_BYTES_PER_LINE,
) -> Iterator[Iterator[tuple[int, Selection]]]:
    """Opens a table and yields the values of some of its columns, which is faster than all of them.

    Args:
        path: A file; ``-`` is standard input, except for Parquet.
        fields: Names of the columns.
        format: "csv", "tsv", "jsonl" or "parquet"; by default the one of the suffix.
        names: Names of all columns of a CSV or TSV without a header.
        ignore_extra: Accept more columns than ``names`` has; by default such rows are malformed.
        max_line_bytes: A longer line is malformed, and is skipped without being held in memory.

    Yields:
        An iterator over each row's number and values, in the order of ``fields``; a blank row is None.

    Raises:
        TextFileError: A column is missing or occurs twice. The other errors are those of :func:`open_table`.
    """
    kind = _table_format(path, format)
    if kind == "parquet":
        with open_parquet(path, fields, None) as (_, _, values):
            yield values
        return
    with open_lines(path, max_line_bytes=max_line_bytes) as lines:
        if kind == "jsonl":
            yield _json_values(lines, fields)
        else:
            n_columns = None if names is None else len(names)
            cells = _csv_cells(lines, n_columns) if kind == "csv" else _tsv_cells(lines)
            header = _header(path, cells) if names is None else tuple(names)
            # An empty file has no header, and no rows that would miss a column.
            columns = checked_columns(path, header, fields) if header else ()
            yield _tuples(cells, header, columns, ignore_extra)


def estimate_rows(path: str) -> float:
    """Estimates the number of rows of a file from its size and the lines in its beginning; exact for Parquet.

    Raises:
        TextFileError: The beginning of the file is damaged.
        OSError: The file cannot be opened.
    """
    if file_format(path) == "parquet":
        return float(count_rows(path))
    size = file_size(path)
    with open_file(path) as file:
        head = file.read(_BYTES_OF_SAMPLE)
    try:
        content, n_bytes = decompressed_head(head)
    except DECOMPRESSION_ERRORS as error:
        raise TextFileError(f"{path}, at its beginning: {error}") from error
    return max(1, content.count(b"\n")) * size / n_bytes if head else 0.0


def tsv_line(values: Iterable[Any]) -> str:
    """Returns a line of TSV with its end. TSV has no quotes: tabs and line ends in a value become spaces."""
    return "\t".join(str(value).translate(_SEPARATORS_TO_SPACES) for value in values) + "\n"


def _table_format(path: str, format: str | None) -> str:
    kind = format or file_format(path)
    if kind not in FORMATS[1:]:
        raise ValueError(f"format of {path} is {kind!r}, expected one of {', '.join(FORMATS[1:])}")
    return kind


def _header(path: str, cells: _Cells) -> tuple[str, ...]:
    for number, row in cells:
        if isinstance(row, Malformed):
            raise TextFileError(f"{path}, line {number}: {row.why}")
        if row is not None:
            return tuple(name.strip() for name in row)
    return ()


def _dicts(cells: _Cells, header: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    for number, row in cells:
        if row is None or isinstance(row, Malformed):
            yield number, row
        elif len(row) != len(header):
            yield number, _wrong_width(row, header)
        else:
            yield number, {name: value for name, value in zip(header, row, strict=True) if name}


def _tuples(
    cells: _Cells, header: tuple[str, ...], columns: tuple[str, ...], ignore_extra: bool
) -> Iterator[tuple[int, Selection]]:
    width = len(header)
    places = [header.index(name) for name in columns]
    for number, row in cells:
        if row is None or isinstance(row, Malformed):
            yield number, row
        elif len(row) != width and not (ignore_extra and len(row) > width):
            yield number, _wrong_width(row, header)
        else:
            yield number, tuple([row[place] for place in places])


def _wrong_width(row: list[str], columns: tuple[str, ...]) -> Malformed:
    return Malformed(f"number of columns is {len(row)}, expected {len(columns)}")


def _tsv_cells(lines: _Lines) -> _Cells:
    for number, line in lines:
        if isinstance(line, Malformed):
            yield number, line
        else:
            yield number, None if line.isspace() else line.rstrip("\r\n").split("\t")


def _csv_separator(line: str, n_columns: int | None) -> str:
    counts = {separator: _QUOTED.sub("", line).count(separator) for separator in _SEPARATORS}
    if n_columns is not None:
        return next((name for name, count in counts.items() if count == n_columns - 1), _SEPARATORS[0])
    return max(counts, key=counts.__getitem__)


def _separated(lines: _Lines, n_columns: int | None) -> tuple[str, _Lines]:
    # Returns the separator of CSV and all lines. Blank lines may precede the header.
    before: list[tuple[int, str | Malformed]] = []
    for number, line in lines:
        if isinstance(line, str) and _STATED_SEPARATOR.fullmatch(line):
            return line[4], chain(before, [(number, "\n")], lines)
        before.append((number, line))
        if isinstance(line, Malformed):
            break
        if not line.isspace():
            return _csv_separator(line, n_columns), chain(before, lines)
    return _SEPARATORS[0], chain(before, lines)


def _csv_cells(lines: _Lines, n_columns: int | None = None) -> _Cells:
    separator, lines = _separated(lines, n_columns)

    # A row may span several lines, so malformed ones must pass through the reader of CSV: as empty lines,
    # together with a note that makes the row malformed which they are part of.
    malformed: list[Malformed] = []

    def texts() -> Iterator[str]:
        for _, line in lines:
            if isinstance(line, Malformed):
                malformed.append(line)
            yield "\n" if isinstance(line, Malformed) else line

    reader = csv.reader(texts(), strict=True, delimiter=separator)
    while True:
        begin = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            place = f" in lines {begin} to {reader.line_num}" if reader.line_num > begin else ""
            malformed.append(Malformed(f"bad CSV{place}: {error}"))
        if malformed:
            yield begin, malformed[0]
            malformed.clear()
        elif row is None:
            return
        else:
            is_blank = row != [""] and not any(cell.strip() for cell in row)
            yield begin, None if is_blank else row


def _json_rows(lines: _Lines) -> Iterator[tuple[int, Row]]:
    # NaN and the infinities, which Python reads and JSON does not have, become null.
    decode = json.JSONDecoder(parse_constant=lambda _: None).decode
    for number, line in lines:
        if isinstance(line, Malformed):
            yield number, line
        elif line.isspace():
            yield number, None
        else:
            yield number, _json_object(decode, line)


def _json_object(decode: Any, line: str) -> Row:
    try:
        row: Any = decode(line)
    except (ValueError, RecursionError) as error:
        return Malformed(f"not JSON: {error}")
    if not isinstance(row, dict):
        return Malformed(f"the JSON value is {json_kind(row)}, expected an object")
    return row


def _json_values(lines: _Lines, fields: Sequence[str]) -> Iterator[tuple[int, Selection]]:
    for number, row in _json_rows(lines):
        if row is None or isinstance(row, Malformed):
            yield number, row
            continue
        try:
            yield number, tuple([row[name] for name in fields])
        except KeyError as error:
            yield number, Malformed(f"no field {error.args[0]!r}, only {listed(list(row))}")
