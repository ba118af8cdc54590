"""Rows of texts out of corpus files: what is malformed is handed on as such, not raised."""

import csv
import io
import json
import lzma
import os
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from sentenc.errors import CorpusError, MissingExtraError
from sentenc.io.text import decompressed

# A longer line is no text to train on, and would have to be held whole.
_LONGEST_LINE = 1 << 20
_PARQUET_BATCH = 4096
# As much of a file as tells how densely its lines stand.
_HEAD = 1 << 18
_TABLES = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip


class Malformed(NamedTuple):
    """Why a line holds no row."""

    why: str


# The texts of a line, stripped; () for a blank line.
Row = tuple[str, ...] | Malformed


def corpus_format(path: str) -> str:
    """ "text", "csv", "tsv", "jsonl" or "parquet", by the suffix before .gz or .xz; text if it is none.

    Raises:
        CorpusError: The suffix is .json: one value in all, which cannot be streamed.
    """
    stem, suffix = os.path.splitext(path.lower())
    if suffix in (".gz", ".xz"):
        suffix = os.path.splitext(stem)[1]
    if suffix == ".json":
        raise CorpusError(f"{path} is JSON, expected JSON lines: an object a line, in a file named .jsonl")
    return _TABLES.get(suffix, "text")


def read_rows(path: str, n_texts: int, fields: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    """The rows of a file with the number of the line (of the row, in Parquet) where each begins, from 1.

    Args:
        path: A file; its suffix says the format, its first bytes whether it is compressed.
        n_texts: Texts a row: 1, 2 or 3. A third one, the hard negative, must not be empty.
        fields: Names of the columns with the texts. Of TSV, (): no header, the columns in order; other
            columns are ignored only where one text is wanted.

    Raises:
        CorpusError: While reading: the file is damaged, or its header lacks the fields.
        OSError: The file cannot be opened.
    """
    kind = corpus_format(path)
    if kind == "parquet":
        return _parquet(path, fields)
    if kind == "csv":
        return _csv(path, fields)
    if kind == "jsonl":
        return _json_lines(path, fields)
    return _tsv(path, n_texts, fields) if kind == "tsv" else _plain(path)


def estimate_rows(path: str) -> float:
    """About how many rows a file has, from its size and the lines in its beginning; exact for Parquet."""
    if corpus_format(path) == "parquet":
        with open(path, "rb") as file:
            return float(_parquet_file(path, file)[1].metadata.num_rows)
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    raw = len(head)
    try:
        if head.startswith(b"\x1f\x8b"):
            head = zlib.decompressobj(wbits=31).decompress(head)
        elif head.startswith(b"\xfd7zXZ\x00"):
            head = lzma.LZMADecompressor().decompress(head)
    except (zlib.error, lzma.LZMAError) as error:
        raise CorpusError(f"{path}, at its beginning: {error}") from error
    return max(1, head.count(b"\n")) * size / raw if raw else 0.0


def checked_row(values: Sequence[Any], names: Sequence[str]) -> Row:
    """The texts of a row, stripped; malformed where one is no string, or the third one is empty."""
    texts = []
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, str):
            return Malformed(f"{name} is {type(value).__name__}, expected a string")
        if not value.isascii() and not _is_unicode(value):
            return Malformed(f"{name} is not UTF-8")
        texts.append(value.strip())
    if len(texts) == 3 and not texts[2]:
        return Malformed(f"{names[2]} is empty, expected the text of a negative")
    return tuple(texts)


