"""Reads search tasks in BEIR's layout: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``.

Source: Thakur et al. 2021, "BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation of Information Retrieval
Models". A document is its title and its text, joined by a space.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sentenc.errors import DataError, TextFileError
from sentenc.evaluation.readers import Classes, Examples, read_lines
from sentenc.io.tables import open_table
from sentenc.io.text import Malformed
from sentenc.metrics.ranking import Grades

CORPUS, QUERIES, QRELS = "corpus.jsonl", "queries.jsonl", "qrels"
# The split that is read if a folder has several and none is chosen: the first of these that exists.
_DEFAULT_SPLITS = ("test", "dev")


@dataclass(frozen=True, eq=False, kw_only=True)
class Documents(Examples):
    """The documents of a search task; ``targets`` is empty.

    Attributes:
        ids: The n distinct ids.
    """

    ids: tuple[str, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Queries(Documents):
    """The judged queries of a search task, with their ids.

    Attributes:
        grades: For each query the grades of its judged documents, by the ids of the documents.
    """

    grades: tuple[Grades, ...]


def is_beir_folder(path: Path) -> bool:
    """Returns whether a path is a folder with a ``corpus.jsonl``."""
    return (path / CORPUS).is_file()


def judgments_file(folder: Path, split: str | None = None) -> Path:
    """Returns the file of judgments of a split.

    Args:
        folder: A folder in BEIR's layout.
        split: The split; by default ``test``, ``dev`` if there is no ``test``, or else the only one.

    Raises:
        DataError: There is no such file, or the choice is not clear; the message lists the splits.
    """
    splits = sorted(path.stem for path in (folder / QRELS).glob("*.tsv"))
    if split is None:
        split = next((name for name in _DEFAULT_SPLITS if name in splits), None)
        split = splits[0] if split is None and len(splits) == 1 else split
    if split not in splits:
        wanted = f"split is {split!r}" if split is not None else "split is not given"
        present = f"expected one of {', '.join(splits)}" if splits else f"expected {QRELS}/SPLIT.tsv files"
        raise DataError(f"{folder}: {wanted}, {present}")
    return folder / QRELS / f"{split}.tsv"


def read_documents(paths: Sequence[Path], encoding: str, classes: Classes) -> Documents:
    """Reads ``corpus.jsonl``: ``_id``, ``text`` and optionally ``title``; other fields are ignored.

    A document may be empty: its vector is that of an empty text.

    Raises:
        DataError: The file is missing or malformed, or an id occurs twice.
    """
    texts: dict[str, str] = {}
    for number, name, row in _rows(paths[0], encoding, texts):
        title = row.get("title")
        if title is not None and not isinstance(title, str):
            raise DataError(f"{paths[0]}, line {number}: title is {title!r}, expected a string")
        texts[name] = f"{title or ''} {_text(paths[0], number, row)}".strip()
    return Documents(list(texts.values()), None, np.zeros(0), ids=tuple(texts))


def read_queries(paths: Sequence[Path], encoding: str, classes: Classes) -> Queries:
    """Reads ``queries.jsonl`` and a file of judgments; queries without a judgment are left out.

    Raises:
        DataError: A file is missing or malformed, an id occurs twice, or a judged query has no text.
    """
    texts: dict[str, str] = {}
    for number, name, row in _rows(paths[0], encoding, texts):
        texts[name] = _text(paths[0], number, row).strip()
    judgments = read_judgments(paths[1], encoding)
    unknown = next((name for name in judgments if name not in texts), None)
    if unknown is not None:
        raise DataError(f"{paths[1]}: the judged query {unknown!r} is not in {paths[0]}")
    chosen = [texts[name] for name in judgments]
    return Queries(chosen, None, np.zeros(0), ids=tuple(judgments), grades=tuple(judgments.values()))


def read_judgments(path: Path, encoding: str = "utf-8") -> dict[str, dict[str, int]]:
    """Reads ``query-id<TAB>corpus-id<TAB>score`` lines, with or without a header.

    Returns:
        The grades of each query by document, queries in the order of the file. A repeated line counts once.

    Raises:
        DataError: The file is missing or malformed, or two lines grade a document differently.
    """
    judgments: dict[str, dict[str, int]] = {}
    for number, line in enumerate(read_lines(path, encoding), 1):
        fields = [field.strip() for field in line.split("\t")]
        if fields == [""]:
            continue
        if len(fields) != 3:
            raise DataError(
                f"{path}, line {number}: {len(fields)} tab-separated columns, "
                "expected query-id, corpus-id and score"
            )
        query, document, grade = fields
        try:
            value = int(grade)
        except ValueError:
            if number == 1 and grade and not any(map(str.isdigit, grade)):
                continue
            raise DataError(f"{path}, line {number}: score is {grade!r}, expected a whole number") from None
        grades = judgments.setdefault(query, {})
        if grades.setdefault(document, value) != value:
            raise DataError(
                f"{path}, line {number}: score of document {document!r} for query {query!r} is {value}, "
                f"but {grades[document]} in a line before"
            )
    return judgments


def _rows(path: Path, encoding: str, seen: dict[str, str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yields the line number, the id and the fields of each row; ``seen`` contains the ids so far."""
    try:
        with open_table(str(path), format="jsonl", encoding=encoding) as table:
            for number, row in table.rows:
                if row is None:
                    continue
                if isinstance(row, Malformed):
                    raise DataError(f"{path}, line {number}: {row.why}")
                name = row.get("_id")
                if isinstance(name, bool) or not isinstance(name, str | int):
                    raise DataError(f"{path}, line {number}: _id is {name!r}, expected a string")
                if str(name) in seen:
                    raise DataError(f"{path}, line {number}: _id {name!r} is in a line before")
                yield number, str(name), row
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except TextFileError as error:
        raise DataError(str(error)) from error


def _text(path: Path, number: int, row: dict[str, Any]) -> str:
    text = row.get("text")
    if not isinstance(text, str):
        raise DataError(f"{path}, line {number}: text is {text!r}, expected a string")
    return text
