"""Caches a teacher's unit vectors, the slow part of embedding distillation."""

from collections.abc import Iterable, Sized
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sentenc.embedding_cache import EmbeddingCache
from sentenc.io.progress import progress_bar
from sentenc.training.teachers.base import Teacher


def open_teacher_cache(folder: str | Path, teacher: Teacher | None) -> EmbeddingCache:
    """Opens the cache of a teacher's unit vectors, stored as float16.

    Args:
        folder: The cache's folder, created if necessary.
        teacher: The teacher that fills the cache. None opens it for reading, whichever teacher filled it.

    Raises:
        CacheError: The folder was filled by another teacher, or one of its files is damaged.
    """
    return EmbeddingCache(folder, None if teacher is None else teacher.fingerprint(), dtype="float16")


def fill_teacher_cache(
    cache: EmbeddingCache,
    teacher: Teacher,
    texts: Iterable[str],
    max_minutes: float | None = None,
    show_progress_bar: bool = True,
) -> int:
    """Computes the unit vectors of those texts that have none yet; see :meth:`EmbeddingCache.fill`.

    Args:
        cache: The teacher's cache.
        teacher: The teacher.
        texts: Any number of texts. ``len(texts)``, if it is defined, may be an estimate: it sizes the bar.
        max_minutes: Stop after the shard during which this time runs out. None for no limit.
        show_progress_bar: Draw a bar on standard error.

    Returns:
        The number of vectors that were added.

    Raises:
        TypeError: ``texts`` is a single str.
        ValueError: A vector is not finite; the message quotes the text.
    """

    def encode(texts: list[str]) -> npt.NDArray[np.float32]:
        vectors: npt.NDArray[np.float32] = teacher.encode(
            texts, normalize_embeddings=True, on_overflow="ignore"
        )
        return vectors

    total = len(texts) if isinstance(texts, Sized) else None
    with progress_bar(total, "teacher vectors", show_progress_bar) as bar:
        return cache.fill(texts, encode, max_minutes=max_minutes, bar=bar, source="the teacher")
