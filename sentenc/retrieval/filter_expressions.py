"""Filters as a user types them: ``country=France``, ``year>=2000``, or JSON."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sentenc.retrieval.filters import compile_filter

_OPERATORS = {"=": "in", "==": "in", "!=": "nin", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_OPERATOR = re.compile("|".join(sorted(_OPERATORS, key=len, reverse=True)))
_EXPECTED = "expected FIELD=VALUE (or !=, >, >=, <, <=) or a filter in JSON"


def parse_filter(expressions: Sequence[str]) -> dict[str, Any]:
    """Returns the filter that demands all of the expressions.

    An expression is a JSON object, which is a filter itself, or a field, an operator and a value. The operators
    are ``=``, ``!=``, ``>``, ``>=``, ``<`` and ``<=``. A value that is a JSON value is one: a number, ``true``,
    ``false``, ``null``, a string in double quotes, or a list, one of whose elements must be equal. Any other
    value is a string. Without quotes, ``year=2000`` also equals the string "2000", because all fields of CSV are
    strings.

    Raises:
        ValueError: An expression has another form, or contains a filter that is wrong; the message quotes it. Or
            all of them together have too many fields or are nested too often.
    """
    parts = [_parse(expression) for expression in expressions]
    if len(parts) == 1:
        return parts[0]
    where = {"and": parts}
    # Each of the parts may be within the limits of a filter, and all of them beyond.
    compile_filter(where)
    return where


def why_nothing_matches(fields: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Returns sentences about the fields of a filter that no item meets.

    Args:
        fields: The number of items with a value of each kind, by field; see
            :meth:`sentenc.Index.describe_filter`.
    """
    reasons = []
    for name, counts in fields.items():
        kinds = [_occurs(kind, number) for kind, number in counts.items() if number]
        reasons.append(f"{name} is {' and '.join(kinds)}" if kinds else f"no item has a field {name}")
    return reasons


def _occurs(kind: str, number: int) -> str:
    name = {"bool": "true or false", "null": "null", "object": "an object"}.get(kind, f"a {kind}")
    return f"{name} in {number:,} item{'' if number == 1 else 's'}"


def _parse(expression: str) -> dict[str, Any]:
    try:
        where = _json_filter(expression) if expression.lstrip().startswith("{") else _comparison(expression)
        compile_filter(where)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the filter {expression!r} is wrong: {error}") from error
    return where


def _json_filter(text: str) -> dict[str, Any]:
    try:
        where: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is not JSON ({error})") from error
    return where


def _comparison(text: str) -> dict[str, Any]:
    match = _OPERATOR.search(text)
    field = "" if match is None else text[: match.start()].strip()
    if match is None or not field or "!" in field:
        raise ValueError(_EXPECTED)
    typed = text[match.end() :].strip()
    operator, value = _OPERATORS[match[0]], _value(typed)
    if operator not in ("in", "nin"):
        return {field: {operator: value}}
    if isinstance(value, list):
        return {field: {operator: value}}
    is_ambiguous = isinstance(value, int | float)
    return {field: {operator: [value, typed] if is_ambiguous else [value]}}


def _value(typed: str) -> Any:
    try:
        # NaN and Infinity, which Python reads and JSON does not have, are strings.
        return json.loads(typed, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return typed


def _refuse(constant: str) -> None:
    raise ValueError(constant)
