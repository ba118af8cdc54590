"""Readers of texts, tables and records; writers of vectors; atomic writes and progress bars.

The lowest package: its modules import nothing of sentenc but the errors and each other. The names below are
imported when they are first used, because an encoder needs none of the readers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentenc.io.formats import FORMATS
    from sentenc.io.records import TEXT_FIELDS, Record, read_records

_HOME = {
    "FORMATS": "sentenc.io.formats",
    "TEXT_FIELDS": "sentenc.io.records",
    "Record": "sentenc.io.records",
    "read_records": "sentenc.io.records",
}

__all__ = ["FORMATS", "TEXT_FIELDS", "Record", "read_records"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sentenc.io' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
