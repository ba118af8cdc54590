"""Writers of vectors, in bounded memory; a file appears only when it is complete."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import MissingExtraError
from sentenc.io.atomic import replacing_file
from sentenc.io.parquet_writing import open_writer
from sentenc.texts import replace_lone_surrogates

Block = tuple[list[str], npt.NDArray[Any]]
Metadata = dict[str, str]


def write_vectors(path: Path, blocks: Iterator[Block], dim: int, dtype: str, metadata: Metadata) -> int:
    """Writes texts and vectors to a file in the format of its suffix; returns the number of vectors.

    ``.npy`` contains the matrix. ``.npz`` contains the matrix as ``embeddings``, and the metadata. ``.jsonl``
    has one object per line, with ``text`` and ``embedding``. ``.parquet`` has these as columns, and the
    metadata in its schema.

    Args:
        path: File with one of the suffixes of :func:`known_suffixes`; an existing file is replaced.
        blocks: Pairs of n texts and their vectors (n, dim).
        dim: Number of dimensions of the vectors.
        dtype: Number type of the vectors, ``"float32"`` or ``"float16"``.
        metadata: Values that describe the encoder.

    Raises:
        MissingExtraError: The suffix is .parquet, and pyarrow is not installed.
    """
    with replacing_file(path) as temporary:
        return _WRITERS[path.suffix](temporary, blocks, dim, dtype, metadata)


def known_suffixes() -> list[str]:
    """Returns the suffixes that :func:`write_vectors` supports."""
    return sorted(_WRITERS)


def _write_npy(path: Path, blocks: Iterator[Block], dim: int, dtype: str, metadata: Metadata) -> int:
    with open(path, "wb") as file:
        rows = _write_array(file, blocks, dim, dtype)
    return rows


def _write_array(file: IO[bytes], blocks: Iterator[Block], dim: int, dtype: str) -> int:
    # The header is written twice: numpy pads it, so that it can be rewritten with the number of rows.
    def header(rows: int) -> dict[str, Any]:
        return {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (rows, dim)}

    np.lib.format.write_array_header_1_0(file, header(0))
    begin, rows = file.tell(), 0
    for _texts, vectors in blocks:
        file.write(np.ascontiguousarray(vectors).data)
        rows += len(vectors)
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, header(rows))
    if file.tell() != begin:
        raise RuntimeError("numpy changed the length of the header of a growing array")
    return rows


def _write_npz(path: Path, blocks: Iterator[Block], dim: int, dtype: str, metadata: Metadata) -> int:
    body = path.with_name(path.name + ".body")
    try:
        rows = _write_npy(body, blocks, dim, dtype, metadata)
        matrix = np.load(body, mmap_mode="r") if rows else np.zeros((0, dim), dtype)
        texts: dict[str, Any] = {name: np.array(value) for name, value in metadata.items()}
        with open(path, "wb") as file:
            np.savez(file, embeddings=matrix, **texts)
    finally:
        body.unlink(missing_ok=True)
    return rows


def _write_jsonl(path: Path, blocks: Iterator[Block], dim: int, dtype: str, metadata: Metadata) -> int:
    rows = 0
    with open(path, "w", encoding="utf-8") as file:
        for texts, vectors in blocks:
            for text, vector in zip(texts, vectors, strict=True):
                # str() returns the shortest decimal that is read back as the same number of this precision.
                numbers = [float(str(value)) for value in vector]
                file.write(json.dumps({"text": text, "embedding": numbers}) + "\n")
            rows += len(texts)
    return rows


def _write_parquet(path: Path, blocks: Iterator[Block], dim: int, dtype: str, metadata: Metadata) -> int:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow", "writing Parquet") from error
    kind = pa.list_(pa.from_numpy_dtype(np.dtype(dtype)), dim)
    schema = pa.schema([("text", pa.string()), ("embedding", kind)], metadata=metadata)
    rows = 0
    with open_writer(path, schema, ("embedding",)) as writer:
        for texts, vectors in blocks:
            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim)
            clean = pa.array(list(map(replace_lone_surrogates, texts)), pa.string())
            writer.write_table(pa.table([clean, column], schema=schema))
            rows += len(texts)
    return rows


_WRITERS: dict[str, Callable[[Path, Iterator[Block], int, str, Metadata], int]] = {
    ".jsonl": _write_jsonl,
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".parquet": _write_parquet,
}
