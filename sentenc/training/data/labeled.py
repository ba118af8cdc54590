"""Examples of a task with their labels: read from TSV or CSV, and scored by the task's metric."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import TextFileError
from sentenc.io.formats import file_format
from sentenc.io.tables import open_columns
from sentenc.io.text import Malformed
from sentenc.metrics import spearman
from sentenc.training.config.task_distillation import Metric, TaskConfig

Example = tuple[str, ...]
FloatArray = npt.NDArray[np.float32]
# Between the two texts of a pair, which have no tabs themselves.
SEPARATOR = "\t"


@dataclass(frozen=True)
class TaskData:
    """Examples and their targets.

    Attributes:
        examples: One or two texts each, without tabs or line ends.
        targets: Number of the class (n,) int64, or the score (n,) float64.
        labels: Names of the classes in order; none for scores.
    """

    examples: list[Example]
    targets: npt.NDArray[Any]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.examples)

    @property
    def texts(self) -> list[str]:
        """Examples as single texts, the two of a pair with a tab between them."""
        return [joined(example) for example in self.examples]

    @property
    def outputs(self) -> int:
        """Logits that a model of the task has."""
        return len(self.labels) or 1

    def gold(self) -> tuple[list[str], FloatArray]:
        """Distinct texts (m,) and what to learn for each, (m, outputs).

        One-hot rows, or scores; the mean of them where a text stands there several times: cross-entropy and
        squared error then have the gradient that each of them would give on average.
        """
        rows = self.targets[:, None].astype(np.float64)
        if self.labels:
            rows = np.eye(len(self.labels))[self.targets]
        places: dict[str, list[int]] = {}
        for place, text in enumerate(self.texts):
            places.setdefault(text, []).append(place)
        means = np.stack([rows[found].mean(0) for found in places.values()])
        return list(places), means.astype(np.float32)

    def fingerprint(self) -> str:
        """A short hash of texts, targets and labels."""
        sha = hashlib.sha256(repr(self.labels).encode())
        sha.update(np.ascontiguousarray(self.targets).tobytes())
        for text in self.texts:
            sha.update(text.encode("utf-8", "surrogatepass") + b"\n")
        return sha.hexdigest()[:16]

    def sample(self, limit: int, seed: int) -> "TaskData":
        """At most so many examples, chosen at random and kept in order; 0 gives all."""
        if not 0 < limit < len(self):
            return self
        rows = np.sort(np.random.default_rng(seed).permutation(len(self))[:limit])
        return TaskData([self.examples[i] for i in rows], self.targets[rows], self.labels)


def joined(example: Example) -> str:
    """An example as one text: the two of a pair with a tab between them."""
    return SEPARATOR.join(example)


def read_task_data(path: str, task: TaskConfig, labels: Sequence[str] | None = None) -> TaskData:
    """Reads a file of examples.

    :mod:`sentenc.io.tables` states the rules of the formats; TSV has no quotes, as the files of GLUE. White space
    within a text becomes single spaces.

    Args:
        path: TSV, CSV, JSON lines or Parquet by its suffix; ``.txt`` is TSV, and any unknown suffix is CSV.
        task: Names of the columns, and whether labels are scores.
        labels: The classes; by default those that occur, numbers in their order, other names by alphabet.

    Raises:
        TextFileError: A column is missing, or a row is malformed, has no text or an unknown label; with the line.
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
        raise TextFileError(f"{path} has no examples, expected some")
    if task.is_regression:
        scores = [_number(path, line, value) for line, value in zip(lines, values, strict=True)]
        return TaskData(examples, np.array(scores), ())
    names = _ordered(values) if labels is None else tuple(labels)
    if len(names) < 2:
        raise TextFileError(f"{path} has only the label {names[0]!r}, expected two classes or more")
    places = {name: place for place, name in enumerate(names)}
    for line, value in zip(lines, values, strict=True):
        if value not in places:
            raise TextFileError(
                f"{path}, line {line}: the label is {value!r}, expected one of {', '.join(map(repr, names[:20]))}"
            )
    return TaskData(examples, np.array([places[value] for value in values], np.int64), names)


def task_score(metric: Metric, outputs: FloatArray, targets: npt.NDArray[Any]) -> float:
    """A metric x 100 of outputs (n, C) against classes or scores (n,).

    "f1" is that of the last class; "matthews" is Gorodkin's coefficient for any number of classes. Outputs
    that are all the same have a correlation of 0.
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
    """What a model must beat to have learned anything: the commonest class for all, or a correlation of 20."""
    if metric == "spearman":
        return 20.0
    common = np.bincount(data.targets, minlength=data.outputs).argmax()
    constant = np.zeros((len(data), data.outputs), np.float32)
    constant[:, common] = 1
    return task_score(metric, constant, data.targets)


def _rows(path: str, task: TaskConfig) -> Iterator[tuple[int, list[str]]]:
    # The line and the values of the text columns and the label of each row that is not blank.
    kind = file_format(path)
    if kind == "text":
        kind = "tsv" if path.removesuffix(".gz").removesuffix(".xz").endswith(".txt") else "csv"
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
