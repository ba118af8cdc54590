"""Texts out of files: plain, gzip or xz; one a line, or a field of each JSON line."""

import gzip
import io
import json
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from sentenc.errors import TextFileError

_MAGIC: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open}
# Lines between two reports of how far a file has been read.
_REPORT = 1024


@contextmanager
def open_text(
    path: str, *, keep_ends: bool = False, on_bytes: Callable[[int], None] | None = None
) -> Iterator[Iterator[str]]:
    """The lines of a file, ``-`` for standard input; decompressed by content, without a byte order mark.

    Args:
        path: A file in UTF-8, as it is or compressed by gzip or xz.
        keep_ends: Leave the line ends in place, for a reader to which they mean something.
        on_bytes: Told now and then how many bytes of the file (as it lies on disk) were read since it
            was last told. Never called for what cannot tell its position, such as a pipe.

    Raises:
        TextFileError: While the lines are read: not UTF-8, or damaged; with the file and the line.
        OSError: The file cannot be opened.
    """
    raw: BinaryIO = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115
    try:
        buffered: Any = raw if hasattr(raw, "peek") else io.BufferedReader(raw)
        lines = _lines(path, decompressed(buffered), keep_ends)
        yield lines if on_bytes is None or not buffered.seekable() else _reported(lines, buffered, on_bytes)
    finally:
        if path != "-":
            raw.close()


def read_texts(path: str, lines: Iterator[str], field: str | None) -> Iterator[str]:
    """The text of every line: the line itself, or the string under ``field`` of its JSON object."""
    for number, line in enumerate(lines, 1):
        yield line if field is None else _field(path, number, line, field)


def _field(path: str, number: int, line: str, field: str) -> str:
    try:
        value: Any = json.loads(line)
    except ValueError as error:
        raise TextFileError(f"{path}, line {number}: not JSON: {error}") from error
    if not isinstance(value, dict) or field not in value:
        what = f"an object with {sorted(value)}" if isinstance(value, dict) else type(value).__name__
        raise TextFileError(f"{path}, line {number}: {what}, expected an object with the field {field!r}")
    if not isinstance(value[field], str):
        kind = type(value[field]).__name__
        raise TextFileError(f"{path}, line {number}: field {field!r} is {kind}, expected a string")
    return str(value[field])


def decompressed(file: Any) -> Any:
    """The content of a binary file that can ``peek``: as it is, or out of gzip or xz, told by its first bytes."""
    start = file.peek(6)[:6]
    for magic, opener in _MAGIC.items():
        if start.startswith(magic):
            return opener(file, "rb")
    return file


def _lines(path: str, file: Any, keep_ends: bool) -> Iterator[str]:
    number = 0
    try:
        for number, line in enumerate(file, 1):
            # Only "\n" and "\r\n" end a line; U+2028 and the like are part of it.
            text = line if keep_ends else line.rstrip(b"\n").removesuffix(b"\r")
            yield text.removeprefix(b"\xef\xbb\xbf").decode() if number == 1 else text.decode()
    except UnicodeDecodeError as error:
        raise TextFileError(f"{path}, line {number}: not UTF-8: {error}") from error
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise TextFileError(f"{path}, after line {number}: {error}") from error


def _reported(lines: Iterator[str], file: Any, on_bytes: Callable[[int], None]) -> Iterator[str]:
    told = 0
    for number, line in enumerate(lines, 1):
        yield line
        if number % _REPORT == 0:
            position = file.tell()
            on_bytes(position - told)
            told = position
    on_bytes(file.tell() - told)
