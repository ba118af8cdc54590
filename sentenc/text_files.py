"""Texts out of files: plain, gzip or xz; one a line, or a field of each JSON line."""

import gzip
import io
import json
import lzma
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import click

_MAGIC: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open}


@contextmanager
def open_text(path: str) -> Iterator[Iterator[str]]:
    """The lines of a file, ``-`` for standard input, without their line ends; decompressed by content."""
    raw: BinaryIO = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115
    try:
        buffered = io.BufferedReader(raw) if isinstance(raw, io.RawIOBase) else raw
        yield _lines(path, _decompressed(buffered))
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
        raise click.ClickException(f"{path}, line {number}: not JSON: {error}") from error
    if not isinstance(value, dict) or field not in value:
        what = f"an object with {sorted(value)}" if isinstance(value, dict) else type(value).__name__
        raise click.ClickException(
            f"{path}, line {number}: {what}, expected an object with the field {field!r}"
        )
    if not isinstance(value[field], str):
        kind = type(value[field]).__name__
        raise click.ClickException(f"{path}, line {number}: field {field!r} is {kind}, expected a string")
    return str(value[field])


def _decompressed(file: Any) -> Any:
    start = file.peek(6)[:6]
    for magic, opener in _MAGIC.items():
        if start.startswith(magic):
            return opener(file, "rb")
    return file


def _lines(path: str, file: Any) -> Iterator[str]:
    number = 0
    try:
        for number, line in enumerate(file, 1):
            # Only "\n" and "\r\n" end a line; U+2028 and the like are part of it.
            text = line.rstrip(b"\n").removesuffix(b"\r")
            yield text.removeprefix(b"\xef\xbb\xbf").decode() if number == 1 else text.decode()
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{path}, line {number}: not UTF-8: {error}") from error
    except (EOFError, OSError, lzma.LZMAError) as error:
        raise click.ClickException(f"{path}, after line {number}: {error}") from error