def _is_unicode(text: str) -> bool:
    # Lone surrogates: from escapes of JSON, or put there by _csv for bytes that are not UTF-8.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _byte_lines(path: str) -> Iterator[tuple[int, bytes | Malformed]]:
    number = 0
    with open(path, "rb") as raw:
        file = decompressed(raw)
        # gzip and lzma read lines in Python, BufferedReader in C.
        buffered = io.BufferedReader(file, 1 << 17) if file is not raw else file
        try:
            for line in iter(partial(buffered.readline, _LONGEST_LINE), b""):
                number += 1
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if len(line) < _LONGEST_LINE or line.endswith(b"\n"):
                    yield number, line
                    continue
                while (rest := buffered.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
                    pass
                yield number, Malformed(f"a line of more than {_LONGEST_LINE} bytes")
        except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            raise CorpusError(f"{path}, after line {number}: {error}") from error


def _text_lines(path: str) -> Iterator[tuple[int, str | Malformed]]:
    for number, line in _byte_lines(path):
        if isinstance(line, Malformed):
            yield number, line
            continue
        try:
            yield number, line.decode()
        except UnicodeDecodeError as error:
            yield number, Malformed(f"not UTF-8: byte {line[error.start]:#04x} in column {error.start + 1}")


def _plain(path: str) -> Iterator[tuple[int, Row]]:
    for number, line in _text_lines(path):
        if isinstance(line, Malformed):
            yield number, line
        else:
            text = line.strip()
            yield number, (text,) if text else ()


def _tsv(path: str, n_texts: int, fields: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    names = [f"column {i}" for i in range(1, n_texts + 1)]
    places: list[int] | None = list(range(n_texts)) if not fields else None
    n_columns = n_texts
    for number, line in _text_lines(path):
        if isinstance(line, Malformed):
            yield number, line
            continue
        if not line.strip():
            yield number, ()
            continue
        cells = line.rstrip("\r\n").split("\t")
        if places is None:
            places, n_columns, names = _places(path, cells, fields), len(cells), list(fields)
        elif len(cells) != n_columns and (n_columns > 1 or fields):
            yield number, Malformed(f"number of columns is {len(cells)}, expected {n_columns}")
        else:
            yield number, checked_row([cells[i] for i in places], names)


def _csv(path: str, fields: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    reader = csv.reader(_csv_lines(path), strict=True)
    places: list[int] | None = None
    n_columns = 0
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield number, Malformed(f"bad CSV: {error}")
            continue
        if cells is None:
            return
        if not cells:
            yield number, ()
        elif places is None:
            places, n_columns = _places(path, cells, fields), len(cells)
        elif len(cells) != n_columns:
            yield number, Malformed(f"number of columns is {len(cells)}, expected the header's {n_columns}")
        else:
            yield number, checked_row([cells[i] for i in places], fields)


def _csv_lines(path: str) -> Iterator[str]:
    # A row may run over lines, so that what is malformed must pass through the reader of CSV: bad bytes
    # as lone surrogates, which checked_row finds, and lines too long as a field that the reader refuses.
    for _, line in _byte_lines(path):
        if isinstance(line, Malformed):
            yield "x" * (csv.field_size_limit() + 1)
        else:
            yield line.decode(errors="surrogateescape")


def _places(path: str, header: Sequence[str], fields: tuple[str, ...]) -> list[int]:
    for name in fields:
        if header.count(name) != 1:
            what = (
                f"has no column {name!r}" if name not in header else f"has the column {name!r} more than once"
            )
            raise CorpusError(f"{path} {what}, its columns are {', '.join(map(repr, header))}")
    return [header.index(name) for name in fields]


def _json_lines(path: str, fields: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    for number, line in _text_lines(path):
        if isinstance(line, Malformed):
            yield number, line
        elif not line.strip():
            yield number, ()
        else:
            yield number, _json_row(line, fields)


def _json_row(line: str, fields: tuple[str, ...]) -> Row:
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Malformed(f"not JSON: {error}")
    if not isinstance(record, dict):
        return Malformed(f"JSON is {type(record).__name__}, expected an object")
    for name in fields:
        if name not in record:
            return Malformed(f"no field {name!r}, only {', '.join(map(repr, list(record)[:20])) or 'none'}")
    return checked_row([record[name] for name in fields], fields)


def _parquet(path: str, fields: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    number = 0
    with open(path, "rb") as source:
        arrow, file = _parquet_file(path, source)
        _places(path, file.schema_arrow.names, fields)
        try:
            for batch in file.iter_batches(_PARQUET_BATCH, columns=list(fields)):
                columns = [batch.column(name).to_pylist() for name in fields]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield number, checked_row(values, fields)
        # A string that is not UTF-8 is a ValueError.
        except (arrow.ArrowException, ValueError, OSError) as error:
            raise CorpusError(f"{path}, after row {number}: {error}") from error


def _parquet_file(path: str, source: Any) -> tuple[Any, Any]:
    # pyarrow, whose errors the reader must know, and the open file.
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow", "reading Parquet") from error
    try:
        # Without the buffer that would hold a whole row group in advance.
        return pa, pq.ParquetFile(source, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{path}: not a Parquet file: {error}") from error
