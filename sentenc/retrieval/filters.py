"""Filters on payloads: which rows may be results of a search.

A filter is a dict of fields and conditions, all of which must hold::

    {"country": "France", "year": {"gte": 2000, "lt": 2010}, "tag": {"in": ["wine", "cheese"]}}

A field is a key of the payload, or a path of keys with dots between them (``"author.name"``). A condition is a
value, which the field must equal, or a dict of operators:

- ``eq``, ``in``: equals the value, or one of a list.
- ``ne``, ``nin``: the opposite of ``eq`` and ``in``, so that items without the field match.
- ``gt``, ``gte``, ``lt``, ``lte``: compares with a number or a string. Strings are compared by code points,
  which is right for dates in ISO format.
- ``exists``: True if the payload must have the field, False if it must not.

The keys ``and`` and ``or`` combine lists of filters, and ``not`` negates one. Keys may begin with ``$``, as in
Chroma and Pinecone. The rules for values are:

- A list in a payload matches if one of its elements does; that element must meet all operators of the condition
  but ``ne`` and ``nin``, which every element must meet.
- Values of different types are never equal and never compare, but 1 equals 1.0. True is no number.
- None equals null, and a field that is missing.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sentenc.retrieval.columns import FALSE, MISSING, NULL, TRUE, Column, Scalar
from sentenc.texts import describe

Mask = npt.NDArray[np.bool_]
Columns = Mapping[str, Column]

_ORDERS = ("gt", "gte", "lt", "lte")
_LISTS = ("in", "nin")
OPERATORS = ("eq", "ne", *_ORDERS, *_LISTS, "exists")
_MAX_DEPTH = 32
# A search reads a column of all items for each field.
_MAX_FIELDS = 64
_VALUE = "a str, number, bool or None"


class Condition(Protocol):
    """A compiled filter."""

    def paths(self) -> Iterator[str]:
        """Yields the fields whose columns it needs."""

    def mask(self, columns: Columns, n: int) -> Mask:
        """Returns whether each of n rows meets the condition, (n,) bool."""


def compile_filter(where: Any) -> Condition:
    """Checks a filter and compiles it.

    Args:
        where: A filter; see :mod:`sentenc.retrieval.filters`.

    Raises:
        TypeError: A part of it has the wrong type; the message has its path.
        ValueError: An operator is unknown, a number is not finite, it is nested more than 32 times, or it has more than
            64 fields.
    """
    condition = _filter(where, "where", 0)
    if (n_fields := len(set(condition.paths()))) > _MAX_FIELDS:
        raise ValueError(f"the filter has {n_fields:,} fields, expected at most {_MAX_FIELDS}")
    return condition


@dataclass(frozen=True)
class AllOf:
    """All of several conditions."""

    parts: Sequence[Condition]

    def paths(self) -> Iterator[str]:
        """Yields the fields whose columns it needs."""
        for part in self.parts:
            yield from part.paths()

    def mask(self, columns: Columns, n: int) -> Mask:
        """Returns whether each of n rows meets the condition, (n,) bool."""
        result = np.ones(n, np.bool_)
        for part in self.parts:
            result &= part.mask(columns, n)
        return result


@dataclass(frozen=True)
class AnyOf(AllOf):
    """At least one of several conditions."""

    def mask(self, columns: Columns, n: int) -> Mask:
        """Returns whether each of n rows meets the condition, (n,) bool."""
        result = np.zeros(n, np.bool_)
        for part in self.parts:
            result |= part.mask(columns, n)
        return result


@dataclass(frozen=True)
class Negation:
    """The opposite of a condition."""

    part: Condition

    def paths(self) -> Iterator[str]:
        """Yields the fields whose columns it needs."""
        return self.part.paths()

    def mask(self, columns: Columns, n: int) -> Mask:
        """Returns whether each of n rows meets the condition, (n,) bool."""
        return ~self.part.mask(columns, n)


@dataclass(frozen=True)
class FieldCondition:
    """A condition on the values of a field.

    Attributes:
        path: The field.
        tests: Operators and operands; one value of the row must pass all of them.
        without: Values of which the row must have none.
        exists: Whether the row must have the field; None if it may.
    """

    path: str
    tests: Sequence[tuple[str, Any]]
    without: Sequence[Scalar]
    exists: bool | None

    def paths(self) -> Iterator[str]:
        """Yields the fields whose columns it needs."""
        yield self.path

    def mask(self, columns: Columns, n: int) -> Mask:
        """Returns whether each of n rows meets the condition, (n,) bool."""
        column = columns[self.path]
        result = np.ones(n, np.bool_)
        if self.tests:
            accepted = np.ones(column.n_codes, np.bool_)
            for operator, operand in self.tests:
                accepted &= _accepted(column, operator, operand)
            result &= column.rows(accepted)
        if self.without:
            result &= ~column.rows(_accepted(column, "in", self.without))
        if self.exists is not None:
            present = np.ones(column.n_codes, np.bool_)
            present[MISSING] = False
            result &= column.rows(present) == self.exists
        return result


def _accepted(column: Column, operator: str, operand: Any) -> Mask:
    accepted = np.zeros(column.n_codes, np.bool_)
    for value in operand if operator == "in" else (operand,):
        if value is None:
            accepted[[MISSING, NULL]] = True
        elif isinstance(value, bool):
            accepted[TRUE if value else FALSE] = True
        else:
            first, end = column.compare("eq" if operator == "in" else operator, value)
            accepted[first:end] = True
    return accepted


def _filter(where: Any, place: str, depth: int) -> Condition:
    if not isinstance(where, Mapping):
        raise TypeError(f"{place} is {describe(where)}, expected a dict of fields and conditions")
    if depth > _MAX_DEPTH:
        raise ValueError(f"the filter is nested more than {_MAX_DEPTH} times")
    parts: list[Condition] = []
    for key, value in where.items():
        if not isinstance(key, str):
            raise TypeError(f"{place} has the key {describe(key)}, expected str")
        here = f"{place}[{key!r}]"
        name = key.removeprefix("$")
        if name in ("and", "or"):
            if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
                raise TypeError(f"{here} is {describe(value)}, expected a list of filters")
            inner = [_filter(part, f"{here}[{i}]", depth + 1) for i, part in enumerate(value)]
            parts.append(AllOf(inner) if name == "and" else AnyOf(inner))
        elif name == "not":
            parts.append(Negation(_filter(value, here, depth + 1)))
        else:
            parts.append(_field(key, value, here))
    return parts[0] if len(parts) == 1 else AllOf(parts)


def _field(path: str, condition: Any, place: str) -> FieldCondition:
    if not isinstance(condition, Mapping):
        if isinstance(condition, list | tuple | set | frozenset | np.ndarray):
            raise TypeError(
                f'{place} is {describe(condition)}, expected a value or a dict of operators: {{"in": [...]}}'
            )
        return FieldCondition(path, [("eq", _scalar(condition, place))], [], None)
    if not condition:
        raise ValueError(f"{place} is an empty dict, expected one of the operators {', '.join(OPERATORS)}")
    tests: list[tuple[str, Any]] = []
    without: list[Scalar] = []
    exists = None
    for key, value in condition.items():
        operator = key.removeprefix("$") if isinstance(key, str) else key
        here = f"{place}[{key!r}]"
        if operator not in OPERATORS:
            raise ValueError(f"{place} has the operator {key!r}, expected one of {', '.join(OPERATORS)}")
        if operator in _LISTS:
            values = _scalars(value, here)
            if operator == "in":
                tests.append(("in", values))
            else:
                without += values
        elif operator == "exists":
            if not isinstance(value, bool | np.bool_):
                raise TypeError(f"{here} is {describe(value)}, expected True or False")
            exists = bool(value)
        elif operator == "ne":
            without.append(_scalar(value, here))
        else:
            tests.append((operator, (_comparable if operator in _ORDERS else _scalar)(value, here)))
    return FieldCondition(path, tests, without, exists)


def _scalars(values: Any, place: str) -> list[Scalar]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise TypeError(f"{place} is {describe(values)}, expected a list of values")
    return [_scalar(value, f"{place}[{i}]") for i, value in enumerate(values)]


def _comparable(value: Any, place: str) -> str | int | float:
    checked = _scalar(value, place, "a str or a number")
    if checked is None or isinstance(checked, bool):
        raise TypeError(f"{place} is {describe(value)}, expected a str or a number")
    return checked


def _scalar(value: Any, place: str, expected: str = _VALUE) -> Scalar:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place} is {value}, expected a finite number")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{place} is {describe(value)}, expected {expected}")
