"""Reads the file formats of SentEval's tasks and of users' own; errors contain the path and the line."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import DataError, TextFileError
from sentenc.io.formats import file_format
from sentenc.io.tables import open_table
from sentenc.io.text import Malformed

Classes = tuple[str, ...]
# Columns of a user's own table: classes of texts, classes of pairs, or scores of pairs.
_LAYOUTS = ({"text", "label"}, {"text1", "text2", "label"}, {"text1", "text2", "score"})
_COLUMNS = frozenset().union(*_LAYOUTS)


@dataclass(frozen=True, eq=False)
class Examples:
    """Labeled texts or labeled pairs of texts, in the order of their file.

    Attributes:
        texts: The n texts, or the first text of each pair.
        partners: The second text of each pair; None for single texts.
        targets: Shape (n,): int64 indices into the task's classes, or float64 gold scores.
    """

    texts: list[str]
    partners: list[str] | None
    targets: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.texts)


Reader = Callable[[Sequence[Path], str, Classes], Examples]


def read_lines(path: Path, encoding: str) -> list[str]:
    """Returns the lines of a file without their line ends.

    Only newlines end a line. ``str.splitlines`` would also split at the characters U+0085 and U+2028 that
    some texts contain, and would shift every label after them.

    Raises:
        DataError: The file is missing, or a byte does not decode.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} does not decode as {encoding}"
        ) from None
    lines = text.removeprefix("\ufeff").split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_one_file_per_class(paths: Sequence[Path], encoding: str, classes: Classes) -> Examples:
    """Reads MR, CR, SUBJ and MPQA: one text per line, and file i contains the class len(paths) - 1 - i.

    SentEval reads the positive file first and labels it 1. Empty lines count: they are examples whose text
    was lost, and every published score includes them.
    """
    texts: list[str] = []
    targets: list[int] = []
    for label, path in zip(range(len(paths) - 1, -1, -1), paths, strict=True):
        lines = read_lines(path, encoding)
        texts += [line.strip() for line in lines]
        targets += [label] * len(lines)
    return Examples(texts, None, np.array(targets, np.int64))


def read_text_tab_label(paths: Sequence[Path], encoding: str, classes: Classes) -> Examples:
    """Reads SST-2: ``text<TAB>label``."""
    return _single(paths[0], encoding, classes, lambda line: line.split("\t")[::-1], "text<TAB>label")


def read_label_space_text(paths: Sequence[Path], encoding: str, classes: Classes) -> Examples:
    """Reads SST-5: ``label<SPACE>text``."""
    return _single(paths[0], encoding, classes, lambda line: line.split(" ", 1), "label<SPACE>text")


def read_trec(paths: Sequence[Path], encoding: str, classes: Classes) -> Examples:
    """Reads TREC: ``COARSE:fine question``; the coarse label is the class."""

    def split(line: str) -> list[str]:
        label, _, rest = line.partition(":")
        return [label, *rest.split(" ", 1)[1:]]

    return _single(paths[0], encoding, classes, split, "COARSE:fine question")


def _single(
    path: Path, encoding: str, classes: Classes, split: Callable[[str], list[str]], layout: str
) -> Examples:
    texts: list[str] = []
    targets: list[int] = []
    for number, line in enumerate(read_lines(path, encoding), 1):
        fields = split(line)
        if len(fields) != 2:
            raise DataError(f"{path}, line {number}: line is {line[:60]!r}, expected {layout!r}")
        targets.append(class_index(fields[0].strip(), classes, path, number))
        texts.append(fields[1].strip())
    return Examples(texts, None, np.array(targets, np.int64))


def read_mrpc(paths: Sequence[Path], encoding: str, classes: Classes) -> Examples:
    """Reads MRPC: a header, then the tab-separated columns ``label, id, id, text, text``."""
    rows = _table(paths[0], encoding, columns=5, header=True)
    targets = [class_index(row[0], classes, paths[0], number) for number, row in rows]
    return _pairs(rows, 3, np.array(targets, np.int64))


def read_sick_entailment(paths: Sequence[Path], encoding: str, classes: Classes) -> Examples:
    """Reads SICK-E: a header, then the tab-separated columns ``id, text, text, relatedness, entailment``."""
    rows = _table(paths[0], encoding, columns=5, header=True)
    targets = [class_index(row[4], classes, paths[0], number) for number, row in rows]
    return _pairs(rows, 1, np.array(targets, np.int64))


def read_sick_relatedness(paths: Sequence[Path], encoding: str, classes: Classes) -> Examples:
    """Reads SICK-R from the files of SICK-E; the target is the relatedness, 1 to 5."""
    rows = _table(paths[0], encoding, columns=5, header=True)
    return _pairs(rows, 1, _scores(paths[0], [(number, row[3]) for number, row in rows]))


def read_sts_benchmark(paths: Sequence[Path], encoding: str, classes: Classes) -> Examples:
    """Reads STS Benchmark: tab-separated ``genre, file, year, id, score, text, text``, no header."""
    rows = _table(paths[0], encoding, columns=7, header=False)
    return _pairs(rows, 5, _scores(paths[0], [(number, row[4]) for number, row in rows]))


def read_sts_input_and_gold(paths: Sequence[Path], encoding: str, classes: Classes) -> Examples:
    """Reads STS 2012 to 2016: a file of ``text<TAB>text`` and a file with one score per line.

    Pairs with an empty score were never annotated (2015 and 2016) and are left out.
    """
    inputs, gold_path = paths
    rows = _table(inputs, encoding, columns=2, header=False)
    gold = read_lines(gold_path, encoding)
    if len(gold) != len(rows):
        raise DataError(f"{gold_path}: {len(gold)} lines, expected {len(rows)} as in {inputs.name}")
    scored = [index for index, value in enumerate(gold) if value.strip()]
    scores = _scores(gold_path, [(index + 1, gold[index]) for index in scored])
    return _pairs([rows[index] for index in scored], 0, scores)


