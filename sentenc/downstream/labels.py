"""Parses labels, scores, texts and pairs in the forms users have them."""

import warnings
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
    """The classes of a classifier, and the form of its labels.

    Attributes:
        classes: (K,) the sorted classes.
        multi_label: Whether an example has several labels instead of one.
        indicator: Whether labels are a matrix of 0 and 1, both in ``fit`` and in ``predict``.
    """

    classes: npt.NDArray[Any]
    multi_label: bool = False
    indicator: bool = False

    def decoded(self, probabilities: npt.NDArray[np.float64]) -> Any:
        """Returns the labels for probabilities (n, K): an array (n,), a matrix (n, K), or n tuples."""
        if not self.multi_label:
            return self.classes[probabilities.argmax(axis=1)]
        chosen = probabilities > 0.5
        if self.indicator:
            return chosen.astype(np.int64)
        return [tuple(self.classes[row].tolist()) for row in chosen]

    def encoded(self, y: Any) -> npt.NDArray[np.float32]:
        """Returns the targets (n, K) of labels in the form of the fit, without unknown labels."""
        return self._targets(parse_labels(y, self.multi_label))

    def matches(self, probabilities: npt.NDArray[np.float64], y: Any) -> npt.NDArray[np.bool_]:
        """Returns whether the predictions for probabilities (n, K) equal the labels y of each example: (n,).

        Raises:
            ValueError: The number of labels is not n, or the labels are in another form than those of the
                fit.
        """
        parsed = parse_labels(y, self.multi_label)
        targets = self._targets(parsed) > 0.5
        if len(targets) != len(probabilities):
            raise ValueError(f"got {len(probabilities)} examples but {len(targets)} labels")
        if not self.multi_label:
            return np.asarray(targets[np.arange(len(targets)), probabilities.argmax(axis=1)])
        # A label that is none of the classes is never predicted.
        is_known = targets.sum(axis=1) == parsed.targets.sum(axis=1)
        return np.asarray(((probabilities > 0.5) == targets).all(axis=1) & is_known)

    def _targets(self, parsed: "ParsedLabels") -> npt.NDArray[np.float32]:
        if parsed.indicator != self.indicator:
            raise ValueError("the labels are in another form than those that the classifier was fitted with")
        if self.indicator:
            if parsed.targets.shape[1] != len(self.classes):
                raise ValueError(f"y has {parsed.targets.shape[1]} columns, expected {len(self.classes)}")
            return parsed.targets
        column_of = {label: column for column, label in enumerate(self.classes.tolist())}
        targets = np.zeros((len(parsed.targets), len(self.classes)), np.float32)
        for column, label in enumerate(parsed.classes.tolist()):
            if label in column_of:
                targets[:, column_of[label]] = parsed.targets[:, column]
        return targets

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values, for :meth:`from_json`."""
        kind = _type_name(self.classes[0]) if len(self.classes) else "str"
        return {
            "type": kind,
            "classes": self.classes.tolist(),
            "multi_label": self.multi_label,
            "indicator": self.indicator,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Labels":
        """Builds labels from the values of :meth:`to_json`.

        Raises:
            KeyError: A key is missing, or the type is unknown.
            TypeError: A value has the wrong type.
            ValueError: The classes are not sorted, or not unique.
        """
        kind, classes = _TYPES[value["type"]], value["classes"]
        flags = value["multi_label"], value["indicator"]
        if type(classes) is not list or any(type(label) is not kind for label in classes):
            raise TypeError(f"classes are {_shown(classes)}, expected a list of {kind.__name__}")
        if any(type(flag) is not bool for flag in flags):
            raise TypeError(f"multi_label and indicator are {flags}, expected true or false")
        if classes != sorted(set(classes)):
            raise ValueError(f"classes are {_shown(classes)}, expected sorted, unique classes")
        return cls(_array(classes), *flags)


@dataclass(frozen=True, eq=False)
class ParsedLabels(Labels):
    """The labels of n examples; ``targets`` (n, K) float32 is 1 where an example has a class."""

    targets: npt.NDArray[np.float32] = None  # type: ignore[assignment]


def parse_labels(y: Any, multi_label: bool | None = None) -> ParsedLabels:
    """Parses the labels of n examples.

    Args:
        y: n labels, all str, all int, all bool or all whole floats; n collections of such labels; or a matrix
            (n, K) of 0 and 1, which may be a list of lists. An array (n, 1) is n labels.
        multi_label: Whether examples have several labels. By default, the first example decides.

    Raises:
        TypeError: A label has the wrong type, or another type than the first one; the message contains its
            index.
        ValueError: A label is NaN or not a whole number, or a matrix has other values than 0 and 1.
    """
    y = _as_one_dimensional(_sequence(y, "labels, one for each text"))
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
                raise TypeError(f"{where} is {_shown(label)}, but {first[1]}; expected labels of one type")
    if several and _is_matrix(items, rows):
        return _parsed_matrix(np.array(rows))
    classes = _array(sorted({label for row in rows for label in row}))
    column_of = {label: column for column, label in enumerate(classes.tolist())}
    targets = np.zeros((len(rows), len(classes)), np.float32)
    for index, row in enumerate(rows):
        for label in row:
            targets[index, column_of[label]] = 1.0
    return ParsedLabels(classes, several, False, targets)


def parse_scores(y: Any) -> npt.NDArray[np.float64]:
    """Parses scores into an array (n,), float64. An array (n, 1) is n scores.

    Raises:
        TypeError: A score is not a number; the message contains its index.
        ValueError: A score is not finite; the message contains its index.
    """
    items = list(_as_one_dimensional(_sequence(y, "numbers, one for each pair")))
    for index, item in enumerate(items):
        if isinstance(item, bool | np.bool_) or not isinstance(item, int | float | np.integer | np.floating):
            raise TypeError(f"y[{index}] is {_shown(item)}, expected a number")
        if not np.isfinite(item):
            raise ValueError(f"y[{index}] is {item}, expected a finite number")
    return np.array(items, np.float64)


def parse_pairs(pairs: Any) -> tuple[list[str], list[str]]:
    """Parses n pairs into first and second texts.

    Args:
        pairs: A sequence of pairs of str, an array (n, 2), or a data frame with two columns.

    Raises:
        TypeError: An item is not a pair of str; the message contains its index.
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
    """Parses texts into a list, with the checks of :meth:`sentenc.Encoder.encode`. A single str is refused.

    Raises:
        TypeError: ``texts`` is not a sequence of str; the message contains the index of the wrong item.
    """
    if isinstance(texts, str):
        raise TypeError("texts is a str, expected a sequence of str")
    if hasattr(texts, "columns"):
        # Iterating over a data frame yields the names of its columns.
        raise TypeError(f"texts is {type(texts).__name__}, expected a sequence of str: pass a single column")
    return as_text_list(texts)


