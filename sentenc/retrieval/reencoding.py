"""Replaces the vectors of an index by those of another encoder, from the texts that the index stores.

The new vectors of an index in a folder are first written to ``reencode-KEY/vectors.f32`` in it, so that memory is
bounded. The manifest does not list this folder: readers ignore it, and a commit removes it. KEY is a digest of the
encoder and of all passages. If the work is killed, the next one for the same encoder and passages finds the same KEY
and resumes after the last row that is certainly on disk.
"""

import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.errors import TruncationWarning
from sentenc.io.atomic import sync_file, write_text
from sentenc.io.disk_full import naming_full_disk
from sentenc.io.progress import Bar, progress_bar
from sentenc.retrieval.chunking import longest_passage
from sentenc.retrieval.encoding import item_vectors
from sentenc.retrieval.manifest import REENCODING, Manifest
from sentenc.retrieval.quantization import FloatArray, plain
from sentenc.retrieval.snapshot import Snapshot
from sentenc.retrieval.validation import described_encoder, is_part_of, stored_dim
from sentenc.retrieval.words import hybrid_alpha

_ROWS_PER_BLOCK = 2048
# A killed process loses the work of this time, and a stop of the machine too.
_SECONDS_PER_SYNC = 5.0


def reencoded(
    snapshot: Snapshot, encoder: Encoder, manifest: Manifest, folder: Path | None, show_progress_bar: bool
) -> Snapshot:
    """Returns the same items with the vectors of another encoder and without an ANN index; they are not saved.

    Args:
        snapshot: The items. Passages, words, payloads and the vectors of a reranker are kept.
        encoder: The encoder.
        manifest: The settings of the new vectors.
        folder: The index folder, in which the vectors are written; None keeps them in memory.
        show_progress_bar: Draw a progress bar on standard error.

    Raises:
        ValueError: An item has no text.
    """
    _check_texts(snapshot)
    shape = len(snapshot.deleted), manifest.dim
    vectors: FloatArray
    with progress_bar(shape[0], "encoding", show_progress_bar) as bar:
        if folder is None or shape[0] == 0:
            vectors = np.empty(shape, np.float32)
            n_cut = _encode(snapshot, encoder, manifest, _Memory(vectors), bar)
        else:
            with _VectorFile(folder, _key(snapshot, encoder, manifest), manifest.dim) as file:
                n_cut = _encode(snapshot, encoder, manifest, file, bar)
            vectors = np.memmap(file.path, np.float32, "r", shape=shape)
    if n_cut:
        warnings.warn(
            f"{n_cut:,} of {snapshot.n_live:,} passages are longer than max_tokens={encoder.max_tokens} of the "
            "encoder; the rest of each was cut off",
            TruncationWarning,
            stacklevel=3,
        )
    parts = zip(snapshot.segments, snapshot.starts.tolist(), strict=True)
    segments = tuple(
        segment.with_vectors(vectors[start : start + len(segment)], plain(manifest.dim))
        for segment, start in parts
    )
    new = replace(snapshot, segments=segments, ann=None, moments=None)
    return new if snapshot.moments is None else replace(new, moments=new.measured_moments)


