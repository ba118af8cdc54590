"""A tree of plain values as TOML, which the standard library reads but does not write."""

import json
import re
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(table: dict[str, Any]) -> str:
    """A table as the text of a TOML file; tables of tables get headings.

    Raises:
        TypeError: A value is of a type that it cannot write (dates).
    """
    return "\n".join(_lines(table, [])).strip() + "\n"


def _lines(table: dict[str, Any], path: list[str]) -> list[str]:
    nested = {key: value for key, value in table.items() if isinstance(value, dict)}
    # Lists of tables become headings at the top only; below, sources stay on lines of their own.
    listed = {key: value for key, value in table.items() if not path and _is_tables(value)}
    found = [
        f"{_key(key)} = {_value(value)}"
        for key, value in table.items()
        if key not in nested and key not in listed
    ]
    for key, value in nested.items():
        below = _lines(value, [*path, key])
        heading = f"[{'.'.join(map(_key, [*path, key]))}]"
        # A table that only holds others needs no heading of its own.
        has_own = not value or any(not isinstance(item, dict) for item in value.values())
        found += ["", heading, *below] if has_own else below
    for key, entries in listed.items():
        for entry in entries:
            found += [
                "",
                f"[[{_key(key)}]]",
                *(f"{_key(name)} = {_value(item)}" for name, item in entry.items()),
            ]
    return found


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        items = [_value(item) for item in value]
        if _is_tables(value):
            return "[\n" + "".join(f"    {item},\n" for item in items) + "]"
        return f"[{', '.join(items)}]"
    raise TypeError(
        f"{value!r} is {type(value).__name__}, expected a number, text, or a list or table of them"
    )


def _string(text: str) -> str:
    # JSON's escapes are TOML's, but for U+007F, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
