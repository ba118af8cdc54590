"""Labels as people have them, and the numbers that a head is fitted to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sentenc.texts import as_text_list

LabelType = Literal["str", "int", "float", "bool"]
_TYPES: dict[LabelType, type] = {"str": str, "int": int, "float": float, "bool": bool}


@dataclass(frozen=True, eq=False)
class Labels:
    """The classes of a classifier, and how its labels were given.

    Attributes:
        classes: (K,) sorted.
        multi_label: Whether an example has any number of labels, rather than one.
        indicator: Whether they were given as a matrix of 0 and 1, and are given back as one.
    """

    classes: npt.NDArray[Any]
    multi_label: bool = False
    indicator: bool = False

    def decoded(self, probabilities: npt.NDArray[np.float64]) -> Any:
        """Labels of probabilities (n, K): an array (n,), an indicator matrix (n, K), or a list of tuples."""
        if not self.multi_label:
            return self.classes[probabilities.argmax(axis=1)]
        chosen = probabilities > 0.5
        if self.indicator:
            return chosen.astype(np.int64)
        return [tuple(self.classes[row].tolist()) for row in chosen]

    def encoded(self, y: Any) -> npt.NDArray[np.float32]:
        """Targets (n, K) of labels given as those that were fitted; a label that is none of the classes has no 1."""
        return self._matched(parse_labels(y, self.multi_label))

    def right(self, probabilities: npt.NDArray[np.float64], y: Any) -> npt.NDArray[np.bool_]:
        """Whether what :meth:`decoded` gives for probabilities (n, K) is y, all labels of an example: (n,)."""
        found = parse_labels(y, self.multi_label)
        targets = self._matched(found) > 0.5
        if len(targets) != len(probabilities):
            raise ValueError(
                f"there are {len(probabilities)} examples, and y has {len(targets)}: expected as many of both"
            )
        if not self.multi_label:
            return np.asarray(targets[np.arange(len(targets)), probabilities.argmax(axis=1)])
        # A label that is none of the classes is never predicted.
        known = targets.sum(axis=1) == found.targets.sum(axis=1)
        return np.asarray(((probabilities > 0.5) == targets).all(axis=1) & known)

    def _matched(self, found: "ParsedLabels") -> npt.NDArray[np.float32]:
        if found.indicator != self.indicator:
            raise ValueError("labels are given in another form than those that the classifier was fitted to")
        if self.indicator:
            if found.targets.shape[1] != len(self.classes):
                raise ValueError(f"y has {found.targets.shape[1]} columns, expected {len(self.classes)}")
            return found.targets
        place = {label: column for column, label in enumerate(self.classes.tolist())}
        targets = np.zeros((len(found.targets), len(self.classes)), np.float32)
        for column, label in enumerate(found.classes.tolist()):
            if label in place:
                targets[:, place[label]] = found.targets[:, column]
        return targets

    def to_json(self) -> dict[str, Any]:
        """JSON values that :meth:`from_json` takes."""
        kind = _type_name(self.classes[0]) if len(self.classes) else "str"
        return {
            "type": kind, "classes": self.classes.tolist(), "multi_label": self.multi_label, "indicator": self.indicator,
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Labels":
        """The labels that :meth:`to_json` told.

        Raises:
            KeyError, TypeError, ValueError: They are not what it tells.
        """
        kind, classes = _TYPES[value["type"]], value["classes"]
        flags = value["multi_label"], value["indicator"]
        if type(classes) is not list or any(type(label) is not kind for label in classes):
            raise TypeError(f"classes are {_shown(classes)}, expected a list of {kind.__name__}")
        if any(type(flag) is not bool for flag in flags):
            raise TypeError(f"multi_label and indicator are {flags}, expected true or false")
        if classes != sorted(set(classes)):
            raise ValueError(f"classes are {_shown(classes)}, expected each once, sorted")
        return cls(_array(classes), *flags)


@dataclass(frozen=True, eq=False)
class ParsedLabels(Labels):
    """Labels of some examples; ``targets`` (n, K) float32 has a 1 where an example has a class."""

    targets: npt.NDArray[np.float32] = None  # type: ignore[assignment]


def parse_labels(y: Any, multi_label: bool | None = None) -> ParsedLabels:
    """Labels of n examples.

    Args:
        y: n labels, all str, all int, all bool or all whole floats; n collections of such labels; or a matrix (n, K)
            of 0 and 1, which may be a list of lists.
        multi_label: What they must be, if that is known.

    Raises:
        TypeError: A label is None or of another type; with its index.
        ValueError: A label is NaN or no whole number, or a matrix has other values than 0 and 1.
    """
    y = _sequence(y, "labels, one for each text")
    if getattr(y, "ndim", 1) == 2 or hasattr(y, "toarray"):
        return _parsed_matrix(y)
    items = list(y)
    several = _is_collection(items[0]) if multi_label is None and items else bool(multi_label)
    rows: list[list[Any]] = []
    first: tuple[str, Any] | None = None
    for index, item in enumerate(items):
        where = f"y[{index}]"
        if several:
            if not _is_collection(item):
                raise TypeError(f"{where} is {_shown(item)}, expected a collection of labels for each text")
            row = sorted(item, key=repr) if isinstance(item, set | frozenset) else list(item)
        else:
            row = [item]
        rows.append([_checked_label(label, where) for label in row])
        for label in rows[-1]:
            kind = _type_name(label)
            if first is None:
                first = (kind, f"{where} is {_shown(label)}")
            elif kind != first[0]:
                raise TypeError(f"{where} is {_shown(label)}, but {first[1]}: expected labels of one type")
    if several and _is_matrix(items, rows):
        return _parsed_matrix(np.array(rows))
    classes = _array(sorted({label for row in rows for label in row}))
    place = {label: column for column, label in enumerate(classes.tolist())}
    targets = np.zeros((len(rows), len(classes)), np.float32)
    for index, row in enumerate(rows):
        for label in row:
            targets[index, place[label]] = 1.0
    return ParsedLabels(classes, several, False, targets)


def parse_scores(y: Any) -> npt.NDArray[np.float64]:
    """Scores (n,) float64.

    Raises:
        TypeError: One is no number.
        ValueError: One is not finite; with its index.
    """
    items = list(_sequence(y, "numbers, one for each pair"))
    for index, item in enumerate(items):
        if isinstance(item, bool | np.bool_) or not isinstance(item, int | float | np.integer | np.floating):
            raise TypeError(f"y[{index}] is {_shown(item)}, expected a number")
        if not np.isfinite(item):
            raise ValueError(f"y[{index}] is {item}, expected a finite number")
    return np.array(items, np.float64)


def parse_pairs(pairs: Any) -> tuple[list[str], list[str]]:
    """First and second texts of n pairs: a sequence of pairs of str, an array (n, 2), or a frame of two columns.

    Raises:
        TypeError: Something is no pair of str; with its index.
    """
    if hasattr(pairs, "columns") and hasattr(pairs, "to_numpy"):
        pairs = pairs.to_numpy()
    if isinstance(pairs, str | bytes | dict | set | frozenset) or not isinstance(pairs, Iterable):
        raise TypeError(f"pairs is {type(pairs).__name__}, expected a sequence of pairs of str")
    columns: tuple[list[str], list[str]] = ([], [])
    for index, pair in enumerate(pairs):
        if isinstance(pair, str) or not isinstance(pair, Sequence | np.ndarray) or len(pair) != 2:
            raise TypeError(f"pairs[{index}] is {_shown(pair)}, expected two texts")
        for place, (column, text) in enumerate(zip(columns, pair, strict=True)):
            if not isinstance(text, str):
                raise TypeError(f"pairs[{index}][{place}] is {_shown(text)}, expected str")
            column.append(str(text))
    return columns


def parse_texts(texts: Any) -> list[str]:
    """A list of texts, checked like those of :meth:`sentenc.Encoder.encode`; a lone str is refused."""
    if isinstance(texts, str):
        raise TypeError("texts is a str, expected a sequence of them")
    if hasattr(texts, "columns"):
        # Taken by iteration, it would give their names.
        raise TypeError(f"texts is {type(texts).__name__}, expected a sequence of str: pass one column of it")
    return as_text_list(texts)


def _parsed_matrix(y: Any) -> ParsedLabels:
    matrix = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
    right = np.isin(matrix, (0, 1)) if matrix.dtype.kind in "buif" else np.zeros(matrix.shape, np.bool_)
    if not right.all():
        row, column = np.argwhere(~right)[0].tolist()
        raise ValueError(
            f"y[{row}, {column}] is {matrix[row, column]}, expected 0 or 1 in every place of a matrix of labels"
        )
    return ParsedLabels(np.arange(matrix.shape[1]), True, True, matrix.astype(np.float32))


def _checked_label(label: Any, where: str) -> Any:
    if isinstance(label, np.generic):
        label = label.item()
    if label is None or not isinstance(label, str | int | float):
        raise TypeError(f"{where} is {_shown(label)}, expected a label: str, int or bool")
    if label != label:
        raise ValueError(f"{where} is nan, expected a label: str, int or bool")
    if isinstance(label, float) and not label.is_integer():
        raise ValueError(
            f"{where} is {label}, expected classes, not continuous values (scores of pairs: SentencePairRegressor)"
        )
    # The plain value of a member of an Enum, whose hash is another.
    if type(label) not in _TYPES.values():
        label = str.__str__(label) if isinstance(label, str) else _TYPES[_type_name(label)](label)
    return label


def _sequence(y: Any, what: str) -> Any:
    if y is None:
        # In the words that scikit-learn looks for.
        raise ValueError(f"fit requires y to be passed, but the target y is None: expected {what}")
    if not isinstance(y, Iterable) and hasattr(y, "__array__"):
        y = np.asarray(y)
    if isinstance(y, str | bytes | dict | set | frozenset) or not isinstance(y, Iterable):
        raise TypeError(f"y is {type(y).__name__}, expected a sequence of {what}")
    return y


def _is_collection(item: Any) -> bool:
    return isinstance(item, list | tuple | set | frozenset | np.ndarray)


def _is_matrix(items: list[Any], rows: list[list[Any]]) -> bool:
    # Lists of one length, two or more, of 0 and 1 alone: as labels they would make no sense, each having a label twice
    # or all having both.
    same = len({len(row) for row in rows}) == 1 and len(rows[0]) > 1
    listed = same and all(isinstance(item, list | np.ndarray) for item in items)
    return listed and all(type(label) is not str and label in (0, 1) for row in rows for label in row)


def _type_name(label: Any) -> LabelType:
    value = label.item() if isinstance(label, np.generic) else label
    # bool first: a bool is an int.
    return next(name for name in ("bool", "int", "float", "str") if isinstance(value, _TYPES[name]))


def _array(labels: list[Any]) -> npt.NDArray[Any]:
    # Not numpy's own choice where it would change a label: "U" drops trailing NULs, large int become float.
    if labels and isinstance(labels[0], str) and any(label.endswith("\0") for label in labels):
        found = np.empty(len(labels), object)
        found[:] = labels
        return found
    if labels and type(labels[0]) is int and not all(-(2**63) <= label < 2**63 for label in labels):
        return np.array(labels, object)
    return np.array(labels)


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} ({text if len(text) <= 60 else text[:57] + '...'})"
