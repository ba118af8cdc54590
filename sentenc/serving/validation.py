"""Reads and checks the fields of a request."""

from collections.abc import Collection, Sequence
from typing import Any

from sentenc.serving.api_errors import ApiError, shown
from sentenc.texts import replace_lone_surrogates


def check_fields(fields: dict[str, Any], known: Collection[str]) -> None:
    """Checks that a request has known fields only; a mistyped filter must not return unfiltered results.

    Raises:
        ApiError: A field is unknown (400).
    """
    for name in fields:
        if name not in known:
            raise ApiError(
                400, f"there is no field {shown(name)}, expected one of {', '.join(known)}", param=name,
                code="unknown_field",
            )  # fmt: skip


def texts(fields: dict[str, Any], name: str, max_inputs: int) -> list[str]:
    """Reads a field that is a text or a list of texts, as a list.

    Args:
        fields: The fields of the request.
        name: Name of the field.
        max_inputs: Maximum number of texts.

    Raises:
        ApiError: The field has another type or an empty text (400), or too many texts (422).
    """
    value = fields.get(name)
    if value is None:
        raise ApiError(400, f"{name} is missing, expected a str or a list of str", param=name)
    if isinstance(value, str):
        if not value:
            raise ApiError(400, f"{name} is an empty text", param=name)
        return [replace_lone_surrogates(value)]
    if not isinstance(value, list):
        raise ApiError(400, f"{name} is {shown(value)}, expected a str or a list of str", param=name)
    if not value:
        raise ApiError(400, f"{name} is an empty list, expected at least one text", param=name)
    if len(value) > max_inputs:
        raise ApiError(
            422,
            f"{name} has {len(value)} texts, expected at most {max_inputs} in a request",
            param=name,
            code="too_many_inputs",
        )
    for i, item in enumerate(value):
        if not isinstance(item, str):
            raise ApiError(400, f"{name}[{i}] is {shown(item)}, expected a str", param=name)
        if not item:
            raise ApiError(400, f"{name}[{i}] is an empty text", param=name)
    return [replace_lone_surrogates(item) for item in value]


def pairs(fields: dict[str, Any], name: str, max_inputs: int) -> list[tuple[str, str]]:
    """Reads a field that is a list of pairs of texts.

    Args:
        fields: The fields of the request.
        name: Name of the field.
        max_inputs: Maximum number of texts, two for each pair.

    Raises:
        ApiError: The field has another type or an empty text (400), or too many texts (422).
    """
    value = fields.get(name)
    if value is None:
        raise ApiError(400, f"{name} is missing, expected a list of pairs of str", param=name)
    if not isinstance(value, list):
        raise ApiError(400, f"{name} is {shown(value)}, expected a list of pairs of str", param=name)
    for i, item in enumerate(value):
        if not isinstance(item, list) or len(item) != 2:
            raise ApiError(400, f"{name}[{i}] is {shown(item)}, expected a list of two str", param=name)
    if 2 * len(value) > max_inputs:
        raise ApiError(
            422,
            f"{name} has {2 * len(value)} texts, expected at most {max_inputs} in a request",
            param=name,
            code="too_many_inputs",
        )
    columns = [texts({name: [item[side] for item in value]}, name, max_inputs) for side in (0, 1)]
    return list(zip(*columns, strict=True))


def integer(fields: dict[str, Any], name: str, low: int, high: int, *, status: int = 422) -> int | None:
    """Reads a field that is an integer from ``low`` to ``high``; None if it is missing.

    Raises:
        ApiError: The field is not an integer (400), or out of range (``status``).
    """
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ApiError(400, f"{name} is {shown(value)}, expected an integer", param=name)
    if not low <= value <= high:
        raise ApiError(status, f"{name} is {shown(value)}, expected {low} to {high}", param=name)
    return value


def number(fields: dict[str, Any], name: str, low: float, high: float) -> float | None:
    """Reads a field that is a number from ``low`` to ``high``; None if it is missing.

    Raises:
        ApiError: The field is not a number (400), or out of range (422).
    """
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ApiError(400, f"{name} is {shown(value)}, expected a number", param=name)
    if not low <= value <= high:
        raise ApiError(422, f"{name} is {shown(value)}, expected {low:g} to {high:g}", param=name)
    return float(value)


def choice(fields: dict[str, Any], name: str, choices: Sequence[str], reason: str = "") -> str | None:
    """Reads a field that is one of some strings; None if it is missing.

    Raises:
        ApiError: The field is anything else (400); ``reason`` ends the message.
    """
    value = fields.get(name)
    if value is not None and value not in choices:
        raise ApiError(400, f"{name} is {shown(value)}, expected {' or '.join(choices)}{reason}", param=name)
    return value


def payload_filter(fields: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Reads a field that is a filter on payloads; None if it is missing.

    It is a JSON object, or an expression such as ``"year>=2000"``, or a list of both, all of which must hold.

    Raises:
        ApiError: The filter has another type or is wrong (400).
    """
    from sentenc.retrieval.filter_expressions import parse_filter
    from sentenc.retrieval.filters import compile_filter

    value = fields.get(name)
    if value is None:
        return None
    filters: list[dict[str, Any]] = []
    for i, part in enumerate(value if isinstance(value, list) else [value]):
        where = f"{name}[{i}]" if isinstance(value, list) else name
        if not isinstance(part, str | dict):
            raise ApiError(
                400, f"{where} is {shown(part)}, expected an object or a str like 'year>=2000'", param=name
            )
        try:
            if isinstance(part, str):
                part = parse_filter([replace_lone_surrogates(part)])
            compile_filter(part)
        except (TypeError, ValueError) as error:
            raise ApiError(400, f"{where}: {error}", param=name) from None
        filters.append(part)
    if len(filters) == 1:
        return filters[0]
    combined = {"and": filters}
    try:
        # Each of the parts may be within the limits of a filter, and all of them beyond.
        compile_filter(combined)
    except ValueError as error:
        raise ApiError(400, f"{name}: {error}", param=name) from None
    return combined
