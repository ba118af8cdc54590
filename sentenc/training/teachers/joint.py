"""One space of several teachers, with prompts for each role, from the cached vectors of each teacher."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sentenc.embedding_cache import EmbeddingCache
from sentenc.encoders.fingerprints import digest
from sentenc.errors import CacheError
from sentenc.training.config.teacher import TeacherModel, normalized_weights


class TeacherVectors(Protocol):
    """Stored vectors that a student learns, such as an :class:`~sentenc.embedding_cache.EmbeddingCache`."""

    @property
    def dim(self) -> int | None:
        """Length of the vectors; None if there are none."""

    def __len__(self) -> int:
        """The number of texts that have a vector."""

    def has(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Returns for each of n texts whether it has a vector: (n,) bool."""

    def lookup(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns the vectors of n texts: (n, dim) float32."""


def cache_fingerprint(model: str, pooling: str, precision: str, prompt: str) -> str:
    """Returns the fingerprint of a cache of one teacher and prompt: "MODEL POOLING PRECISION PROMPT".

    Args:
        model: Fingerprint of the teacher's weights and tokenizer, without spaces.
        pooling: "cls" or "mean", or "own" for the pooling that the model's folder states.
        precision: Type of weights and activations, such as "float32" or "bf16".
        prompt: Text before every text. Empty for none; the fingerprint then ends with the precision.
    """
    return " ".join([model, pooling, precision, *([prompt] if prompt else [])])


@dataclass(frozen=True, kw_only=True)
class JointSpace:
    """Concatenates the unit vectors of teachers, each scaled by the root of its weight, and reduces them.

    Without a reduction, the cosine of two vectors is the weighted mean of the teachers' cosines.

    Attributes:
        teachers: The teachers.
        origins: For each teacher the model and pooling that computed its vectors, as in
            :func:`cache_fingerprint`; "" if unknown.
        axes: The axes (t, dim) float32 of the reduction, with orthonormal columns. t is the sum of the
            teachers' dimensions. None for no reduction.
    """

    teachers: tuple[TeacherModel, ...]
    origins: tuple[str, ...]
    axes: npt.NDArray[np.float32] | None = None

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights of the teachers; their sum is 1."""
        return normalized_weights(len(self.teachers), [teacher.weight for teacher in self.teachers])

    def vectors(self, parts: Sequence[npt.NDArray[np.floating]]) -> npt.NDArray[np.float32]:
        """Returns the space's vectors (n, dim) float32 from each teacher's unit vectors (n, t_i)."""
        scaled = [
            np.asarray(part, np.float32) * np.float32(weight**0.5)
            for part, weight in zip(parts, self.weights, strict=True)
        ]
        joined: npt.NDArray[np.float32] = np.concatenate(scaled, axis=1)
        return joined if self.axes is None else joined @ self.axes

    def identifier(self) -> str:
        """Returns a short hash of teachers, weights, prompts and axes.

        Students that were fitted to spaces with the same identifier have comparable vectors.
        """
        parts = [
            f"{origin}\n{weight:.6f}\n{teacher.query_prompt}\n{teacher.document_prompt}".encode()
            for teacher, origin, weight in zip(self.teachers, self.origins, self.weights, strict=True)
        ]
        return digest([*parts, b"" if self.axes is None else self.axes.tobytes()])


class JointVectors:
    """The vectors of texts in a joint space, computed from one cache for each teacher when they are needed.

    Args:
        space: The space.
        caches: The caches of the teachers in their order, of one role. Each contains vectors.
    """

    def __init__(self, space: JointSpace, caches: Sequence[EmbeddingCache]) -> None:
        self.space = space
        self.caches = tuple(caches)

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        axes = self.space.axes
        return sum(cache.dim or 0 for cache in self.caches) if axes is None else axes.shape[1]

    def __len__(self) -> int:
        """The number of texts with a vector, if the caches contain the same texts; else an upper bound."""
        return min(map(len, self.caches))

    def has(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Returns for each of n texts whether all teachers have a vector: (n,) bool."""
        known: npt.NDArray[np.bool_] = np.logical_and.reduce([cache.has(texts) for cache in self.caches])
        return known

    def lookup(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns the vectors of n texts: (n, dim) float32.

        Raises:
            MissingVectorError: A teacher has no vector of a text; the message quotes the first such text.
        """
        return self.space.vectors([cache.lookup(texts) for cache in self.caches])


def origin(caches: Sequence[EmbeddingCache]) -> str:
    """Returns the model and pooling that computed the vectors in a teacher's caches; "" if no cache states it.

    Raises:
        CacheError: The caches name different ones.
    """
    names = {
        cache.folder: " ".join(fingerprint.split(" ")[:2])
        for cache in caches
        if (fingerprint := cache.stored_fingerprint()) is not None
    }
    if len(set(names.values())) > 1:
        listed = ", ".join(f"{folder} by {name!r}" for folder, name in names.items())
        raise CacheError(
            f"the caches of one teacher were filled by different models ({listed}), expected one model and "
            "pooling (the first two words of the fingerprint in cache.json)"
        )
    return next(iter(names.values()), "")
