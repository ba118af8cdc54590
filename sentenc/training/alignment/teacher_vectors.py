"""The vectors of a teacher by role, cached on disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sentenc.embedding_cache import EmbeddingCache, EncodedTexts
from sentenc.encoders.base import Encoder
from sentenc.encoders.comparison import unit_rows
from sentenc.encoders.endpoint import EndpointEncoder
from sentenc.encoders.roles import Role
from sentenc.io.progress import progress_bar, relabel

_TEXTS_PER_BLOCK = 8192


class TeacherVectors:
    """Computes the unit vectors of an encoder, each once.

    The cache is two folders, ``query`` and ``document``, or one, ``text``, if the encoder has no prompts. It
    is filled shard by shard: a run that is stopped continues after the last shard. Every answer of an endpoint
    is kept, also if a later request fails.

    Args:
        teacher: The encoder. Of its vectors, the first ``similarity_dim`` components are used.
        folder: The folder of the cache. None keeps the vectors in memory.
        dim: Keeps this number of leading components.
        show_progress_bar: Draw bars on standard error.

    Raises:
        CacheError: The folder has the vectors of another encoder.
    """

    def __init__(
        self,
        teacher: Encoder,
        folder: Path | None,
        *,
        dim: int | None = None,
        show_progress_bar: bool = False,
    ) -> None:
        self._teacher = teacher
        # Not the dimension of the teacher: an endpoint would be asked for it, though the cache may be full.
        self._dim = dim
        self._show_progress_bar = show_progress_bar
        self._is_symmetric = teacher.for_role("query") == teacher.for_role("document")
        self._caches: dict[str, EmbeddingCache] = {}
        self._folder = folder

    def __call__(
        self, texts: Sequence[str], role: Role, label: str
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Returns the unit vectors of texts in a role, (m, dim), and the positions of the texts, (m,).

        The arguments are those of :meth:`fill`.
        """
        rows = self.fill(texts, role, label)
        return self.read([texts[i] for i in rows.tolist()], role), rows

    def fill(
        self, texts: Sequence[str], role: Role, label: str, max_minutes: float | None = None
    ) -> npt.NDArray[np.int64]:
        """Computes the vectors that are missing.

        Args:
            texts: n texts.
            role: ``"query"`` or ``"document"``.
            label: The name of the texts on the progress bar.
            max_minutes: Time limit. Texts without a vector are left out.

        Returns:
            The positions of the texts that have a vector, (m,).
        """
        encoder, prompt_name = self._teacher.for_role(role)
        cache = self._cache(role)
        with progress_bar(len(texts), label, self._show_progress_bar) as bar:

            def encode(part: list[str]) -> EncodedTexts:
                if isinstance(encoder, EndpointEncoder):
                    relabel(bar, f"{label} ({encoder.usage.tokens:,} tokens sent)")
                    answers = encoder.encode_by_request(part, prompt_name=prompt_name)
                    return ((rows, unit_rows(vectors, "vectors")) for rows, vectors in answers)
                return encoder.encode(
                    part,
                    prompt_name=prompt_name,
                    truncate_dim=encoder.similarity_dim,
                    normalize_embeddings=True,
                    on_overflow="ignore",
                )

            cache.fill(texts, encode, max_minutes=max_minutes, bar=bar, source="the teacher")
        return np.flatnonzero(cache.has(texts))

    def read(self, texts: Sequence[str], role: Role) -> npt.NDArray[np.float32]:
        """Returns the vectors of n texts that have one, at unit length: (n, dim)."""
        cache = self._cache(role)
        vectors = np.empty((len(texts), self._dim or cache.dim or 0), np.float32)
        # Vectors of a wide space are large, so there is only one copy of all of them.
        for start in range(0, len(texts), _TEXTS_PER_BLOCK):
            part = slice(start, start + _TEXTS_PER_BLOCK)
            vectors[part] = unit_rows(cache.lookup(texts[part])[:, : self._dim], "the teacher's vectors")
        return vectors

    def _cache(self, role: Role) -> EmbeddingCache:
        encoder, prompt_name = self._teacher.for_role(role)
        name = "text" if self._is_symmetric else role
        if name not in self._caches:
            fingerprint = " ".join([encoder.fingerprint(), *([prompt_name] if prompt_name else [])])
            folder = None if self._folder is None else self._folder / name
            self._caches[name] = EmbeddingCache(folder, fingerprint, dtype="float16")
        return self._caches[name]
