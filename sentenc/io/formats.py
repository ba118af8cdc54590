"""File formats: the format by the suffix of a name, the compression by the first bytes of the content."""

import gzip
import lzma
import os
import zlib
from collections.abc import Callable
from typing import Any

from sentenc.errors import TextFileError

FORMATS = ("text", "csv", "tsv", "jsonl", "parquet")
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
# First bytes of a compressed file, how to open it, and a decompressor for its beginning alone.
_COMPRESSIONS: tuple[tuple[bytes, Callable[..., Any], Callable[[], Any]], ...] = (
    (b"\x1f\x8b", gzip.open, lambda: zlib.decompressobj(wbits=31)),
    (b"\xfd7zXZ\x00", lzma.open, lzma.LZMADecompressor),
)
DECOMPRESSION_ERRORS = (EOFError, OSError, lzma.LZMAError, zlib.error)


def file_format(path: str) -> str:
    """Returns the format that belongs to the suffix of a file, before .gz or .xz; "text" if it is unknown.

    Raises:
        TextFileError: The suffix is .json: a single JSON value cannot be streamed.
    """
    stem, suffix = os.path.splitext(path.lower())
    if suffix in (".gz", ".xz"):
        suffix = os.path.splitext(stem)[1]
    if suffix == ".json":
        raise TextFileError(
            f"{path} is JSON, expected JSON lines: one object a line, in a file named .jsonl "
            "(or with --format jsonl, where a command has this option)"
        )
    return _SUFFIXES.get(suffix, "text")


def decompressed(file: Any) -> Any:
    """Returns the content of a binary file that can ``peek``: decompressed if it is gzip or xz."""
    start = file.peek(6)[:6]
    for magic, opener, _ in _COMPRESSIONS:
        if start.startswith(magic):
            return opener(file, "rb")
    return file


def decompressed_head(head: bytes) -> bytes:
    """Returns the content of the first bytes of a file, decompressed as far as they reach.

    Raises:
        zlib.error, lzma.LZMAError: The compressed data are damaged.
    """
    for magic, _, decompressor in _COMPRESSIONS:
        if head.startswith(magic):
            return bytes(decompressor().decompress(head))
    return head
