"""Lines of text files, plain or compressed, or of standard input, in bounded memory."""

import codecs
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO, NamedTuple

from sentenc.errors import TextFileError
from sentenc.io.compression import DECOMPRESSION_ERRORS, decompressed
from sentenc.io.files import open_file

OnBytes = Callable[[int], None]
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Lines are read into memory whole, so a file without line ends must not be a single line.
MOST_BYTES_PER_LINE = 1 << 26
_BYTES_PER_READ = 1 << 17
_LINES_PER_REPORT = 1024


class Malformed(NamedTuple):
    """A line or row that cannot be read, with the reason."""

    why: str


@contextmanager
def open_lines(
    path: str,
    *,
    encoding: str = "utf-8",
    max_line_bytes: int = MOST_BYTES_PER_LINE,
    on_bytes: OnBytes | None = None,
) -> Iterator[Iterator[tuple[int, str | Malformed]]]:
    r"""Opens a file and yields its lines with their numbers from 1.

    Only ``\n`` ends a line; U+2028 and similar characters are part of it. Lines contain their ends. A byte
    order mark is removed, and compressed content (gzip, bzip2, xz, Zstandard) is decompressed.

    Args:
        path: A file or its address; ``-`` is standard input.
        encoding: Encoding of the text, one in which a line ends with the byte 10.
        max_line_bytes: A longer line is malformed, and is skipped without being read into memory.
        on_bytes: Called from time to time with the number of bytes (as stored on disk) since the last call.
            Never called for a file without a position, such as a pipe.

    Raises:
        TextFileError: The file is compressed in another way, or it is an archive or Parquet; or, while the
            lines are read, the compressed data are damaged; with file and line.
        MissingExtraError: The file is compressed by Zstandard, and pyarrow is not installed.
        OSError: The file cannot be opened.
    """
    raw: BinaryIO = sys.stdin.buffer if path == "-" else open_file(path)
    try:
        buffered: Any = raw if hasattr(raw, "peek") else io.BufferedReader(raw)
        content = decompressed(path, buffered)
        # The decompressing files find line ends in Python, BufferedReader in C.
        file = content if content is buffered else io.BufferedReader(content, _BYTES_PER_READ)
        lines = _numbered_lines(path, file, encoding, max_line_bytes)
        yield lines if on_bytes is None or not buffered.seekable() else _reported(lines, buffered, on_bytes)
    finally:
        if path != "-":
            raw.close()


@contextmanager
def open_text(path: str, *, on_bytes: OnBytes | None = None) -> Iterator[Iterator[str]]:
    r"""Opens a file in UTF-8 and yields its lines without their ends, ``\n`` or ``\r\n``.

    Args:
        path: A file, plain or compressed; ``-`` is standard input.
        on_bytes: Called from time to time with the number of bytes read; see :func:`open_lines`.

    Raises:
        TextFileError: While the lines are read: a line is not UTF-8 or too long, or the compressed data are
            damaged; with file and line.
        OSError: The file cannot be opened.
    """
    with open_lines(path, on_bytes=on_bytes) as lines:
        yield _without_ends(path, lines)


def _numbered_lines(
    path: str, file: Any, encoding: str, max_bytes: int
) -> Iterator[tuple[int, str | Malformed]]:
    number = 0
    try:
        for number, line in enumerate(iter(partial(file.readline, max_bytes), b""), 1):
            if len(line) == max_bytes and not line.endswith(b"\n"):
                while (rest := file.readline(max_bytes)) and not rest.endswith(b"\n"):
                    pass
                yield number, Malformed(f"the line has more than {max_bytes} bytes")
                continue
            try:
                yield number, (line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line).decode(encoding)
            except UnicodeDecodeError as error:
                yield number, Malformed(_undecodable(error, encoding, number))
    except DECOMPRESSION_ERRORS as error:
        raise TextFileError(
            f"{path}, after line {number}: the compressed content is damaged or cut off: {error}"
        ) from error


def _undecodable(error: UnicodeDecodeError, encoding: str, number: int) -> str:
    if number == 1 and error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"not {encoding.upper()} but UTF-16: convert it (iconv -f UTF-16 -t UTF-8)"
    # Counted without the byte order mark, which is no part of the line.
    bad_byte = error.object[error.start]
    why = f"not {encoding.upper()}: byte {bad_byte:#04x} in column {error.start + 1}"
    return why + ("; iconv -f CP1252 -t UTF-8 converts texts of Windows" if encoding == "utf-8" else "")


def _without_ends(path: str, lines: Iterator[tuple[int, str | Malformed]]) -> Iterator[str]:
    for number, line in lines:
        if isinstance(line, Malformed):
            raise TextFileError(f"{path}, line {number}: {line.why}")
        yield line.removesuffix("\n").removesuffix("\r")


def _reported(
    lines: Iterator[tuple[int, str | Malformed]], file: Any, on_bytes: OnBytes
) -> Iterator[tuple[int, str | Malformed]]:
    reported = 0
    for number, line in lines:
        yield number, line
        if number % _LINES_PER_REPORT == 0:
            position = file.tell()
            on_bytes(position - reported)
            reported = position
    on_bytes(file.tell() - reported)