def read_probing(paths: Sequence[Path], encoding: str, classes: Classes, part: str) -> Examples:
    """Reads one part (tr, va or te) of a probing task from a file of ``part<TAB>label<TAB>text``."""
    path = paths[0]
    rows = _table(path, encoding, columns=3, header=False)
    for number, row in rows:
        if row[0] not in ("tr", "va", "te"):
            raise DataError(f"{path}, line {number}: part is {row[0]!r}, expected 'tr', 'va' or 'te'")
    # The classes are the labels of the training lines.
    known = classes or tuple(sorted({row[1] for _, row in rows if row[0] == "tr"}))
    chosen = [(number, row) for number, row in rows if row[0] == part]
    targets = [class_index(row[1], known, path, number) for number, row in chosen]
    return Examples([row[2].strip() for _, row in chosen], None, np.array(targets, np.int64))


def read_columns(paths: Sequence[Path], encoding: str, classes: Classes) -> Examples:
    """Reads a user's own CSV, TSV, JSON lines or Parquet file.

    Its columns are ``text,label``, ``text1,text2,label`` or ``text1,text2,score``.
    """
    path = paths[0]
    names, rows = read_table(path, encoding)
    if "score" in names:
        targets: npt.NDArray[Any] = _scores(path, [(number, row["score"]) for number, row in rows])
    else:
        labels = [class_index(row["label"].strip(), classes, path, number) for number, row in rows]
        targets = np.array(labels, np.int64)
    first, second = ("text1", "text2") if "text1" in names else ("text", None)
    partners = None if second is None else [row[second].strip() for _, row in rows]
    return Examples([row[first].strip() for _, row in rows], partners, targets)


def read_table(path: Path, encoding: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Reads a CSV or TSV with a header, JSON lines or Parquet; a file with any other suffix is CSV.

    Returns:
        The names of the columns in lower case, and the values of each row by column, together with the number
        of the line where the row begins. The columns of JSON lines are the keys of the first object.

    Raises:
        DataError: The file is missing or malformed, or has no columns of an evaluation task.
    """
    try:
        kind = file_format(str(path))
        kind = "csv" if kind == "text" else kind
        with open_table(str(path), format=kind, encoding=encoding) as table:
            names = None if table.columns is None else _column_names(path, table.columns)
            rows: list[tuple[int, dict[str, str]]] = []
            for number, row in table.rows:
                if isinstance(row, Malformed):
                    raise DataError(f"{path}, {table.unit} {number}: {row.why}")
                if row is not None:
                    names = _column_names(path, row) if names is None else names
                    rows.append((number, _cells(path, number, names, row)))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except TextFileError as error:
        raise DataError(str(error)) from error
    return names or [], rows


def _column_names(path: Path, columns: Iterable[str]) -> list[str]:
    names = [name.lower() for name in columns]
    if not any(layout <= set(names) for layout in _LAYOUTS) or len(set(names)) != len(names):
        raise DataError(
            f"{path}, line 1: columns are {','.join(names)}, "
            "expected text,label or text1,text2,label or text1,text2,score"
        )
    return names


def _cells(path: Path, number: int, names: Sequence[str], row: Mapping[str, Any]) -> dict[str, str]:
    """Returns the cells of a task as text. In JSON lines, a label and a score may be numbers."""
    values = {name.lower(): value for name, value in row.items()}
    cells: dict[str, str] = {}
    for name in names:
        value = values.get(name)
        if isinstance(value, str):
            cells[name] = value
        elif name in ("label", "score") and isinstance(value, int | float) and not isinstance(value, bool):
            cells[name] = str(value)
        elif name in _COLUMNS:
            raise DataError(f"{path}, line {number}: {name} is {value!r}, expected text")
    return cells


def class_index(label: str, classes: Classes, path: Path, line: int) -> int:
    """Returns the index of a label, or raises a ``DataError`` with the path and the line."""
    try:
        return classes.index(label)
    except ValueError:
        raise DataError(f"{path}, line {line}: label is {label!r}, expected one of {_few(classes)}") from None


def _few(classes: Classes) -> str:
    shown = ", ".join(map(repr, classes[:10]))
    return shown if len(classes) <= 10 else f"{shown} and {len(classes) - 10} more"


def _table(path: Path, encoding: str, columns: int, header: bool) -> list[tuple[int, list[str]]]:
    rows: list[tuple[int, list[str]]] = []
    for number, line in enumerate(read_lines(path, encoding), 1):
        if header and number == 1:
            continue
        fields = line.split("\t")
        if len(fields) < columns:
            raise DataError(f"{path}, line {number}: {len(fields)} tab-separated columns, expected {columns}")
        rows.append((number, fields))
    return rows


def _pairs(rows: Sequence[tuple[int, list[str]]], first: int, targets: npt.NDArray[Any]) -> Examples:
    texts = [row[first].strip() for _, row in rows]
    return Examples(texts, [row[first + 1].strip() for _, row in rows], targets)


def _scores(path: Path, values: Sequence[tuple[int, str]]) -> npt.NDArray[np.float64]:
    scores = np.empty(len(values))
    for index, (number, value) in enumerate(values):
        try:
            scores[index] = float(value)
        except ValueError:
            scores[index] = np.nan
        if not np.isfinite(scores[index]):
            raise DataError(f"{path}, line {number}: score is {value!r}, expected a number")
    return scores
