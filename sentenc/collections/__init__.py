"""Small text collections that ship with the package, for the demo and for experiments."""

import json
import lzma
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Passage", "available_collections", "read_collection"]

_FOLDER = Path(__file__).parent
_SUFFIX = ".jsonl.xz"


@dataclass(frozen=True, slots=True)
class Passage:
    """A sentence of a collection, with its labels.

    Attributes:
        text: The sentence.
        payload: Its labels by name; in ``"factbook"`` they are ``country`` and ``topic``.
    """

    text: str
    payload: dict[str, str]


def available_collections() -> list[str]:
    """Returns the names of the collections that ship with the package."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in _FOLDER.glob(f"*{_SUFFIX}"))


def read_collection(name: str) -> list[Passage]:
    """Reads a collection.

    Args:
        name: One of :func:`available_collections`. ``"factbook"`` contains the prose of the World Factbook.

    Returns:
        The passages, in the order of the file.

    Raises:
        ValueError: There is no collection of that name.
    """
    names = available_collections()
    if name not in names:
        raise ValueError(f"name is {name!r}, expected one of {', '.join(names)}")
    with lzma.open(_FOLDER / f"{name}{_SUFFIX}", "rt", encoding="utf-8") as lines:
        passages = []
        for line in lines:
            payload = json.loads(line)
            passages.append(Passage(payload.pop("text"), payload))
    return passages
