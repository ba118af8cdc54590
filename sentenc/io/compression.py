"""Compressed files: gzip, bzip2, xz and Zstandard, known by the first bytes of the content."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

from sentenc.errors import MissingExtraError, TextFileError

# Suffixes that are removed to find the format of a file.
SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
# pyarrow and zlib raise OSError, and lzma raises its own.
DECOMPRESSION_ERRORS = (EOFError, OSError, lzma.LZMAError, zlib.error)
# The longest of the first bytes below.
_BYTES_OF_START = 10
_BYTES_PER_READ = 1 << 16


class _Compression(NamedTuple):
    start: bytes
    open: Callable[..., Any]
    # Decompresses the beginning of a file alone. None: by ``open``, until the content ends.
    decompressor: Callable[[], Any] | None


def _open_zstd(file: Any, _mode: str = "rb") -> Any:
    try:
        arrow = import_module("pyarrow")
    except ImportError as error:
        raise MissingExtraError(
            "parquet", "pyarrow", "reading files compressed by Zstandard (.zst)"
        ) from error
    return arrow.CompressedInputStream(arrow.PythonFile(file, "r"), "zstd")


_COMPRESSIONS = (
    _Compression(b"\x1f\x8b", gzip.open, lambda: zlib.decompressobj(wbits=31)),
    _Compression(b"\xfd7zXZ\x00", lzma.open, lzma.LZMADecompressor),
    *(_Compression(b"BZh%d1AY&SY" % level, bz2.open, bz2.BZ2Decompressor) for level in range(1, 10)),
    _Compression(b"\x28\xb5\x2f\xfd", _open_zstd, None),
)
# First bytes of files that are not text, and their kinds.
_REFUSED = {
    b"\x04\x22\x4d\x18": "compressed by LZ4",
    b"\x1f\x9d": "compressed by compress",
    b"7z\xbc\xaf\x27\x1c": "compressed by 7-Zip",
    b"Rar!\x1a\x07": "compressed by RAR",
    b"PK\x03\x04": "a compressed archive (ZIP, or a workbook of Excel)",
    b"PAR1": "Parquet",
}


def without_compression(path: str) -> str:
    """Returns a path without the suffix of a compression."""
    lower = path.lower()
    return next((path[: -len(suffix)] for suffix in SUFFIXES if lower.endswith(suffix)), path)


def decompressed(path: str, file: Any) -> Any:
    """Returns the content of a binary file that can ``peek``, decompressed if it is compressed.

    Args:
        path: The name of the file, for messages.
        file: The file.

    Raises:
        TextFileError: The file is compressed in another way, or it is an archive or Parquet.
        MissingExtraError: The file is compressed by Zstandard, and pyarrow is not installed.
    """
    start = file.peek(_BYTES_OF_START)[:_BYTES_OF_START]
    for compression in _COMPRESSIONS:
        if start.startswith(compression.start):
            return compression.open(file, "rb")
    for magic, kind in _REFUSED.items():
        if start.startswith(magic):
            way_out = "name it .parquet" if kind == "Parquet" else "unpack it first"
            raise TextFileError(
                f"{path} is {kind}, expected text, plain or compressed by gzip, bzip2, xz or Zstandard: {way_out}"
            )
    return file


@contextmanager
def open_binary(path: str) -> Iterator[Any]:
    """Opens a file for reading bytes, decompressed if it is compressed. The errors are those of ``decompressed``."""
    with open(path, "rb") as file:
        content = decompressed(path, file)
        yield content if content is file else io.BufferedReader(content)


def decompressed_head(head: bytes) -> tuple[bytes, int]:
    """Decompresses the first bytes of a file as far as they reach.

    Returns:
        The content, and the number of bytes of ``head`` that contain it.

    Raises:
        DECOMPRESSION_ERRORS: The compressed data are damaged.
        MissingExtraError: They are compressed by Zstandard, and pyarrow is not installed.
    """
    for compression in _COMPRESSIONS:
        if head.startswith(compression.start):
            if compression.decompressor is None:
                return _read_until_cut(compression.open(io.BytesIO(head))), len(head)
            decompressor = compression.decompressor()
            content = bytes(decompressor.decompress(head))
            # A file may be a series of compressed parts, of which this is the first.
            return content, len(head) - len(decompressor.unused_data)
    return head, len(head)


def _read_until_cut(file: Any) -> bytes:
    parts: list[bytes] = []
    try:
        while part := file.read(_BYTES_PER_READ):
            parts.append(part)
    except OSError:
        if not parts:
            raise
    return b"".join(parts)
