"""Texts with their vectors: which of them can be used, and access to them without copying what can be mapped."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import TextFileError
from sentenc.io.disk_full import naming_full_disk

Floats = npt.NDArray[np.float32]
Block = tuple[list[str], Floats]

MOST_DIMENSIONS = 4096
_BYTES_PER_BLOCK = 1 << 23
# Vectors that cannot be mapped where they are stored are copied to a temporary file beyond this size.
_MOST_BYTES_IN_MEMORY = 1 << 28


@dataclass(frozen=True, eq=False)
class TextVectors:
    """n texts, each with a vector.

    Attributes:
        source: The file or folder, for messages.
        texts: The texts.
        dim: Number of dimensions of a vector.
        left_out: Number of texts without a vector that can be used, by reason.
        described: What the file states about the encoder of the vectors, such as ``model`` and ``fingerprint``.
    """

    source: str
    texts: list[str]
    dim: int
    left_out: dict[str, int]
    described: dict[str, Any]
    _read: Callable[[npt.NDArray[np.int64]], Floats] = field(repr=False)

    def __len__(self) -> int:
        return len(self.texts)

    def vectors(self, rows: npt.ArrayLike) -> Floats:
        """Returns the vectors of rows (m,), scaled to unit length: (m, dim) float32."""
        chosen = np.asarray(rows, np.int64)
        vectors = np.empty((len(chosen), self.dim), np.float32)
        # In blocks, because float64 copies of all of them could be larger than the memory.
        size = rows_per_block(self.dim)
        for begin in range(0, len(chosen), size):
            block = slice(begin, begin + size)
            vectors[block] = unit_vectors(self._read(chosen[block]))[0]
        return vectors

    def blocks(self) -> Iterator[Block]:
        """Yields texts and their unit vectors in order, some megabytes at a time."""
        size = rows_per_block(self.dim)
        for begin in range(0, len(self), size):
            end = min(begin + size, len(self))
            yield self.texts[begin:end], self.vectors(np.arange(begin, end))


def select_rows(
    source: str, texts: Sequence[str | None], dim: int, read: Callable[[npt.NDArray[np.int64]], Floats],
    described: dict[str, Any], rows: npt.NDArray[np.int64] | None = None,
) -> TextVectors:  # fmt: skip
    """Returns those of n texts that have a usable vector, without copying the vectors.

    Args:
        source: The file or folder.
        texts: n texts or None.
        dim: Number of dimensions.
        read: Returns the vectors of rows.
        described: What is known about the encoder.
        rows: The row of each text, (n,); by default 0 to n - 1.
    """
    rows = np.arange(len(texts)) if rows is None else rows
    counts = LeftOut()
    kept = []
    size = rows_per_block(dim)
    for begin in range(0, len(texts), size):
        block = rows[begin : begin + size]
        usable = counts.usable(texts[begin : begin + size], read(block))
        kept.append(begin + np.flatnonzero(usable))
    places = np.concatenate([np.zeros(0, np.int64), *kept])
    kept_rows = rows[places]
    return TextVectors(
        source, [str(texts[place]) for place in places.tolist()], dim, counts.to_dict(), described,
        lambda chosen: read(kept_rows[chosen]),
    )  # fmt: skip


def rows_per_block(dim: int) -> int:
    """Returns the number of float32 vectors in a block of some megabytes."""
    return max(1, _BYTES_PER_BLOCK // (4 * max(dim, 1)))


def unit_vectors(vectors: npt.NDArray[Any]) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Returns vectors (n, d) scaled to unit length, float32, and their norms (n,); zero vectors stay zero."""
    # In float64, because the square of a large float32 number overflows.
    wide = np.asarray(vectors, np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return (wide / np.where(norms > 0, norms, 1.0)[:, None]).astype(np.float32), norms


class LeftOut:
    """Counts the rows that cannot be used, by reason."""

    def __init__(self) -> None:
        self._counts = {"no text": 0, "no vector": 0, "zero vector": 0, "vector with NaN or infinity": 0}

    def usable(self, texts: Sequence[str | None], vectors: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Returns whether each of n texts and its vector (n, d) can be used: (n,) bool."""
        has_text = np.array([text is not None and not text.isspace() and text != "" for text in texts], bool)
        finite = np.isfinite(vectors).all(axis=1)
        not_zero = vectors.any(axis=1)
        self._counts["no text"] += int((~has_text).sum())
        self._counts["vector with NaN or infinity"] += int((has_text & ~finite).sum())
        self._counts["zero vector"] += int((has_text & ~not_zero).sum())
        usable: npt.NDArray[np.bool_] = has_text & finite & not_zero
        return usable

    def add(self, reason: str, count: int) -> None:
        """Counts more rows that cannot be used."""
        self._counts[reason] += count

    def to_dict(self) -> dict[str, int]:
        """Returns the reasons that occurred with their counts."""
        return {reason: count for reason, count in self._counts.items() if count}


class Spool:
    """Collects usable texts and their unit vectors in float16, in memory or in a temporary file without a name.

    Args:
        path: The file that is read, for messages.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._texts: list[str] = []
        self._blocks: list[npt.NDArray[np.float16]] = []
        self._bytes = 0
        self._file: Any = None
        self.dim = 0
        self.counts = LeftOut()

    def add(self, texts: Sequence[str | None], vectors: npt.NDArray[Any], place: str) -> None:
        """Adds n texts and their vectors (n, d); ``place`` is that of the first in the file, for messages.

        Raises:
            TextFileError: d differs from that of the vectors before, or is too large.
        """
        if len(vectors) == 0:
            return
        if self.dim and vectors.shape[1] != self.dim:
            raise TextFileError(
                f"{self._path}, {place}: the vector has {vectors.shape[1]} numbers, expected {self.dim} as in "
                "those before"
            )
        self.dim = checked_dim(self._path, vectors.shape[1])
        usable = self.counts.usable(texts, vectors)
        self._texts += [str(text) for text, ok in zip(texts, usable.tolist(), strict=True) if ok]
        block = unit_vectors(vectors[usable])[0].astype(np.float16)
        self._bytes += block.nbytes
        if self._file is None and self._bytes > _MOST_BYTES_IN_MEMORY:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  (see close)
            for earlier in self._blocks:
                self._write(earlier)
            self._blocks = []
        if self._file is None:
            self._blocks.append(block)
        else:
            self._write(block)

    def finished(self, described: dict[str, Any]) -> TextVectors:
        """Returns what was added, with what is known about the encoder.

        Raises:
            TextFileError: No text has a vector.
        """
        if not self._texts:
            raise TextFileError(f"{self._path} has no text with a vector")
        shape = (len(self._texts), self.dim)
        matrix: npt.NDArray[Any]
        if self._file is None:
            matrix = np.concatenate(self._blocks)
        else:
            self._file.flush()
            # The map keeps the content when the file, which has no name, is closed.
            matrix = np.memmap(self._file, np.float16, "r", shape=shape)
        return TextVectors(
            self._path, self._texts, self.dim, self.counts.to_dict(), described,
            lambda rows: np.asarray(matrix[rows], np.float32),
        )  # fmt: skip

    def close(self) -> None:
        """Closes the temporary file, if there is one."""
        if self._file is not None:
            self._file.close()

    def _write(self, block: npt.NDArray[np.float16]) -> None:
        with naming_full_disk(Path(tempfile.gettempdir())):
            self._file.write(np.ascontiguousarray(block).data)


def checked_dim(source: str, dim: int) -> int:
    """Returns the number of dimensions of vectors.

    Raises:
        TextFileError: It is 0 or above 4,096.
    """
    if not 1 <= dim <= MOST_DIMENSIONS:
        raise TextFileError(f"{source}: the vectors have {dim} dimensions, expected 1 to {MOST_DIMENSIONS}")
    return dim
