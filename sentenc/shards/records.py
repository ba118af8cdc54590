"""Reads CSV, TSV, JSON lines and text as Arrow tables.

The fields of CSV and TSV are strings; an empty one, apart from the text, is null. A field of JSON lines has the type
of all its values: Boolean, integer, float or string, or a list of these. Objects, and values of several types, become
their JSON text. Integers together with floats are floats, unless one of the integers is beyond 2^53 and would change;
then all become their JSON text. So a file of JSON lines is read twice, first for the types.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sentenc.errors import TextFileError
from sentenc.io.columns import checked_columns, json_kind
from sentenc.io.records import CHARACTERS_PER_FIELD, TEXT_FIELDS, likely_text_field
from sentenc.io.tables import Table, open_table
from sentenc.io.text import Malformed, open_text
from sentenc.texts import replace_lone_surrogates

_ROWS_PER_TABLE = 8192
_CHARACTERS_PER_TABLE = 1 << 24
_TEXT = "text"
# Types of values of JSON: of null, and of values that are stored as JSON text. A list has the type of its items after
# the prefix.
_NULL, _STRING, _INTEGER, _FLOAT, _JSON = "null", "string", "integer", "float", "JSON"
# The type of integers one of which is no float.
_LARGE = "large integer"
_LARGEST_IN_FLOAT = 2**53
_LIST = "list of "

# Numbers of lines, and the values by field.
Rows = Iterator[tuple[int, dict[str, Any]]]


@contextmanager
def open_records(
    path: str, name: str, kind: str, text: str | None, columns: Sequence[str] | None
) -> Iterator[tuple[Any, str, Iterator[Any]]]:
    """Opens a file that is not Parquet.

    Args:
        path: The file on this machine.
        name: Its path or address for messages.
        kind: One of ``sentenc.io.FORMATS``.
        text: The column of texts; by default the likeliest.
        columns: The columns to keep, by default all. That of the texts is read in any case.

    Yields:
        The schema, the name of the column of texts, and tables of at most some thousand rows.

    Raises:
        TextFileError: The file does not have its format, or lacks a column. While reading, with the line.
    """
    if kind == "text":
        if text not in (None, _TEXT):
            raise TextFileError(
                f"{name} is read as plain text, which has no field {text!r}: choose its format (format, --format)"
            )
        checked_columns(name, [_TEXT], columns)
        with open_text(path) as lines:
            numbered = ((number, {_TEXT: line}) for number, line in enumerate(lines, 1))
            yield _opened(name, {_TEXT: _STRING}, _TEXT, numbered)
        return
    csv.field_size_limit(CHARACTERS_PER_FIELD)
    types: dict[str, str] = {}
    if kind == "jsonl":
        with open_table(path, format=kind) as table:
            types = _types_of(_checked_rows(name, table))
    with open_table(path, format=kind) as table:
        if table.columns is not None:
            types = dict.fromkeys(table.columns, _STRING)
        rows = _checked_rows(name, table)
        text = text or _likely_text(name, types)
        # A file without a header and without rows does not state its columns.
        types = types or dict.fromkeys([*(columns or ()), text], _STRING)
        checked_columns(name, list(types), [*(columns or ()), text])
        if kind != "jsonl":
            rows = _without_empty(rows, text)
        kept = list(types) if columns is None else list(dict.fromkeys([*columns, text]))
        yield _opened(name, {field: types[field] for field in kept}, text, rows)


def _likely_text(name: str, types: dict[str, str]) -> str:
    if not types:
        return _TEXT
    named = [field for field in types if field.lower() in TEXT_FIELDS]
    # A text that is null in all rows is a text nevertheless.
    strings = [
        field for field, kind in types.items() if kind == _STRING or (kind == _NULL and field in named)
    ]
    # If a text is a number in some rows, the error names the first of them.
    strings = strings or [field for field in named if types[field] == _JSON]
    return likely_text_field(name, strings, list(types))


def _checked_rows(name: str, table: Table) -> Rows:
    for number, row in table.rows:
        if isinstance(row, Malformed):
            raise TextFileError(f"{name}, line {number}: {row.why}")
        if row is not None:
            yield number, row


def _without_empty(rows: Rows, text: str) -> Rows:
    for number, row in rows:
        yield number, {field: value if value or field == text else None for field, value in row.items()}


def _opened(name: str, types: dict[str, str], text: str, rows: Rows) -> tuple[Any, str, Iterator[Any]]:
    import pyarrow as pa

    types[text] = _STRING
    schema = pa.schema([(field, _arrow_type(kind)) for field, kind in types.items()])

    def tables() -> Iterator[Any]:
        for block in _blocks(name, rows, text):
            columns = [_array([row.get(field) for row in block], kind) for field, kind in types.items()]
            yield pa.table(columns, schema=schema)

    return schema, text, tables()


def _blocks(name: str, rows: Rows, text: str) -> Iterator[list[dict[str, Any]]]:
    block: list[dict[str, Any]] = []
    characters = 0
    for number, row in rows:
        value = row.get(text)
        if value is not None and not isinstance(value, str):
            raise TextFileError(
                f"{name}, line {number}: field {text!r} is {json_kind(value)}, expected a string"
            )
        block.append(row)
        characters += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(block) == _ROWS_PER_TABLE or characters > _CHARACTERS_PER_TABLE:
            yield block
            block, characters = [], 0
    if block:
        yield block


def _types_of(rows: Rows) -> dict[str, str]:
    types: dict[str, str] = {}
    for _, row in rows:
        for field, value in row.items():
            kind = _type_of(value)
            if types.setdefault(field, kind) != kind:
                types[field] = _common_type((types[field], kind))
    return types


def _type_of(value: Any) -> str:
    if value is None:
        return _NULL
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) <= _LARGEST_IN_FLOAT:
            return _INTEGER
        return _LARGE if -(2**63) <= value < 2**63 else _JSON
    if isinstance(value, list):
        item = _common_type(map(_type_of, value))
        return _JSON if item == _JSON or item.startswith(_LIST) else _LIST + item
    return {str: _STRING, float: _FLOAT, bool: "bool"}.get(type(value), _JSON)


def _common_type(kinds: Iterable[str]) -> str:
    common = set(kinds) - {_NULL}
    if len(common) <= 1:
        return next(iter(common), _NULL)
    if all(kind.startswith(_LIST) for kind in common):
        item = _common_type(kind.removeprefix(_LIST) for kind in common)
        return _JSON if item == _JSON else _LIST + item
    if common == {_INTEGER, _LARGE}:
        return _LARGE
    return _FLOAT if common == {_INTEGER, _FLOAT} else _JSON


def _arrow_type(kind: str) -> Any:
    import pyarrow as pa

    if kind.startswith(_LIST):
        return pa.list_(_arrow_type(kind.removeprefix(_LIST)))
    known = {_INTEGER: pa.int64(), _LARGE: pa.int64(), _FLOAT: pa.float64(), "bool": pa.bool_()}
    return known.get(kind, pa.string())


def _array(values: list[Any], kind: str) -> Any:
    import pyarrow as pa

    if kind == _JSON:
        values = [_as_json(value) for value in values]
    elif kind == _FLOAT:
        values = [None if value is None else float(value) for value in values]
    elif kind == _LIST + _FLOAT:
        values = [value and [None if item is None else float(item) for item in value] for value in values]
    try:
        return pa.array(values, _arrow_type(kind))
    except UnicodeEncodeError:
        # Escapes of JSON may be surrogates without a partner.
        return pa.array([_encodable(value) for value in values], _arrow_type(kind))


def _as_json(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _encodable(value: Any) -> Any:
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return replace_lone_surrogates(value) if isinstance(value, str) else value