def _parsed_matrix(y: Any) -> ParsedLabels:
    matrix = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
    is_valid = np.isin(matrix, (0, 1)) if matrix.dtype.kind in "buif" else np.zeros(matrix.shape, np.bool_)
    if not is_valid.all():
        row, column = np.argwhere(~is_valid)[0].tolist()
        raise ValueError(
            f"y[{row}, {column}] is {matrix[row, column]}, expected 0 or 1 everywhere in a matrix of labels"
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
            f"{where} is {label}, expected classes, not continuous values; "
            "SentencePairRegressor fits scores of pairs"
        )
    # The plain value of an Enum member, which hashes differently.
    if type(label) not in _TYPES.values():
        label = str.__str__(label) if isinstance(label, str) else _TYPES[_type_name(label)](label)
    return label


def _sequence(y: Any, what: str) -> Any:
    if y is None:
        # scikit-learn's checks search for this wording.
        raise ValueError(f"fit requires y to be passed, but the target y is None: expected {what}")
    if not isinstance(y, Iterable) and hasattr(y, "__array__"):
        y = np.asarray(y)
    if isinstance(y, str | bytes | dict | set | frozenset) or not isinstance(y, Iterable):
        raise TypeError(f"y is {type(y).__name__}, expected a sequence of {what}")
    return y


def _as_one_dimensional(y: Any) -> Any:
    # As in scikit-learn, the rows of an array or data frame (n, 1) are single values, and a warning reports it.
    if getattr(y, "ndim", 1) != 2 or hasattr(y, "toarray") or y.shape[1] != 1:
        return y
    from sklearn.exceptions import DataConversionWarning

    # scikit-learn's checks search for this wording.
    warnings.warn(
        f"A column-vector y was passed when a 1d array was expected: got the shape {tuple(y.shape)}",
        DataConversionWarning,
        stacklevel=4,
    )
    return np.asarray(y)[:, 0]


def _is_collection(item: Any) -> bool:
    return isinstance(item, list | tuple | set | frozenset | np.ndarray)


def _is_matrix(items: list[Any], rows: list[list[Any]]) -> bool:
    # Lists of 0 and 1 with one length of at least two are a matrix. As collections of labels they would make
    # no sense: each would contain a label twice, or all would contain both.
    is_rectangular = len({len(row) for row in rows}) == 1 and len(rows[0]) > 1
    is_nested = is_rectangular and all(isinstance(item, list | np.ndarray) for item in items)
    return is_nested and all(type(label) is not str and label in (0, 1) for row in rows for label in row)


def _type_name(label: Any) -> LabelType:
    value = label.item() if isinstance(label, np.generic) else label
    # bool comes first because a bool is an int.
    return next(name for name in ("bool", "int", "float", "str") if isinstance(value, _TYPES[name]))


def _array(labels: list[Any]) -> npt.NDArray[Any]:
    # NumPy's own choice of dtype would change some labels: "U" drops trailing NULs, and large ints become
    # floats.
    if labels and isinstance(labels[0], str) and any(label.endswith("\0") for label in labels):
        array = np.empty(len(labels), object)
        array[:] = labels
        return array
    if labels and type(labels[0]) is int and not all(-(2**63) <= label < 2**63 for label in labels):
        return np.array(labels, object)
    return np.array(labels)


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} ({text if len(text) <= 60 else text[:57] + '...'})"
