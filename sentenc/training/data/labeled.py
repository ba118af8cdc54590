"""Labeled examples of a task: reading from tables, and the task's metrics."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from sentenc.errors import TextFileError
from sentenc.io.compression import without_compression
from sentenc.io.formats import file_format
from sentenc.io.tables import open_columns
from sentenc.io.text import Malformed
from sentenc.metrics import spearman
from sentenc.training.data.examples import Example

Metric = Literal["accuracy", "f1", "matthews", "spearman"]
FloatArray = npt.NDArray[np.float32]
# Separates the two texts of a pair, which contain no tabs.
SEPARATOR = "\t"


class TaskFormat(Protocol):
    """The columns and labels of a task's files, as in the section ``[task]`` of a run file."""

    @property
    def text(self) -> tuple[str, ...]:
        """The names of one or two columns of texts."""

    @property
    def label(self) -> str:
        """The name of the column of labels."""

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names of all columns, for files without a header."""

    @property
    def is_regression(self) -> bool:
        """Whether labels are scores."""


@dataclass(frozen=True)
class TaskData:
    """Examples and their targets.

    Attributes:
        examples: n examples of one or two texts, without tabs and line ends.
        targets: The indices of the classes (n,) int64, or the scores (n,) float64.
        labels: The names of the classes in order; empty for scores.
    """

    examples: list[Example]
    targets: npt.NDArray[Any]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.examples)

    @property
    def texts(self) -> list[str]:
        """The examples as single texts, with a tab between the two texts of a pair."""
        return [joined(example) for example in self.examples]

    @property
    def outputs(self) -> int:
        """The number of logits that a model of the task computes."""
        return len(self.labels) or 1

    def gold(self) -> tuple[list[str], FloatArray]:
        """Returns the distinct texts (m,) and their gold targets (m, outputs).

        Targets are one-hot rows, or scores. A text that occurs several times has the mean of its targets. The
        gradients of cross-entropy and squared error are then the mean of the gradients of its occurrences.
        """
        targets = self.targets[:, None].astype(np.float64)
        if self.labels:
            targets = np.eye(len(self.labels))[self.targets]
        indices: dict[str, list[int]] = {}
        for index, text in enumerate(self.texts):
            indices.setdefault(text, []).append(index)
        means = np.stack([targets[of_text].mean(0) for of_text in indices.values()])
        return list(indices), means.astype(np.float32)

    def fingerprint(self) -> str:
        """Returns a short hash of texts, targets and labels."""
        sha = hashlib.sha256(repr(self.labels).encode())
        sha.update(np.ascontiguousarray(self.targets).tobytes())
        for text in self.texts:
            sha.update(text.encode("utf-8", "surrogatepass") + b"\n")
        return sha.hexdigest()[:16]

    def sample(self, limit: int, seed: int) -> "TaskData":
        """Returns at most ``limit`` random examples in their original order, or all examples for 0."""
        if not 0 < limit < len(self):
            return self
        rows = np.sort(np.random.default_rng(seed).permutation(len(self))[:limit])
        return TaskData([self.examples[i] for i in rows], self.targets[rows], self.labels)


def joined(example: Example) -> str:
    """Returns an example as one text, with a tab between the two texts of a pair."""
    return SEPARATOR.join(example)


def read_task_data(path: str, task: TaskFormat, labels: Sequence[str] | None = None) -> TaskData:
    """Reads a file of examples.

    :mod:`sentenc.io.tables` states the rules of the formats; TSV has no quotes, as the files of GLUE. White
    space within a text becomes single spaces.

    Args:
        path: TSV, CSV, JSON lines or Parquet by its suffix; ``.txt`` is TSV, and any unknown suffix is CSV.
        task: The names of the columns, and whether labels are scores.
        labels: The classes. By default those in the file: numbers in numerical order, or names in
            alphabetical order.

    Raises:
        TextFileError: A column is missing, or a row is malformed, has no text or an unknown label; the
            message has the line.
        OSError: The file cannot be opened.
    """
    examples: list[Example] = []
    values: list[str] = []
    lines: list[int] = []
    for number, row in _rows(path, task):
        example = tuple(" ".join(text.split()) for text in row[:-1])
        label = row[-1].strip()
        for name, value in (*zip(task.text, example, strict=True), (task.label, label)):
            if not value:
                raise TextFileError(f"{path}, line {number}: {name!r} is empty")
        examples.append(example)
        values.append(label)
        lines.append(number)
    if not examples:
        raise TextFileError(f"{path} has no examples, expected at least one")
    if task.is_regression:
        scores = [_number(path, line, value) for line, value in zip(lines, values, strict=True)]
        return TaskData(examples, np.array(scores), ())
    names = _ordered(values) if labels is None else tuple(labels)
    if len(names) < 2:
        raise TextFileError(f"{path} has only the label {names[0]!r}, expected at least two classes")
    numbers = {name: number for number, name in enumerate(names)}
    for line, value in zip(lines, values, strict=True):
        if value not in numbers:
            raise TextFileError(
                f"{path}, line {line}: the label is {value!r}, expected one of "
                f"{', '.join(map(repr, names[:20]))}"
            )
    return TaskData(examples, np.array([numbers[value] for value in values], np.int64), names)


def task_score(metric: Metric, outputs: FloatArray, targets: npt.NDArray[Any]) -> float:
    """Computes a metric x 100 of outputs (n, C) for classes or scores (n,).

    "f1" is the F1 of the last class. "matthews" is Gorodkin's coefficient for any number of classes. If all
    outputs are equal, their correlation is 0.
    """
    if metric == "spearman":
        if np.ptp(outputs[:, 0]) == 0 or np.ptp(targets) == 0:
            return 0.0
        return 100 * spearman(outputs[:, 0].astype(np.float64), targets)
    guesses, classes = outputs.argmax(axis=1), outputs.shape[1]
    if metric == "accuracy":
        return 100 * float((guesses == targets).mean())
    table = np.bincount(targets * classes + guesses, minlength=classes**2).reshape(classes, classes)
    table = table.astype(np.float64)
    if metric == "f1":
        either = table[-1].sum() + table[:, -1].sum()
        return 100 * float(2 * table[-1, -1] / either) if either else 0.0
    right, gold, guessed, n = table.trace(), table.sum(1), table.sum(0), table.sum()
    scale = math.sqrt((n * n - (gold**2).sum()) * (n * n - (guessed**2).sum()))
    return 100 * float((right * n - gold @ guessed) / scale) if scale else 0.0


def baseline(metric: Metric, data: TaskData) -> float:
    """Returns the score to exceed: that of the most frequent class, or a correlation of 20."""
    if metric == "spearman":
        return 20.0
    most_frequent = np.bincount(data.targets, minlength=data.outputs).argmax()
    constant = np.zeros((len(data), data.outputs), np.float32)
    constant[:, most_frequent] = 1
    return task_score(metric, constant, data.targets)


def _rows(path: str, task: TaskFormat) -> Iterator[tuple[int, list[str]]]:
    # Yields the line of each row that is not blank, and its texts and label.
    kind = file_format(path)
    if kind == "text":
        kind = "tsv" if without_compression(path).lower().endswith(".txt") else "csv"
    names = None if task.columns is None else list(task.columns)
    with ExitStack() as stack:
        try:
            columns = open_columns(path, (*task.text, task.label), format=kind, names=names)
            rows = stack.enter_context(columns)
        except TextFileError as error:
            hint = "for a file without a header, name its columns (task.columns)"
            raise TextFileError(f"{error}; {hint}") from error
        for number, values in rows:
            if isinstance(values, Malformed):
                raise TextFileError(f"{path}, line {number}: {values.why}")
            if values is not None:
                yield number, ["" if value is None else str(value) for value in values]


def _number(path: str, line: int, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise TextFileError(f"{path}, line {line}: the score is {value!r}, expected a finite number")
    return number


def _ordered(values: Sequence[str]) -> tuple[str, ...]:
    names = sorted(set(values))
    return tuple(sorted(names, key=int)) if all(name.isdecimal() for name in names) else tuple(names)
