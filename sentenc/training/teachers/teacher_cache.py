"""Caches a teacher's unit vectors, the slow part of embedding distillation."""

from collections.abc import Collection, Iterable
from operator import length_hint
from pathlib import Path

from sentenc.embedding_cache import EmbeddingCache, EncodedTexts
from sentenc.encoders.comparison import unit_rows
from sentenc.encoders.endpoint import EndpointEncoder
from sentenc.io.progress import progress_bar
from sentenc.training.teachers.base import Teacher


def open_teacher_cache(
    folder: str | Path, teacher: Teacher | None, shards: Collection[str] | None = None
) -> EmbeddingCache:
    """Opens the cache of a teacher's unit vectors, stored as float16.

    Args:
        folder: The cache's folder, created if necessary.
        teacher: The teacher that fills the cache. None opens it for reading, whichever teacher filled it.
        shards: The shards to open; None opens all.

    Raises:
        CacheError: The folder was filled by another teacher, or one of its files is damaged.
    """
    fingerprint = None if teacher is None else teacher.fingerprint()
    return EmbeddingCache(folder, fingerprint, dtype="float16", shards=shards)


def fill_teacher_cache(
    cache: EmbeddingCache,
    teacher: Teacher,
    texts: Iterable[str],
    max_minutes: float | None = None,
    show_progress_bar: bool = True,
) -> int:
    """Computes the unit vectors of those texts that have none yet; see :meth:`EmbeddingCache.fill`.

    If a request to an endpoint fails, the vectors of the other requests are stored: they were paid for.

    Args:
        cache: The teacher's cache.
        teacher: The teacher.
        texts: Any number of texts. Their length or ``__length_hint__``, if there is one, sizes the bar.
        max_minutes: Stop after the shard during which this time runs out. None for no limit.
        show_progress_bar: Draw a bar on standard error.

    Returns:
        The number of vectors that were added.

    Raises:
        TypeError: ``texts`` is a single str.
        ValueError: A vector is not finite; the message quotes the text.
    """

    def encode(texts: list[str]) -> EncodedTexts:
        if isinstance(teacher, EndpointEncoder):
            parts = teacher.encode_by_request(texts)
            return ((rows, unit_rows(vectors, "vectors")) for rows, vectors in parts)
        return teacher.encode(texts, normalize_embeddings=True, on_overflow="ignore")

    total = length_hint(texts) or None
    with progress_bar(total, "teacher vectors", show_progress_bar) as bar:
        return cache.fill(texts, encode, max_minutes=max_minutes, bar=bar, source="the teacher")
