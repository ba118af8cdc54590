"""Parses the tables of a TOML file into dataclasses, with errors that name the key and the value."""

import os
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sentenc.io.remote import is_remote

T = TypeVar("T")
# Values of the key ``init`` that are not paths.
_INIT_KEYWORDS = ("teacher", "random")
# Beginnings of values that are paths even if nothing is there.
_PATH_BEGINNINGS = ("./", "../", "~")
# The items of lists and tables in messages.
_PLURALS: dict[Any, str] = {int: "integers", float: "numbers", str: "strings"}


def read_table(path: Path, overrides: Sequence[str], parse_content: Callable[[dict[str, Any], Path], T]) -> T:
    """Reads a TOML file and parses its content.

    Args:
        path: The file.
        overrides: Values that replace those of the file, each as "section.key=value"; see :func:`set_value`.
        parse_content: Returns the parsed content, given the table and the file's folder.

    Raises:
        ValueError: The file is not TOML, or its content is refused; the message names the file.
        TypeError: A value has the wrong type; the message names the file.
        OSError: The file cannot be read.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from error
    for override in overrides:
        set_value(table, override)
    try:
        return parse_content(table, path.parent)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from error


def resolve_paths(
    table: dict[str, Any], folder: Path, path_keys: Sequence[str], name_keys: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns a copy of a table whose relative paths start at a folder.

    Args:
        table: The table.
        folder: The folder.
        path_keys: Keys whose value is a path.
        name_keys: Keys whose value may be a path or a name (such as a Hub id), or a list of these. A value is
            a path if the file or folder exists, or if it begins with "./", "../" or "~". The ``init``
            "teacher" or "random" is never a path; a folder of that name is written as "./teacher".
    """

    def resolve(key: str, value: Any) -> Any:
        if isinstance(value, list):
            return [resolve(key, item) for item in value]
        if not isinstance(value, str) or (key == "init" and value in _INIT_KEYWORDS):
            return value
        if key in path_keys:
            return path_in(folder, value)
        if value.startswith(_PATH_BEGINNINGS):
            # A path that is relative to the current folder keeps its "./": "models/mine" alone is a Hub id.
            path = path_in(folder, value)
            return path if Path(path).is_absolute() else os.path.join(".", path)
        return path_in(folder, value) if (folder / value).exists() else value

    keys = {*path_keys, *name_keys}
    return {key: resolve(key, value) if key in keys else value for key, value in table.items()}


def path_in(folder: Path, name: str) -> str:
    """Returns a path relative to a folder. Absolute paths, and "~" for the home directory, do not change."""
    return str(folder / Path(name).expanduser())


def path_or_address_in(folder: Path, name: str) -> str:
    """Returns a path relative to a folder, or an address such as ``s3://bucket/name`` unchanged."""
    return name if is_remote(name) else path_in(folder, name)


def require_table(value: Any, name: str) -> dict[str, Any]:
    """Returns a copy of a value that is a table.

    Raises:
        TypeError: The value is something else or None; the message contains ``name``.
    """
    if value is None:
        raise TypeError(f"{name} is missing, expected a table")
    if not isinstance(value, dict):
        raise TypeError(f"{name} is {value!r}, expected a table")
    return dict(value)


def parse(kind: type[T], table: dict[str, Any], name: str) -> T:
    """Builds a dataclass from a table.

    Args:
        kind: The dataclass. The types of its fields may be those of TOML, ``Literal``, ``tuple`` or ``dict``
            with one type of items, unions of these, and ``Any``.
        table: The arguments of the dataclass. Lists become tuples for fields that are tuples.
        name: Name of the table in messages; "" for the top level of the file.

    Raises:
        ValueError: A key is unknown or missing, or the dataclass refuses a value; the message names the
            table.
        TypeError: A value does not have the type of its field.
    """
    prefix = f"{name}." if name else ""
    known: dict[str, Field[Any]] = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise ValueError(f"unknown key {prefix}{key}; known keys are {', '.join(known)}")
    types = get_type_hints(kind)
    arguments = {}
    for key, field in known.items():
        if key not in table:
            if field.default is MISSING and field.default_factory is MISSING:
                raise ValueError(f"{prefix}{key} is missing")
            continue
        value = table[key]
        if not _has_type(value, types[key]):
            raise TypeError(f"{prefix}{key} is {value!r}, expected {_describe(types[key])}")
        arguments[key] = tuple(value) if isinstance(value, list) and _may_be_tuple(types[key]) else value
    try:
        return kind(**arguments)
    except ValueError as error:
        # The checks of a class name the key, but not always the table.
        if name in str(error):
            raise
        raise ValueError(f"{name}: {error}") from error


def _may_be_tuple(hint: Any) -> bool:
    return get_origin(hint) is tuple or any(get_origin(part) is tuple for part in get_args(hint))


def parse_section(
    kind: type[T],
    section: Any,
    name: str,
    folder: Path,
    *,
    path_keys: Sequence[str] = (),
    name_keys: Sequence[str] = (),
) -> T:
    """Returns a section of a run file as a dataclass, with its paths resolved.

    Args:
        kind: The dataclass, see :func:`parse`.
        section: The section.
        name: The section's name in messages.
        folder: The folder to which paths are relative.
        path_keys: Keys of paths, see :func:`resolve_paths`.
        name_keys: Keys of paths or names, see :func:`resolve_paths`.

    Raises:
        ValueError: A key is unknown or missing, or the dataclass refuses a value; the message names the
            section.
        TypeError: The section is not a table, or a value has the wrong type.
    """
    return parse(kind, resolve_paths(require_table(section, name), folder, path_keys, name_keys), name)


def _has_type(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_has_type(value, part) for part in arguments)
    if origin is Literal:
        return any(value == choice for choice in arguments)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_has_type(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_has_type(item, arguments[1]) for item in value.values())
    if hint is Any:
        return True
    if hint in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, int | float if hint is float else hint)


def _describe(hint: Any) -> str:
    # The type in words, for messages.
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_describe(part) for part in arguments if part is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin is tuple:
        return f"a list of {_PLURALS.get(arguments[0], _describe(arguments[0]))}"
    if origin is dict:
        value = arguments[1]
        return "a table" if value is Any else f"a table of {_PLURALS.get(value, _describe(value))}"
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}
    return names.get(hint, str(hint))


def set_value(table: dict[str, Any], override: str) -> None:
    """Sets a value inside a table, in place.

    Args:
        table: Contains tables and lists of tables. Missing tables are created.
        override: "section.key=value" with the value in TOML syntax. A number selects an entry of a list:
            "losses.0.weight=2".

    Raises:
        ValueError: The override has no such form, or its path does not exist.
    """
    path, sign, text = override.partition("=")
    if not sign:
        raise ValueError(f"{override!r} has no value, expected section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise ValueError(
            f"{override!r} has no value in TOML syntax ({error}); a string needs quotes: key='\"text\"'"
        ) from error
    *sections, key = path.strip().split(".")
    target: Any = table
    for name in sections:
        target = _entry(target, name, override)
    if isinstance(target, list):
        raise ValueError(f"{override!r} replaces an entry of a list, expected a key of an entry")
    target[key] = value


def _entry(container: Any, name: str, override: str) -> Any:
    if isinstance(container, list):
        if not name.isdigit() or int(name) >= len(container):
            raise ValueError(f"{override!r}: entry is {name}, expected 0 to {len(container) - 1}")
        entry = container[int(name)]
    else:
        entry = container.setdefault(name, {})
    if not isinstance(entry, dict | list):
        raise ValueError(f"{override!r}: {name} is {entry!r}, expected a table")
    return entry
