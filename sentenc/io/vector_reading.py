"""Reads texts with their vectors from Parquet, ``.npz`` and JSON lines files."""

import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import TextFileError
from sentenc.io.columns import json_kind, listed
from sentenc.io.files import files_below
from sentenc.io.parquet import VectorBlocks, open_vector_columns
from sentenc.io.records import likely_text_field
from sentenc.io.tables import open_columns, open_table
from sentenc.io.text import Malformed
from sentenc.io.text_vectors import Floats, Spool, TextVectors, checked_dim, rows_per_block, select_rows

# Names of the two columns, if the caller passes none.
_TEXT_NAMES = ("text", "texts")
_VECTOR_NAMES = ("embedding", "embeddings", "vector", "vectors")
# The entry of a file's metadata with the options of ``sentenc encode``.
_OPTIONS = "sentenc.shard"
_ROWS_PER_BLOCK = 1024
# The bytes of the header of a member of a zip file, and where it has the lengths of what follows.
_ZIP_HEADER, _ZIP_LENGTHS = 30, slice(26, 30)


def read_vector_file(
    path: str | os.PathLike[str], *, text_field: str | None = None, vector_field: str | None = None
) -> TextVectors:
    """Reads texts and vectors from a Parquet, ``.npz`` or JSON lines file.

    Texts without a visible character, and those whose vector is null, zero or not finite, are left out and counted.

    Args:
        path: A file with one of the suffixes .parquet, .pq, .npz, .jsonl and .ndjson.
        text_field: Name of the column or array of texts; by default "text" or "texts".
        vector_field: Name of the column or array of vectors; by default "embedding", "embeddings", "vector" or
            "vectors".

    Raises:
        TextFileError: A column is missing, lengths differ, or the file is damaged; with the row if there is one.
        MissingExtraError: The file is Parquet, and pyarrow is not installed.
        ValueError: The suffix is another one.
        OSError: The file cannot be opened.
    """
    name = os.fspath(path)
    suffix = Path(name).suffix.lower()
    fields = (text_field, vector_field)
    if suffix == ".npz":
        return _read_npz(name, *fields)
    if suffix in (".parquet", ".pq"):
        return _read_parquet(name, [name], *fields)
    if suffix in (".jsonl", ".ndjson"):
        return _read_jsonl(name, *fields)
    raise ValueError(
        f"{name} ends in {suffix!r}, expected .parquet, .npz or .jsonl, or the folder of an index"
    )


def read_vector_folder(
    folder: str | os.PathLike[str], *, text_field: str | None = None, vector_field: str | None = None
) -> TextVectors:
    """Reads texts and vectors from the Parquet files in a folder and below it; see :func:`read_vector_file`.

    Raises:
        TextFileError: The folder has no such file, or the files have different dimensions or encoders. The other
            errors are those of :func:`read_vector_file`.
    """
    name = os.fspath(folder)
    files = [str(path) for path in files_below(name) if path.suffix == ".parquet"]
    if not files:
        raise TextFileError(f"{name} has no .parquet file, expected files with texts and vectors")
    return _read_parquet(name, files, text_field, vector_field)


@contextmanager
def open_text_vectors(
    path: str, text_field: str | None = None, vector_field: str | None = None
) -> Iterator[tuple[dict[str, str], VectorBlocks]]:
    """Opens the texts and vectors of a Parquet file; see :func:`~sentenc.io.parquet.open_vector_columns`.

    Args:
        path: The file or its address.
        text_field: The column of texts; by default the one that the file states, or "text" or "texts".
        vector_field: The column of vectors; by default the one that the file states, or "embedding",
            "embeddings", "vector" or "vectors".

    Raises:
        TextFileError: The file has no such column, or is damaged.
        MissingExtraError: pyarrow is not installed.
    """

    def names(columns: Sequence[str], strings: Sequence[str], described: dict[str, str]) -> tuple[str, str]:
        options = _options(described)
        text = text_field or options.get("text")
        if options and text is None:
            # The command has chosen the column by this rule.
            text = likely_text_field(path, strings, columns)
        vectors = vector_field or options.get("column")
        return (
            _name(path, columns, text, _TEXT_NAMES, "column"),
            _name(path, columns, vectors, _VECTOR_NAMES, "column"),
        )

    with open_vector_columns(path, names, rows_per_block) as opened:
        yield opened


def stated_encoder(described: dict[str, str]) -> str:
    """Returns the fingerprint of the encoder that a file states, and the prompt that it put before the texts.

    Returns:
        "FINGERPRINT" or "FINGERPRINT PROMPT"; "unstated" in the place of a fingerprint that is not stated.
    """
    options = _options(described)
    prompt = options.get("role") or options.get("prompt_name")
    return " ".join([described.get("fingerprint", "unstated"), *([str(prompt)] if prompt else [])])


def _options(described: dict[str, str]) -> dict[str, Any]:
    # The options of ``sentenc encode`` that wrote the file.
    try:
        options = json.loads(described.get(_OPTIONS, "{}")).get("options", {})
    except (ValueError, AttributeError):
        return {}
    return options if isinstance(options, dict) else {}


def _name(path: str, names: Sequence[str], field: str | None, defaults: Sequence[str], unit: str) -> str:
    # The name of a column: the one that was passed, or the first of the defaults that exists.
    for name in defaults if field is None else (field,):
        if name in names:
            return name
    expected = repr(field) if field is not None else listed(defaults)
    raise TextFileError(f"{path} has no {unit} {expected}, only {listed(names)}")


