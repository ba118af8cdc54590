"""Reader of labeled texts and pairs of texts from the columns of tables."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from sentenc.errors import TextFileError
from sentenc.io.columns import listed
from sentenc.io.formats import file_format
from sentenc.io.records import Record, open_records
from sentenc.io.tables import open_table
from sentenc.io.text import Malformed

# If a greater share of the rows has no text or no label, something is wrong with the file.
_MAX_EMPTY_SHARE = 0.01
_NO_ROW_OF_A_MATRIX = "expected a list of the text's labels, not a row of a matrix of 0 and 1"


class Columns(NamedTuple):
    """Names of the columns of labeled texts.

    Attributes:
        text: The text, or the first of a pair.
        text2: The second text of a pair; None if the texts are single.
        label: The label or the score; None if only texts are read.
        is_score: Whether the label is a number.
    """

    text: str
    text2: str | None
    label: str | None
    is_score: bool


class Examples(NamedTuple):
    """Texts with their labels.

    Attributes:
        texts: Texts, or pairs of texts.
        labels: One label per text: str, int or bool, a list of them, or a float.
        places: File and line of each text, ``file:line``.
        n_empty: Number of rows that were left out because they have no text or no label.
    """

    texts: list[Any]
    labels: list[Any]
    places: list[str]
    n_empty: int


def column_names(path: str, format: str | None) -> list[str]:
    """Returns the columns in the header, schema or first JSON object of a file; [] for plain text.

    Raises:
        TextFileError: The header, schema or first object cannot be read.
        MissingExtraError: The file is Parquet, and pyarrow is not installed.
    """
    kind = format or file_format(path)
    if kind == "text":
        return []
    with open_table(path, format=kind) as table:
        if table.columns is not None:
            return list(table.columns)
        for number, row in table.rows:
            if isinstance(row, Malformed):
                raise TextFileError(f"{path}, line {number}: {row.why}")
            if row is not None:
                return list(row)
    return []


def read_examples(
    files: Sequence[str],
    columns: Columns,
    *,
    format: str | None,
    separator: str | None,
    skip_empty: bool,
    quiet: bool,
) -> Examples:
    """Reads texts and labels into memory.

    Labels of CSV and TSV are strings, even if they are digits. White space around a label is removed. Rows
    with an empty text or label are left out and counted.

    Args:
        files: Tables that have the columns.
        columns: Columns of the texts and the label.
        format: Format of all files; by default that of the suffix of each.
        separator: Separator of labels, for rows with several; an empty label then means no labels.
        skip_empty: Accept any number of rows without a text or a label.
        quiet: Draw no progress bar.

    Raises:
        TextFileError: A column is missing, a label has the wrong type, a list is a row of a matrix of 0 and 1, or
            more than 1 % of the rows have no text or no label and ``skip_empty`` is False; with file and line.
    """
    needed = [name for name in columns[:3] if name is not None]
    for path in files:
        names = column_names(path, format)
        if missing := [name for name in needed if name not in names]:
            columns_of_file = listed(names, empty="none (it is read as plain text)")
            raise TextFileError(f"{path} has no column {missing[0]!r}, only {columns_of_file}")
    examples = Examples([], [], [], 0)
    places_of_empty: list[str] = []
    label_type = None

    def leave_out(place: str, _: bool = False) -> bool:
        places_of_empty.append(place)
        return True

    with open_records(
        tuple(files),
        "reading",
        quiet,
        text_field=columns.text,
        format=format,
        on_empty=leave_out,
    ) as records:
        for record in records:
            texts, label = _example(record, columns, separator)
            empty = [name for name, value in texts if not value.strip()]
            if label is None:
                empty.append(columns.label or "")
            if empty:
                leave_out(f"{record.path}, line {record.line}: {empty[0]!r} is empty")
                continue
            label_type = _same_type(label, label_type, record)
            examples.texts.append(texts[0][1] if len(texts) == 1 else tuple(value for _, value in texts))
            examples.labels.append(label)
            examples.places.append(f"{record.path}:{record.line}")
    if examples.labels and all(isinstance(label, list) and set(label) == {0, 1} for label in examples.labels):
        # Each label would be that of all texts.
        raise TextFileError(
            f"{', '.join(files)}: all of {columns.label!r} are lists of 0 and 1, {_NO_ROW_OF_A_MATRIX}"
        )
    n_empty = len(places_of_empty)
    n_rows = n_empty + len(examples.texts)
    if n_empty > _MAX_EMPTY_SHARE * n_rows and not skip_empty:
        raise TextFileError(
            f"{places_of_empty[0]}; {n_empty:,} of {n_rows:,} rows have an empty text or label, "
            "which is more than 1 %: correct them, or leave them out with --skip-empty"
        )
    return examples._replace(n_empty=n_empty)


def texts_of(record: Record, columns: Columns) -> list[tuple[str, str]]:
    """Returns the column and the text of each text of a record: one, or the two of a pair.

    Raises:
        TextFileError: The second text is not a string.
    """
    texts = [(columns.text, record.text)]
    if columns.text2 is not None:
        value = (record.payload or {}).get(columns.text2, "")
        if not isinstance(value, str):
            raise TextFileError(
                f"{record.path}, line {record.line}: {columns.text2!r} is {type(value).__name__} "
                f"({value!r}), expected a string"
            )
        texts.append((columns.text2, value))
    return texts


def _example(record: Record, columns: Columns, separator: str | None) -> tuple[list[tuple[str, str]], Any]:
    texts = texts_of(record, columns)
    value = (record.payload or {}).get(columns.label or "")
    place = f"{record.path}, line {record.line}: {columns.label!r} is"
    if columns.is_score:
        return texts, None if value in (None, "") else _number(value, place)
    if separator is not None and (value is None or isinstance(value, str)):
        parts = [part.strip() for part in (value or "").split(separator)]
        return texts, list(dict.fromkeys(filter(None, parts)))
    if isinstance(value, str):
        return texts, value.strip() or None
    items = value if isinstance(value, list) else [value]
    if not all(item is None or isinstance(item, str | int) for item in items):
        raise TextFileError(
            f"{place} {type(value).__name__} ({value!r}), expected a label: a string or an integer"
        )
    if len(set(items)) < len(items) and set(items) <= {0, 1}:
        raise TextFileError(f"{place} {value!r}, which contains a label twice, {_NO_ROW_OF_A_MATRIX}")
    return texts, list(dict.fromkeys(value)) if isinstance(value, list) else value


def _number(value: Any, place: str) -> float:
    try:
        number = math.nan if isinstance(value, bool | list | dict) else float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise TextFileError(f"{place} {value!r}, expected a number")
    return number


def _same_type(label: Any, label_type: type | None, record: Record) -> type | None:
    for item in label if isinstance(label, list) else [label]:
        if label_type is not None and type(item) is not label_type:
            raise TextFileError(
                f"{record.path}, line {record.line}: the label {item!r} is {type(item).__name__}, "
                f"expected {label_type.__name__} as in the lines before"
            )
        label_type = type(item)
    return label_type
