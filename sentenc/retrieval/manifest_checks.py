"""Checks that the values in the manifest of an index have the types that the index needs."""

from dataclasses import dataclass, field
from typing import Any

from sentenc.errors import IndexFormatError
from sentenc.texts import describe

#: The keys of the current format that each version does not have. Version 1, of the releases without lexical
#: search, is read as an index of vectors alone.
KEYS_ADDED: dict[int, set[str]] = {
    1: {"words", "moments", "chunking", "reranker", "query_encoder"},
    2: {"query_encoder"},
    3: set(),
}  # fmt: skip


@dataclass(frozen=True)
class _Maybe:
    """A value of a kind, or null."""

    kind: Any


@dataclass(frozen=True)
class _ListOf:
    """A list of values of one kind."""

    kind: Any


@dataclass(frozen=True)
class _MapOf:
    """An object whose values are all of one kind."""

    kind: Any


@dataclass(frozen=True)
class _Table:
    """An object with the kinds of its keys."""

    required: dict[str, Any]
    optional: dict[str, Any] = field(default_factory=dict)


_RERANKER = _Table({"model": _Maybe(str), "fingerprint": str}, {"options": dict})
_ENCODER = _Table(_RERANKER.required, {"options": dict, "space": str})
_QUERY_ENCODER = _Table({**_RERANKER.required, "space": str}, {"options": dict, "items": int})
_SETTINGS: dict[str, Any] = {
    "sentenc_version": str,
    "generation": int,
    "dim": int,
    "metric": str,
    "kind": str,
    "store": str,
    "encoder": _Maybe(_ENCODER),
    "next_id": int,
    "segments": _ListOf(_Table({"name": str, "rows": int, "first_id": _Maybe(int)})),
    "deleted": _Maybe(str),
    "calibration": _Maybe(str),
    "structure": _Maybe(
        _Table({"name": str, "kind": str, "rows": int, "effort": int, "recall": _MapOf(float)})
    ),
    "files": _MapOf(_Table({"bytes": int, "sha256": str})),
    "notes": dict,
    "words": _Maybe(_Table({"language": str, "stemmer": _Maybe(str), "alpha": float})),
    "moments": _Maybe(str),
    "chunking": _Maybe(_Table({"tokens": int, "overlap": int})),
    "reranker": _Maybe(_RERANKER),
    "query_encoder": _Maybe(_QUERY_ENCODER),
}
_NAMES = {str: "str", int: "int", float: "a number", dict: "an object"}


def check_content(content: Any, place: str) -> None:
    """Checks the content of a manifest.

    Args:
        content: The value of its JSON.
        place: Its path, for messages.

    Raises:
        IndexFormatError: The format version is unknown, a key is missing or unknown, a value has another type, or
            the manifest refers to a file that it does not list; the message has the key.
    """
    version = content.get("format_version") if isinstance(content, dict) else None
    if type(version) is not int or version not in KEYS_ADDED:
        raise IndexFormatError(f"{place} has format_version {version}, expected at most {max(KEYS_ADDED)}")
    kinds = {key: kind for key, kind in _SETTINGS.items() if key not in KEYS_ADDED[version]}
    keys = kinds.keys() | {"format_version"}
    if set(content) != keys:
        missing, unexpected = sorted(keys - set(content)), sorted(set(content) - keys)
        raise IndexFormatError(f"{place} has missing keys {missing} and unexpected keys {unexpected}")
    for key, kind in kinds.items():
        _check(content[key], kind, f"{place}: {key}")
    if content["dim"] < 1:
        raise IndexFormatError(f"{place}: dim is {content['dim']}, expected at least 1")
    listed = {name.partition("/")[0] for name in content["files"]}
    named = {f"segments[{i}]": entry["name"] for i, entry in enumerate(content["segments"])}
    named |= {key: content.get(key) for key in ("deleted", "calibration", "moments")}
    named["structure"] = (content["structure"] or {}).get("name")
    for key, name in named.items():
        if name is not None and name not in listed:
            raise IndexFormatError(f"{place}: {key} is {name!r}, expected one of the files that it lists")


def _check(value: Any, kind: Any, place: str) -> None:
    if isinstance(kind, _Maybe):
        if value is None:
            return
        kind = kind.kind
    container: Any = (
        list if isinstance(kind, _ListOf) else dict if isinstance(kind, _MapOf | _Table) else kind
    )
    accepted: Any = int | float if container is float else container
    if not isinstance(value, accepted) or isinstance(value, bool):
        expected = "a list" if container is list else _NAMES[container]
        raise IndexFormatError(f"{place} is {describe(value)}, expected {expected}")
    if isinstance(kind, _ListOf):
        for i, item in enumerate(value):
            _check(item, kind.kind, f"{place}[{i}]")
    elif isinstance(kind, _MapOf):
        for key, item in value.items():
            _check(item, kind.kind, f"{place}[{key!r}]")
    elif isinstance(kind, _Table):
        for key, own in kind.required.items():
            if key not in value:
                raise IndexFormatError(f"{place} has no key {key!r}, expected one")
            _check(value[key], own, f"{place}.{key}")
        for key in kind.optional.keys() & value.keys():
            _check(value[key], kind.optional[key], f"{place}.{key}")
