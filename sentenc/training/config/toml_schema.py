"""Tables of a TOML file as dataclasses: names and types are checked, and what is wrong is named."""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
# Starts that are no files.
_WORDS = ("teacher", "random")


def read_table(path: Path, changes: Sequence[str], parse: Callable[[dict[str, Any], Path], T]) -> T:
    """Reads a TOML file and makes something of it.

    Args:
        path: The file.
        changes: "section.key=value" each, see :func:`set_value`: they win over the file.
        parse: Makes it of the table and the file's folder.

    Raises:
        ValueError: The file is no TOML, or its content is refused; the message names the file.
        TypeError: A value is of the wrong type.
        OSError: The file cannot be read.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from error
    for change in changes:
        set_value(table, change)
    try:
        return parse(table, path.parent)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from error


def resolve_paths(
    table: dict[str, Any], folder: Path, paths: Sequence[str], names: Sequence[str] = ()
) -> dict[str, Any]:
    """A table with its paths made relative to a folder.

    Args:
        table: Not changed.
        folder: What paths are relative to.
        paths: Keys of files or folders.
        names: Keys of what may be something else, if there is no such file, or of lists of such. A ``start`` of "teacher" or "random" is
            no file; a folder of that name is "./teacher".
    """
    found = dict(table)

    def place(key: str, value: Any) -> Any:
        if isinstance(value, list):
            return [place(key, item) for item in value]
        if not isinstance(value, str) or (key == "init" and value in _WORDS):
            return value
        return path_in(folder, value) if key in paths or (folder / value).exists() else value

    for key in (*paths, *names):
        if key in table:
            found[key] = place(key, table[key])
    return found


def path_in(folder: Path, name: str) -> str:
    """A path relative to a folder; one of the home directory or an absolute one stays what it is."""
    return str(folder / Path(name).expanduser())


def require_table(value: Any, where: str) -> dict[str, Any]:
    """A copy of the value, if it is a table.

    Raises:
        TypeError: It is not; the message has ``where``.
    """
    if not isinstance(value, dict):
        raise TypeError(f"{where} is {'missing' if value is None else repr(value)}, expected a table")
    return dict(value)


def parse(kind: type[T], table: dict[str, Any], where: str) -> T:
    """A dataclass made from a table.

    Args:
        kind: The dataclass; types that may stand in its hints are those of TOML, Literal, tuple and dict of
            one type, unions of them, and Any.
        table: Its arguments.
        where: What messages call the table; "" for the file itself.

    Raises:
        ValueError: A key is unknown or missing, or the class refuses a value.
        TypeError: A value is of another type than its hint.
    """
    place = f"{where}." if where else ""
    known: dict[str, Field[Any]] = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    for name in table:
        if name not in known:
            raise ValueError(f"unknown key {place}{name}; known are {', '.join(known)}")
    hints = get_type_hints(kind)
    for name, item in known.items():
        if name not in table:
            if item.default is MISSING and item.default_factory is MISSING:
                raise ValueError(f"{place}{name} is missing")
        elif not _fits(table[name], hints[name]):
            raise TypeError(f"{place}{name} is {table[name]!r}, expected {_words(hints[name])}")
    # TOML has lists only: a field that is a tuple becomes one.
    return kind(**{
        name: tuple(value) if isinstance(value, list) and _is_tuple(hints[name]) else value
        for name, value in table.items()
    })  # fmt: skip


def _is_tuple(hint: Any) -> bool:
    return get_origin(hint) is tuple or any(get_origin(part) is tuple for part in get_args(hint))


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in arguments)
    if origin is Literal:
        return any(value == choice for choice in arguments)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, arguments[1]) for item in value.values())
    if hint is Any:
        return True
    if hint in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, int | float if hint is float else hint)


def _words(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_words(part) for part in arguments if part is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin is tuple:
        return f"a list of {_words(arguments[0])}"
    if origin is dict:
        return "a table" if arguments[1] is Any else f"a table of {_words(arguments[1])}"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}.get(
        hint, str(hint)
    )


def set_value(table: dict[str, Any], change: str) -> None:
    """Sets a value within a table, in place.

    Args:
        table: Tables and lists of tables; those that are not there yet are made.
        change: "section.key=value", the value in TOML's syntax; a number stands for an entry of a list.

    Raises:
        ValueError: It cannot be understood, or leads nowhere.
    """
    path, sign, text = change.partition("=")
    if not sign:
        raise ValueError(f"{change!r} sets nothing, expected section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise ValueError(
            f"{change!r} has no value in TOML's syntax ({error}); a string needs quotes: key='\"text\"'"
        ) from error
    *sections, key = path.strip().split(".")
    here: Any = table
    for name in sections:
        here = _inside(here, name, change)
    if isinstance(here, list):
        raise ValueError(f"{change!r} replaces an entry of a list, expected a key of one")
    here[key] = value


def _inside(here: Any, name: str, change: str) -> Any:
    if isinstance(here, list):
        if not name.isdigit() or int(name) >= len(here):
            raise ValueError(f"{change!r}: there is no entry {name}, expected 0 to {len(here) - 1}")
        found = here[int(name)]
    else:
        found = here.setdefault(name, {})
    if not isinstance(found, dict | list):
        raise ValueError(f"{change!r}: {name} is {found!r}, expected a table")
    return found