def reencoded_settings(manifest: Manifest, encoder: Encoder, model: str | None, dim: int | None) -> Manifest:
    """Returns the settings of an index after its vectors were replaced.

    Args:
        manifest: The settings before. Language, kind and store do not change, nor does an
            encoder of queries of the same space.
        encoder: The new encoder.
        model: The name by which it is loaded, or None.
        dim: Number of components that are stored, or None for the encoder's ``similarity_dim``.
    """
    new = replace(
        manifest,
        dim=stored_dim(encoder, dim),
        encoder=described_encoder(model, encoder),
    )
    queries = new.query_encoder
    if queries is not None and not is_part_of(queries["space"], encoder.space, new.dim):
        new.query_encoder = None
    if new.words is not None:
        new.words = {**new.words, "alpha": hybrid_alpha(encoder)}
    if new.chunking is not None:
        # Texts that are added later are divided into passages that the new encoder can read.
        tokens = min(new.chunking["tokens"], longest_passage(encoder))
        new.chunking = {"tokens": tokens, "overlap": min(new.chunking["overlap"], tokens // 2)}
    return new


def _check_texts(snapshot: Snapshot) -> None:
    for segment, start in zip(snapshot.segments, snapshot.starts.tolist(), strict=True):
        for item, row in zip(segment.items(), segment.first_rows.tolist(), strict=True):
            if item.text is None and not snapshot.deleted[start + row]:
                raise ValueError(
                    f"the item {item.id!r} has a vector but no text, expected texts to encode: add its text with "
                    "update(), or delete the item"
                )


def _encode(
    snapshot: Snapshot, encoder: Encoder, manifest: Manifest, output: "_Memory | _VectorFile", bar: Bar
) -> int:
    """Writes the vectors of all rows that ``output`` lacks; returns the number of texts that were cut."""
    texts = _texts(snapshot)
    own, prompt_name = encoder.for_role("document")
    bar.update(len(list(islice(texts, output.rows))))
    while block := list(islice(texts, _ROWS_PER_BLOCK)):
        vectors, counts = own.encode_with_token_counts(
            block, truncate_dim=manifest.dim, prompt_name=prompt_name
        )
        n_cut = int((counts > own.max_tokens).sum())
        output.append(item_vectors(block, vectors, None, manifest), n_cut)
        bar.update(len(block))
    return output.n_cut


def _texts(snapshot: Snapshot) -> Iterator[str]:
    """Yields the text of every row; that of a deleted row is empty, which has the zero vector."""
    for segment, start in zip(snapshot.segments, snapshot.starts.tolist(), strict=True):
        for row, text in enumerate(segment.passage_texts(), start):
            yield "" if snapshot.deleted[row] or text is None else text


def _key(snapshot: Snapshot, encoder: Encoder, manifest: Manifest) -> str:
    state = blake2b(f"{encoder.fingerprint()} {manifest.dim} {manifest.metric}".encode(), digest_size=8)
    for segment in snapshot.segments:
        state.update(segment.data)
        if segment.passages is not None:
            state.update(np.ascontiguousarray(segment.passages.spans).tobytes())
    state.update(np.packbits(snapshot.deleted).tobytes())
    return state.hexdigest()


class _Memory:
    """Vectors (n, d) in memory, written one block after another."""

    def __init__(self, vectors: npt.NDArray[np.float32]) -> None:
        self._vectors = vectors
        self.rows = self.n_cut = 0

    def append(self, vectors: FloatArray, n_cut: int) -> None:
        self._vectors[self.rows : self.rows + len(vectors)] = vectors
        self.rows, self.n_cut = self.rows + len(vectors), self.n_cut + n_cut


class _VectorFile:
    """Vectors in a file that grows; ``progress.json`` has the number of rows that are certainly on disk.

    Attributes:
        path: The file: rows of d float32 numbers.
        rows: The number of rows so far.
        n_cut: The number of their texts that were cut.
    """

    def __init__(self, folder: Path, key: str, dim: int) -> None:
        own = folder / f"{REENCODING}{key}"
        for other in folder.glob(f"{REENCODING}*"):
            if other != own:
                shutil.rmtree(other, ignore_errors=True)
        own.mkdir(exist_ok=True)
        self.path, self._progress = own / "vectors.f32", own / "progress.json"
        self.rows, self.n_cut = _read_progress(self._progress)
        self.path.touch()
        if self.path.stat().st_size < self.rows * dim * 4:
            self.rows = self.n_cut = 0
        os.truncate(self.path, self.rows * dim * 4)
        self._file = open(self.path, "ab")  # noqa: SIM115 - closed by __exit__
        self._synced_at = time.monotonic()

    def append(self, vectors: FloatArray, n_cut: int) -> None:
        with naming_full_disk(self.path):
            self._file.write(np.ascontiguousarray(vectors).data)
        self.rows, self.n_cut = self.rows + len(vectors), self.n_cut + n_cut
        if time.monotonic() - self._synced_at >= _SECONDS_PER_SYNC:
            self._sync()

    def __enter__(self) -> "_VectorFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            # If the disk is full, the last rows cannot be written.
            with suppress(OSError):
                self._file.close()
            return
        with self._file:
            # After Ctrl-C as well, so that nothing is computed again.
            self._sync()

    def _sync(self) -> None:
        with naming_full_disk(self.path):
            self._file.flush()
            sync_file(self.path)
            write_text(self._progress, json.dumps([self.rows, self.n_cut]))
        self._synced_at = time.monotonic()


def _read_progress(path: Path) -> tuple[int, int]:
    try:
        rows, n_cut = json.loads(path.read_text(encoding="utf-8"))
        return int(rows), int(n_cut)
    except (OSError, ValueError, TypeError):
        return 0, 0
