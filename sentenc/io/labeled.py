"""What ``fit`` and ``classify`` share: which columns of a file are which, and examples with labels."""

import csv
import itertools
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import click

from sentenc.errors import MissingExtraError, TextFileError
from sentenc.io.record import TEXT_FIELDS, Record
from sentenc.io.records import file_format, open_records
from sentenc.io.text import open_text

# What columns are likely to be called, the likeliest first.
PAIR_COLUMNS = (
    ("text1", "text2"), ("sentence1", "sentence2"), ("sentence_a", "sentence_b"), ("premise", "hypothesis"),
    ("question1", "question2"),
)  # fmt: skip
TEXT_COLUMNS = (*TEXT_FIELDS, "message", "utterance", "review", "comment", "tweet", "description")
LABEL_COLUMNS = ("label", "labels", "category", "intent", "class", "target", "topic", "sentiment")
SCORE_COLUMNS = ("score", "similarity", "relatedness_score", "rating")
# More rows without a text or a label than this share are a sign that something is wrong.
_MOST_EMPTY = 0.01


class Columns(NamedTuple):
    """Names of the columns.

    Attributes:
        text: The text, or the first of a pair.
        text2: The second of a pair.
        label: The label or the score; None where nothing is to be learnt.
        is_score: The label is a number.
    """

    text: str
    text2: str | None
    label: str | None
    is_score: bool


class Examples(NamedTuple):
    """Texts with their labels.

    Attributes:
        texts: Texts, or pairs of texts.
        labels: A label each: str, int or bool, a list of them, or a float.
        places: File and line of each.
        n_empty: Rows that had no text or no label, and were left out.
    """

    texts: list[Any]
    labels: list[Any]
    places: list[str]
    n_empty: int


def column_names(path: str, format: str | None) -> list[str]:
    """The columns of a file: of its header or schema, or of its first object; none for plain text.

    Raises:
        TextFileError: The first line cannot be read.
        MissingExtraError: pyarrow is not installed.
    """
    kind = format or file_format(path)
    if kind == "text":
        return []
    if kind == "parquet":
        try:
            import pyarrow.parquet as pq
        except ImportError as error:
            raise MissingExtraError("parquet", "pyarrow", "reading Parquet") from error
        try:
            return list(pq.read_schema(path).names)
        except (ValueError, OSError) as error:
            raise TextFileError(f"{path}: not a Parquet file: {error}") from error
    with open_text(path, keep_ends=True) as lines:
        if kind == "jsonl":
            first = next((line for line in lines if not line.isspace()), "{}")
            try:
                row = json.loads(first)
            except ValueError as error:
                raise TextFileError(f"{path}, line 1: not JSON: {error}") from error
            return list(row) if isinstance(row, dict) else []
        try:
            rows = csv.reader(lines, delimiter="," if kind == "csv" else "\t", strict=True)
            return next((row for row in rows if row), [])
        except csv.Error as error:
            raise TextFileError(f"{path}, line 1: bad CSV: {error}") from error


def choose_columns(
    path: str,
    names: Sequence[str],
    *,
    text: str | None = None,
    text2: str | None = None,
    label: str | None = None,
    score: str | None = None,
    needs_label: bool = True,
    pairs: bool | None = None,
) -> Columns:
    """Which columns are which: those that are named, and the obvious ones for the rest.

    Args:
        path: Of the file, for messages.
        names: Its columns.
        text: Named by the user; so are ``text2``, ``label`` and ``score``.
        text2: The second text of a pair.
        label: The label.
        score: The score: it makes a number of the label.
        needs_label: A label is wanted.
        pairs: Whether the texts are pairs; told from the columns by default.

    Raises:
        click.UsageError: A named column is not there, or it is not plain which one is meant.
    """
    for name in (text, text2, label, score):
        if name is not None and name not in names:
            raise click.UsageError(f"{path} has no column {name!r}, only {_listed(names)}")
    if label is not None and score is not None:
        raise click.UsageError("got --label-column and --score-column, expected one of them")
    if needs_label and label is None and score is None:
        label = _first(names, LABEL_COLUMNS)
        score = _first(names, SCORE_COLUMNS) if label is None else None
        if label is None and score is None:
            raise click.UsageError(
                f"{path}: which column is the label? It has {_listed(names)}: name one (--label-column, --score-column)"
            )
    target = label if score is None else score
    if text2 is not None and text is None:
        raise click.UsageError("got --text2-column, expected --text-column beside it")
    if text is None and pairs is not False:
        text, text2 = _pair(names)
    if pairs and text2 is None:
        raise click.UsageError(
            f"{path}: which columns are the two texts? It has {_listed(names)}: name them (--text-column, --text2-column)"
        )
    text = text or _guessed_text(path, names, target)
    used = [name for name in (text, text2, target) if name is not None]
    if twice := [name for name in used if used.count(name) > 1]:
        raise click.UsageError(f"column {twice[0]!r} is named twice, expected different ones")
    return Columns(text, text2, target, score is not None)


