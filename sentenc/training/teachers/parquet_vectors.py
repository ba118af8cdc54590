"""Copies vectors that were computed elsewhere from Parquet files into the cache of a teacher."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sentenc.embedding_cache import EmbeddingCache
from sentenc.errors import CacheError, TextFileError
from sentenc.io.atomic import write_text
from sentenc.io.files import file_identity, is_folder, matching_files
from sentenc.io.parquet import count_rows
from sentenc.io.progress import Bar, progress_bar
from sentenc.io.text_vectors import LeftOut, unit_vectors
from sentenc.io.vector_reading import open_text_vectors, stated_encoder
from sentenc.training.config.teacher import TeacherConfig

# The files that have been imported, in the folder of the cache.
_IMPORTED = "imported.json"
# Bytes of the vectors of a shard of the cache. With many small shards, its index would grow slowly.
_BYTES_PER_SHARD = 1 << 26


class ImportedVectors(NamedTuple):
    """The result of :func:`import_vectors`.

    Attributes:
        rows: Number of rows of the files that were read.
        added: Number of vectors that are new in the cache.
        left_out: Number of rows without a vector that can be used, by reason.
    """

    rows: int
    added: int
    left_out: dict[str, int]


def import_vectors(
    settings: TeacherConfig,
    model_fingerprint: Callable[[], str] | None = None,
    *,
    show_progress_bar: bool = False,
) -> ImportedVectors:
    """Copies unit vectors from the files of ``teacher.vectors`` into ``teacher.cache``, some megabytes at a time.

    A file that has been imported is not read again. Texts are stored as corpora read them, without white space at
    both ends. int8 vectors need no scale, because a factor of a row does not change its direction.

    Args:
        settings: The section ``[teacher]``.
        model_fingerprint: Returns the fingerprint of the model that must have computed the vectors. None accepts
            the vectors of any encoder.
        show_progress_bar: Draw a bar, and print the counts, on standard error.

    Raises:
        CacheError: The files, the cache or the model have different fingerprints.
        TextFileError: A file does not exist or is damaged, or its vectors have another dimension.
        MissingExtraError: pyarrow, or the package for a remote file, is not installed.
    """
    folder = Path(settings.cache)
    imported = _read_imported(folder)
    identities = {file: json.dumps(file_identity(file)) for file in _files(settings.vectors)}
    new = [file for file, identity in identities.items() if identity not in imported]
    if not new:
        return ImportedVectors(0, 0, {})
    stated = _common_fingerprint(new)
    if model_fingerprint is not None and (own := model_fingerprint()) != stated.partition(" ")[0]:
        raise CacheError(
            f"{new[0]} contains vectors of an encoder with the fingerprint {stated}, but that of teacher.models "
            f"({', '.join(settings.names)}) is {own}: remove one of teacher.models and teacher.vectors"
        )
    try:
        cache = EmbeddingCache(folder, stated, dtype="float16")
    except CacheError as error:
        raise CacheError(f"{new[0]} cannot be copied into teacher.cache: {error}") from error
    counts, n_rows, n_before = LeftOut(), 0, len(cache)
    # Each count is a request if the files are remote.
    total = sum(map(count_rows, new)) if show_progress_bar else None
    with progress_bar(total, "teacher vectors", show_progress_bar) as bar:
        for file in new:
            n_rows += _import_file(file, cache, counts, bar)
            # After its last vector: an interrupted import reads this file again.
            imported[identities[file]] = file
            write_text(folder / _IMPORTED, json.dumps(imported, indent=1) + "\n")
    result = ImportedVectors(n_rows, len(cache) - n_before, counts.to_dict())
    if show_progress_bar:
        print(_summary(result, folder), file=sys.stderr)
    return result


def _files(names: Sequence[str]) -> list[str]:
    # Of a folder, the Parquet files in it and below it: each machine may have written a folder of its own.
    patterns = (f"{name.rstrip('/')}/**/*.parquet" if is_folder(name) else name for name in names)
    return list(dict.fromkeys(file for pattern in patterns for file in matching_files(pattern)))


def _read_imported(folder: Path) -> dict[str, str]:
    path = folder / _IMPORTED
    # Someone may have deleted the vectors alone.
    if not path.exists() or not any(folder.glob("vectors-*.npy")):
        return {}
    try:
        imported: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CacheError(f"{path} is damaged, expected JSON ({error}): delete it") from error
    return imported


def _common_fingerprint(files: Sequence[str]) -> str:
    fingerprints: dict[str, str] = {}
    for file in files:
        with open_text_vectors(file) as (described, _):
            fingerprints.setdefault(stated_encoder(described), file)
    if len(fingerprints) > 1:
        (one, first), (other, second) = list(fingerprints.items())[:2]
        raise CacheError(
            f"{first} contains vectors of an encoder with the fingerprint {one}, and {second} those of one with "
            f"{other}, expected one encoder"
        )
    return next(iter(fingerprints))


def _import_file(file: str, cache: EmbeddingCache, counts: LeftOut, bar: Bar) -> int:
    # Returns the number of rows.
    n_rows = n_bytes = 0
    texts: list[str] = []
    parts: list[npt.NDArray[np.float16]] = []
    with open_text_vectors(file) as (_, blocks):
        for first, block, vectors, n_without in blocks:
            counts.add("no vector", n_without)
            n_rows += len(block) + n_without
            bar.update(len(block) + n_without)
            if not block:
                continue
            expected = cache.dim or (parts[0].shape[1] if parts else vectors.shape[1])
            if vectors.shape[1] != expected:
                raise TextFileError(
                    f"{file}, row {first}: the vector has {vectors.shape[1]} numbers, expected {expected} as in "
                    "those before"
                )
            usable = counts.usable(block, vectors)
            texts += [text.strip() for text, ok in zip(block, usable.tolist(), strict=True) if ok and text]
            parts.append(unit_vectors(vectors[usable])[0].astype(np.float16))
            n_bytes += parts[-1].nbytes
            if n_bytes >= _BYTES_PER_SHARD:
                cache.add(texts, np.concatenate(parts), source=file)
                texts, parts, n_bytes = [], [], 0
    if texts:
        cache.add(texts, np.concatenate(parts), source=file)
    return n_rows


def _summary(result: ImportedVectors, folder: Path) -> str:
    left_out = "".join(f"; left out: {count:,} with {reason}" for reason, count in result.left_out.items())
    return f"imported {result.added:,} vectors of {result.rows:,} rows into {folder}{left_out}"
