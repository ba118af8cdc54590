"""One record of a file: a text, an id and a payload."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sentenc.errors import TextFileError

# What a field with the text is likely to be called, the likeliest first.
TEXT_FIELDS = ("text", "sentence", "content", "body", "passage", "abstract", "title", "question", "query")


class Record(NamedTuple):
    """One entry of a file.

    Attributes:
        text: The text.
        id: Its id, where a field was named for it.
        payload: The other fields, as JSON values; None if there are none.
        path: The file.
        line: The line where it begins; the row, in Parquet. From 1.
    """

    text: str
    id: int | str | None
    payload: dict[str, Any] | None
    path: str
    line: int


class Fields(NamedTuple):
    """Names of the fields with the text and the id."""

    text: str
    id: str | None


def choose_text_field(
    path: str, strings: Sequence[str], fields: Sequence[str], named: str | None, id_field: str | None
) -> Fields:
    """Which field has the text, of the ``strings`` among the ``fields`` of a file.

    Raises:
        TextFileError: The named field is not there, or none was named and none is plainly the one.
    """
    for name in (named, id_field):
        if name is not None and name not in fields:
            raise TextFileError(f"{path} has no field {name!r}, only {_listed(fields)}")
    if named is not None:
        return Fields(named, id_field)
    candidates = [name for name in strings if name != id_field]
    spelt = {name.lower(): name for name in reversed(candidates)}
    for likely in TEXT_FIELDS:
        if likely in spelt:
            return Fields(spelt[likely], id_field)
    if len(candidates) == 1:
        return Fields(candidates[0], id_field)
    raise TextFileError(
        f"{path}: which field is the text? It has {_listed(fields)}: name one (text_field, --text-field)"
    )


def make_record(path: str, line: int, row: dict[str, Any], fields: Fields, unit: str = "line") -> Record:
    """A record of a row that is JSON values already; empties the row of what is not payload.

    Raises:
        TextFileError: Text or id are missing or of another type.
    """
    text = _taken(path, line, row, fields.text, unit)
    if not isinstance(text, str):
        raise TextFileError(
            f"{path}, {unit} {line}: field {fields.text!r} is {_kind(text)}, expected a string"
        )
    name = None
    if fields.id is not None:
        name = text if fields.id == fields.text else _taken(path, line, row, fields.id, unit)
        if not _is_id(name):
            raise TextFileError(
                f"{path}, {unit} {line}: field {fields.id!r} is {_kind(name)}, "
                "expected an id: a string, or an integer of 64 bits"
            )
    payload = {key: value for key, value in row.items() if value is not None}
    return Record(text, name, payload or None, path, line)


def _taken(path: str, line: int, row: dict[str, Any], field: str, unit: str) -> Any:
    if field not in row:
        raise TextFileError(f"{path}, {unit} {line}: no field {field!r}, only {_listed(list(row))}")
    return row.pop(field)


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return value != ""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _kind(value: Any) -> str:
    # By JSON's names: the reader of the message wrote JSON, or a table.
    if value is None:
        return "null"
    if value == "" and isinstance(value, str):
        return "empty"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"a number ({value})" if abs(value) < 1e30 else "a large number"
    return {bool: "true or false", str: "a string", list: "a list", dict: "an object"}.get(
        type(value), type(value).__name__
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return (shown + (", ..." if len(names) > 20 else "")) or "none"