def _guessed_text(path: str, names: Sequence[str], target: str | None) -> str:
    # Files to classify often have the labels in them still.
    learnt = target or _first(names, LABEL_COLUMNS)
    others = [name for name in names if name != learnt]
    text = _first(others, TEXT_COLUMNS) or (others[0] if len(others) == 1 else None)
    if text is None:
        raise click.UsageError(
            f"{path}: which column is the text? It has {_listed(names)}: name one (--text-column)"
        )
    return text


def read_examples(
    files: Sequence[str],
    columns: Columns,
    *,
    format: str | None,
    separator: str | None,
    skip_empty: bool,
    quiet: bool,
) -> Examples:
    """Reads texts and labels; they are all in memory afterwards.

    Labels of CSV are strings, numbers too; white space around a label is dropped. Rows whose text or label
    is empty are left out and counted; where a separator says that there may be several labels, an empty one
    means that there is none.

    Raises:
        TextFileError: A label is not what it should be, or more than 1 % of the rows lack something and
            ``skip_empty`` does not allow it; with file and line.
    """
    for path in files:
        missing = [
            name for name in columns[:3] if name is not None and name not in column_names(path, format)
        ]
        if missing:
            raise TextFileError(
                f"{path} has no column {missing[0]!r}, only {_listed(column_names(path, format))}"
            )
    examples = Examples([], [], [], 0)
    n_empty, first_empty, kind = 0, "", None
    with open_records(tuple(files), "reading", quiet, text_field=columns.text, format=format) as records:
        for record in records:
            place = f"{record.path}:{record.line}"
            texts, label = _example(record, columns, separator)
            lacking = [name for name, value in texts if not value.strip()]
            lacking += [columns.label or ""] if label is None else []
            if lacking:
                n_empty += 1
                first_empty = first_empty or f"{record.path}, line {record.line}: {lacking[0]!r} is empty"
                continue
            kind = _same_kind(label, kind, record)
            examples.texts.append(texts[0][1] if len(texts) == 1 else tuple(value for _, value in texts))
            examples.labels.append(label)
            examples.places.append(place)
    n_rows = n_empty + len(examples.texts)
    if n_empty > _MOST_EMPTY * n_rows and not skip_empty:
        raise TextFileError(
            f"{first_empty}, and so in {n_empty:,} of {n_rows:,} rows, which is more than 1 %: "
            "correct them, or leave them out with --skip-empty"
        )
    return examples._replace(n_empty=n_empty)


def texts_of(record: Record, columns: Columns) -> list[tuple[str, str]]:
    """The column and the text of each text of a record."""
    texts = [(columns.text, record.text)]
    if columns.text2 is not None:
        value = (record.payload or {}).get(columns.text2, "")
        if not isinstance(value, str):
            raise TextFileError(
                f"{record.path}, line {record.line}: {columns.text2!r} is {type(value).__name__} ({value!r}), expected a string"
            )
        texts.append((columns.text2, value))
    return texts


def _example(record: Record, columns: Columns, separator: str | None) -> tuple[list[tuple[str, str]], Any]:
    value = (record.payload or {}).get(columns.label or "")
    where = f"{record.path}, line {record.line}: {columns.label!r} is"
    if columns.is_score:
        return texts_of(record, columns), None if value in (None, "") else _number(value, where)
    if separator is not None and (value is None or isinstance(value, str)):
        parts = [part.strip() for part in (value or "").split(separator)]
        return texts_of(record, columns), list(dict.fromkeys(filter(None, parts)))
    if isinstance(value, str):
        return texts_of(record, columns), value.strip() or None
    items = value if isinstance(value, list) else [value]
    if not all(item is None or isinstance(item, str | int) for item in items):
        raise TextFileError(
            f"{where} {type(value).__name__} ({value!r}), expected a label: a string or an integer"
        )
    return texts_of(record, columns), list(dict.fromkeys(value)) if isinstance(value, list) else value


def _number(value: Any, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool | list | dict) else float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise TextFileError(f"{where} {value!r}, expected a number")
    return number


def _same_kind(label: Any, kind: type | None, record: Record) -> type | None:
    for item in label if isinstance(label, list) else [label]:
        if kind is not None and type(item) is not kind:
            raise TextFileError(
                f"{record.path}, line {record.line}: the label {item!r} is {type(item).__name__}, "
                f"expected {kind.__name__} as in the lines before"
            )
        kind = type(item)
    return kind


def _first(names: Iterable[str], likely: Iterable[str]) -> str | None:
    spelt = {name.lower(): name for name in reversed(list(names))}
    return next((spelt[name] for name in likely if name in spelt), None)


def _pair(names: Sequence[str]) -> tuple[str | None, str | None]:
    for one, other in PAIR_COLUMNS:
        found = _first(names, [one]), _first(names, [other])
        if None not in found:
            return found
    return None, None


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, itertools.islice(names, 20)))
    return (
        shown + (", ..." if len(names) > 20 else "")
    ) or "no columns (it is read as plain text: see --format)"