def _read_parquet(
    source: str, paths: Sequence[str], text_field: str | None, vector_field: str | None
) -> TextVectors:
    encoders: dict[str, str] = {}
    first_described: dict[str, str] = {}
    with closing(Spool(source)) as spool:
        for path in paths:
            with open_text_vectors(path, text_field, vector_field) as (described, blocks):
                encoders.setdefault(stated_encoder(described), path)
                if len(encoders) > 1:
                    (one, first), (other, second) = encoders.items()
                    raise TextFileError(
                        f"{first} contains vectors of an encoder with the fingerprint {one}, and {second} those "
                        f"of one with {other}, expected one encoder"
                    )
                first_described = first_described or described
                for row, texts, vectors, n_without in blocks:
                    spool.counts.add("no vector", n_without)
                    place = f"row {row}" if path == source else f"{os.path.relpath(path, source)}, row {row}"
                    spool.add(texts, vectors, place)
        return spool.finished(first_described)


def _read_jsonl(path: str, text_field: str | None, vector_field: str | None) -> TextVectors:
    with open_table(path) as table:
        example = next((row for _, row in table.rows if isinstance(row, dict)), {})
    fields = (
        _name(path, list(example), text_field, _TEXT_NAMES, "field"),
        _name(path, list(example), vector_field, _VECTOR_NAMES, "field"),
    )
    with closing(Spool(path)) as spool:
        with open_columns(path, fields) as rows:
            for first, texts, vectors, n_without in _json_blocks(path, rows):
                spool.counts.add("no vector", n_without)
                spool.add(texts, vectors, f"line {first}")
        return spool.finished({})


def _json_blocks(path: str, rows: Iterator[tuple[int, Any]]) -> VectorBlocks:
    # Vectors of one length, with the line of the first; see open_vector_columns.
    texts: list[str | None] = []
    vectors: list[Floats] = []
    first = n_without = 0
    for number, row in rows:
        if isinstance(row, Malformed):
            raise TextFileError(f"{path}, line {number}: {row.why}")
        if row is None:
            continue
        if row[1] is None:
            n_without += 1
            continue
        vector = _json_vector(path, number, row[1])
        if vectors and (len(vectors) == _ROWS_PER_BLOCK or len(vector) != len(vectors[0])):
            yield first, texts, np.stack(vectors), n_without
            texts, vectors, n_without = [], [], 0
        first = first if vectors else number
        texts.append(row[0] if isinstance(row[0], str) else None)
        vectors.append(vector)
    yield first, texts, np.stack(vectors) if vectors else np.zeros((0, 0), np.float32), n_without


def _json_vector(path: str, number: int, values: Any) -> Floats:
    try:
        # None becomes NaN.
        vector = np.array(values, np.float32)
    except (ValueError, TypeError, OverflowError):
        vector = np.zeros((0, 0), np.float32)
    if not isinstance(values, list) or vector.ndim != 1:
        raise TextFileError(
            f"{path}, line {number}: the vector is {json_kind(values)}, expected a list of numbers"
        )
    return vector


def _read_npz(path: str, text_field: str | None, vector_field: str | None) -> TextVectors:
    try:
        with open(path, "rb") as file:
            # numpy would read another kind of file as it is.
            if not zipfile.is_zipfile(file):
                raise TextFileError(f"{path} is no .npz archive, expected one as np.savez writes it")
        with np.load(path) as archive:
            names = list(archive.files)
            text_name = _name(path, names, text_field, _TEXT_NAMES, "array")
            vector_name = _name(path, names, vector_field, _VECTOR_NAMES, "array")
            texts = _texts_of(path, text_name, archive[text_name])
            described = {name: str(archive[name]) for name in ("model", "fingerprint") if name in names}
            matrix = _mapped(path, vector_name)
            matrix = archive[vector_name] if matrix is None else matrix
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error)
        if isinstance(error, TextFileError):
            raise
        if "pickle" in reason:
            reason = "it contains Python objects, expected texts as an array of str and vectors of numbers"
        raise TextFileError(f"{path} cannot be read: {reason}") from error
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise TextFileError(
            f"{path}: the array {vector_name!r} is {matrix.dtype} of shape {matrix.shape}, expected numbers of "
            "shape (n, dim)"
        )
    if len(matrix) != len(texts):
        raise TextFileError(f"{path} has {len(texts)} texts and {len(matrix)} vectors, expected one each")
    dim = checked_dim(path, matrix.shape[1])
    chosen = select_rows(path, texts, dim, lambda rows: np.asarray(matrix[rows], np.float32), described)
    if not chosen.texts:
        raise TextFileError(f"{path} has no text with a vector")
    return chosen


def _texts_of(path: str, name: str, array: npt.NDArray[Any]) -> list[str]:
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise TextFileError(
            f"{path}: the array {name!r} is {array.dtype} of shape {array.shape}, expected texts of shape (n,)"
        )
    if array.dtype.kind == "U":
        return [str(text) for text in array.tolist()]
    try:
        return [text.decode("utf-8") for text in array.tolist()]
    except UnicodeDecodeError as error:
        raise TextFileError(f"{path}: the array {name!r} is not UTF-8: {error}") from error


def _mapped(path: str, name: str) -> npt.NDArray[Any] | None:
    # An array of an .npz file, mapped into memory; None if it is compressed.
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        member = archive.getinfo(f"{name}.npy")
        if member.compress_type != zipfile.ZIP_STORED:
            return None
        file.seek(member.header_offset)
        lengths = file.read(_ZIP_HEADER)[_ZIP_LENGTHS]
        file.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), os.SEEK_CUR)
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            return None
        shape, is_fortran, dtype = read_header(file)
        if dtype.hasobject or 0 in shape:
            return None
        order: Any = "F" if is_fortran else "C"
        return np.memmap(path, dtype, "r", offset=file.tell(), shape=shape, order=order)
