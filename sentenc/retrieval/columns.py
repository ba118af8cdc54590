"""Columns of payload values: the values of one field over the rows of a segment, for filters.

A field is a path of keys separated by dots. A column stores a sorted dictionary of the distinct values and one
int32 code per value, so that equality and order become ranges of codes. All comparisons are exact, also those
of integers beyond 2^53.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.forking import cached_value, lock_before_fork

# Codes of values that are neither numbers nor strings. Numbers follow in rising order, then strings.
MISSING, OTHER, NULL, FALSE, TRUE = range(5)
_FIRST_NUMBER = 5
_ITEMS_PER_BLOCK = 1024
_CACHED_BYTES_PER_ROW = 64
_ABSENT = object()

Scalar = str | int | float | bool | None
Codes = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Column:
    """The values of one field in n rows.

    A row without the field has the code ``MISSING``. The elements of a list are values of its row. Objects,
    lists in lists and empty lists have the code ``OTHER``.

    Attributes:
        codes: (m,) int32 code of every value, in the order of rows; every row has at least one.
        starts: (n,) place of each row's first value; None if every row has exactly one.
        numbers: (a,) distinct numbers, rising: float64 or int64, or objects if neither is exact.
        text: Distinct strings in UTF-8, in order, without separators.
        ends: (b + 1,) offsets of the strings in ``text``.
    """

    codes: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64] | None
    numbers: npt.NDArray[Any]
    text: bytes
    ends: npt.NDArray[np.int64]

    @cached_value
    def n_codes(self) -> int:
        """Number of codes, including those that do not occur."""
        return _FIRST_NUMBER + len(self.numbers) + len(self.ends) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays and strings."""
        arrays = (self.codes, self.numbers, self.ends)
        starts = 0 if self.starts is None else self.starts.nbytes
        return sum(array.nbytes for array in arrays) + starts + len(self.text)

    def compare(self, operator: str, operand: str | int | float) -> Codes:
        """Returns the range (first, end) of the codes of values that compare to ``operand`` as stated.

        A string compares with strings, by code points, and a number with numbers. True and False are no
        numbers.

        Args:
            operator: ``"eq"``, ``"gt"``, ``"gte"``, ``"lt"`` or ``"lte"``.
            operand: A str or a finite number.
        """
        strings_from = _FIRST_NUMBER + len(self.numbers)
        if isinstance(operand, str):
            # UTF-8 sorts by code points, as str does.
            left, right = _between(len(self.ends) - 1, self._string, operand.encode("utf-8", "surrogatepass"))
            first, end = strings_from, self.n_codes
        else:
            # Python compares int and float exactly, NumPy does not.
            left, right = _between(len(self.numbers), self.numbers.item, operand)
            first, end = _FIRST_NUMBER, strings_from
        if operator == "eq":
            return first + left, first + right
        if operator in ("gt", "gte"):
            return first + (right if operator == "gt" else left), end
        return first, first + (left if operator == "lt" else right)

    def rows(self, accepted: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Returns whether any value of each row (n,) has an accepted code; ``accepted`` is (n_codes,)."""
        mask = accepted[self.codes]
        return mask if self.starts is None else np.logical_or.reduceat(mask, self.starts)

    def counts(self, is_counted: npt.NDArray[np.bool_]) -> dict[str, int]:
        """Returns the number of rows, among those counted (n,), that have a value of each kind."""
        numbers_end = _FIRST_NUMBER + len(self.numbers)
        ranges = {
            "null": (NULL, NULL + 1),
            "bool": (FALSE, TRUE + 1),
            "number": (_FIRST_NUMBER, numbers_end),
            "string": (numbers_end, self.n_codes),
            "object": (OTHER, OTHER + 1),
        }
        counts = {}
        for kind, (first, end) in ranges.items():
            accepted = np.zeros(self.n_codes, np.bool_)
            accepted[first:end] = True
            counts[kind] = int((self.rows(accepted) & is_counted).sum())
        return counts

    def _string(self, i: int) -> bytes:
        return self.text[self.ends[i] : self.ends[i + 1]]


def read_columns(data: Any, offsets: npt.NDArray[np.int64], paths: Sequence[str]) -> dict[str, Column]:
    """Reads the columns of fields from the JSON lines of items; see :mod:`sentenc.retrieval.items`.

    All fields that no payload has share one column.

    Args:
        data: The lines, bytes or a memory map.
        offsets: (n + 1,) offsets of the lines.
        paths: Fields, as paths of keys separated by dots.
    """
    builders = {path: _Builder(path) for path in paths}
    if not builders:
        return {}
    for payload in _payloads(data, offsets):
        for builder in builders.values():
            builder.add(payload)
    absent = _absent_column(len(offsets) - 1)
    return {path: builder.column() if builder.is_present else absent for path, builder in builders.items()}


class ColumnCache:
    """The columns of a segment that were used last; several threads may read it.

    Together they have at most 64 bytes per row, and the columns of the current search.
    """

    def __init__(self) -> None:
        self._columns: dict[str, Column] = {}
        self._lock = lock_before_fork()

    def get(self, data: Any, offsets: npt.NDArray[np.int64], paths: Sequence[str]) -> dict[str, Column]:
        """Returns the columns of fields, reading those that are not cached; see :func:`read_columns`."""
        with self._lock:
            cached = {path: self._columns[path] for path in paths if path in self._columns}
        columns = cached | read_columns(data, offsets, [path for path in paths if path not in cached])
        with self._lock:
            # The dict is in the order of use, the oldest first.
            self._columns = {path: self._columns[path] for path in self._columns if path not in columns}
            excess = sum(column.nbytes for column in (self._columns | columns).values())
            excess -= _CACHED_BYTES_PER_ROW * len(offsets)
            for path in list(self._columns):
                if excess > 0:
                    excess -= self._columns.pop(path).nbytes
            self._columns |= columns
        return columns


def _payloads(data: Any, offsets: npt.NDArray[np.int64]) -> Iterator[Any]:
    for low in range(0, len(offsets) - 1, _ITEMS_PER_BLOCK):
        high = min(low + _ITEMS_PER_BLOCK, len(offsets) - 1)
        lines = bytes(data[offsets[low] : offsets[high]]).decode("utf-8", "surrogatepass")
        # One call for many lines. JSON escapes line ends in strings, so all of them are between items.
        for item in json.loads("[" + lines[:-1].replace("\n", ",") + "]"):
            yield item[2]


def _value_at(value: Any, path: str) -> Any:
    # A key that is the whole path is taken first, then the shortest key from which the path continues. A list
    # of objects yields the list of their values.
    if isinstance(value, list):
        return _flat([_value_at(element, path) for element in value])
    if not isinstance(value, dict):
        return _ABSENT
    if path in value:
        return value[path]
    dot = path.find(".")
    while dot >= 0:
        inner = _value_at(value.get(path[:dot]), path[dot + 1 :])
        if inner is not _ABSENT:
            return inner
        dot = path.find(".", dot + 1)
    return _ABSENT


def _flat(values: list[Any]) -> Any:
    present = [value for value in values if value is not _ABSENT]
    if not present:
        return _ABSENT
    return [element for value in present for element in (value if isinstance(value, list) else [value])]


def _absent_column(n: int) -> Column:
    return Column(np.full(n, MISSING, np.int32), None, _exact_array([]), b"", np.zeros(1, np.int64))


class _Builder:
    # Collects the values of a field. Codes are given in the order of appearance, and sorted at the end. Rows before
    # the first one with the field are only counted, so that a field that no payload has takes no memory.

    def __init__(self, path: str) -> None:
        self._path = path
        self._n_before = 0
        self._codes: list[int] = []
        self._starts: list[int] = []
        self._known: dict[str | int | float, int] = {}

    @property
    def is_present(self) -> bool:
        return bool(self._codes)

    def add(self, payload: Any) -> None:
        value = _value_at(payload, self._path)
        if not self._codes:
            if value is _ABSENT:
                self._n_before += 1
                return
            self._codes, self._starts = [MISSING] * self._n_before, list(range(self._n_before))
        self._starts.append(len(self._codes))
        if isinstance(value, list) and value:
            self._codes.extend(map(self._code, value))
        else:
            self._codes.append(self._code(value))

    def _code(self, value: Any) -> int:
        # True equals 1 in Python, so that it must not be looked up.
        if isinstance(value, bool):
            return TRUE if value else FALSE
        if isinstance(value, str | int | float):
            return self._known.setdefault(value, _FIRST_NUMBER + len(self._known))
        if value is _ABSENT:
            return MISSING
        return NULL if value is None else OTHER

    def column(self) -> Column:
        numbers = sorted(value for value in self._known if not isinstance(value, str))
        strings = sorted(value for value in self._known if isinstance(value, str))
        order = np.arange(_FIRST_NUMBER + len(self._known), dtype=np.int32)
        for code, value in enumerate([*numbers, *strings], _FIRST_NUMBER):
            order[self._known[value]] = code
        encoded = [value.encode("utf-8", "surrogatepass") for value in strings]
        ends = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(value) for value in encoded], out=ends[1:])
        codes = order[np.fromiter(self._codes, np.int32, len(self._codes))]
        starts = None if len(codes) == len(self._starts) else np.array(self._starts, np.int64)
        return Column(codes, starts, _exact_array(numbers), b"".join(encoded), ends)


def _exact_array(numbers: list[int | float]) -> npt.NDArray[Any]:
    if all(abs(number) <= 2**53 or isinstance(number, float) for number in numbers):
        return np.array(numbers, np.float64)
    if all(isinstance(number, int) and -(2**63) <= number < 2**63 for number in numbers):
        return np.array(numbers, np.int64)
    return np.array(numbers, object)


def _between(count: int, item: Callable[[int], Any], operand: Any) -> Codes:
    # The places before and behind the values that equal the operand.
    return bisect_left(range(count), operand, key=item), bisect_right(range(count), operand, key=item)
