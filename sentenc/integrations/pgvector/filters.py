"""Filters of :mod:`sentenc.retrieval.filters` as SQL on a column of jsonb."""

import json
from collections.abc import Iterator
from typing import Any

from sentenc.retrieval.columns import Scalar
from sentenc.retrieval.filters import AllOf, AnyOf, Condition, FieldCondition, Negation

_OPERATORS = {"eq": "==", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
# A path of n keys can be read in 2^(n-1) ways, because a key may contain dots.
_MAX_KEYS = 5


def filter_sql(condition: Condition, column: str, prefix: str) -> tuple[str, dict[str, str]]:
    """Returns a filter as an SQL condition, and the parameters of its placeholders.

    Args:
        condition: The filter.
        column: The column of payloads, as SQL.
        prefix: The first part of the names of the parameters.

    Raises:
        ValueError: A path has more than five keys, or a string has a character that jsonb cannot contain.
    """
    writer = _Writer(column, prefix)
    return writer.condition(condition), writer.parameters


class _Writer:
    def __init__(self, column: str, prefix: str) -> None:
        self._column, self._prefix = column, prefix
        self.parameters: dict[str, str] = {}

    def condition(self, condition: Condition) -> str:
        if isinstance(condition, Negation):
            return _negated(self.condition(condition.part))
        if isinstance(condition, AllOf):
            # AnyOf is a kind of AllOf.
            word, empty = (" OR ", "FALSE") if isinstance(condition, AnyOf) else (" AND ", "TRUE")
            return f"({word.join(map(self.condition, condition.parts)) or empty})"
        if isinstance(condition, FieldCondition):
            return self._field(condition)
        raise TypeError(
            f"the filter has a part of type {type(condition).__name__}, expected one of filters.py"
        )

    def _field(self, field: FieldCondition) -> str:
        parts = []
        if field.tests:
            parts.append(self._passes(field.path, field.tests))
        if field.without:
            parts.append(_negated(self._passes(field.path, [("in", field.without)])))
        if field.exists is not None:
            exists = self._exists(field.path)
            parts.append(exists if field.exists else _negated(exists))
        return f"({' AND '.join(parts) or 'TRUE'})"

    def _passes(self, path: str, tests: Any) -> str:
        # Each way to read the path counts only if no earlier one has a value.
        tests = list(tests)
        inner = " && ".join(_test(operator, operand) for operator, operand in tests)
        ways: list[str] = []
        earlier: list[str] = []
        for keys in _readings(path):
            own = self._matches(f'{keys} ? (@.type() != "array" && {inner})')
            ways.append(" AND ".join([own, *map(_negated, earlier)]))
            earlier.append(self._matches(keys))
        passes = " OR ".join(f"({way})" for way in ways)
        if all(_accepts_none(operator, operand) for operator, operand in tests):
            passes += f" OR {_negated(self._exists(path))}"
        return f"({passes})"

    def _exists(self, path: str) -> str:
        return "(" + " OR ".join(self._matches(keys) for keys in _readings(path)) + ")"

    def _matches(self, jsonpath: str) -> str:
        name = f"{self._prefix}{len(self.parameters)}"
        self.parameters[name] = jsonpath
        return f"{self._column} @? %({name})s::jsonpath"


def _readings(path: str) -> list[str]:
    # The jsonpaths of a field: a key that is the whole path first, then the shortest key from which it continues.
    if path.count(".") >= _MAX_KEYS:
        raise ValueError(f"the field {path!r} has {path.count('.') + 1} keys, expected at most {_MAX_KEYS}")
    return ["$" + "".join(f".{_literal(key)}" for key in keys) for keys in _splits(path)]


def _splits(path: str) -> Iterator[tuple[str, ...]]:
    yield (path,)
    dot = path.find(".")
    while dot >= 0:
        for rest in _splits(path[dot + 1 :]):
            yield path[:dot], *rest
        dot = path.find(".", dot + 1)


def _test(operator: str, operand: Any) -> str:
    if operator == "in":
        return "(" + (" || ".join(_test("eq", value) for value in operand) or "1 == 0") + ")"
    return f"@ {_OPERATORS[operator]} {_literal(operand)}"


def _literal(value: Scalar) -> str:
    if isinstance(value, str):
        bad = next((c for c in value if c == "\0" or "\ud800" <= c <= "\udfff"), None)
        if bad is not None:
            raise ValueError(
                f"a string of the filter contains the character U+{ord(bad):04X}, which jsonb cannot contain"
            )
    return json.dumps(value)


def _accepts_none(operator: str, operand: Any) -> bool:
    return (operator == "eq" and operand is None) or (operator == "in" and None in operand)


def _negated(condition: str) -> str:
    # The condition is null where the payload is.
    return f"({condition}) IS NOT TRUE"
