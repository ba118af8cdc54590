"""The joint space of several encoders as an encoder, whose vectors come from the caches of its parts."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sentenc.encoders.base import Encoder
from sentenc.encoders.roles import Role
from sentenc.encoders.transformer import TransformerEncoder
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.alignment.teacher_vectors import TeacherVectors

# The weight of its vectors in hybrid search. With 0.7 of arctic-xs, it is the best of the development sets.
ALPHA = 0.7


class JointEncoder(Encoder):
    """Concatenates the unit vectors of encoders, scaled by the roots of their weights, and reduces them by PCA.

    Args:
        parts: The vectors of each encoder.
        encoders: The encoders.
        weights: The weight of each encoder's cosine; the sum is 1.
        axes: (t, dim) with orthonormal columns.
        role: The role of the texts of this half; None for the whole.
    """

    def __init__(
        self,
        parts: Sequence[TeacherVectors],
        encoders: Sequence[TransformerEncoder],
        weights: Sequence[float],
        axes: np.ndarray,
        role: Role | None = None,
    ) -> None:
        self._parts, self._encoders, self._weights, self.axes = parts, encoders, weights, axes
        self._role = role
        self.metadata = {"name": "joint space", "language": "en", "hybrid_alpha": ALPHA}
        self._halves: dict[str, JointEncoder] = {}

    @property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer(str(self._encoders[0].torch_model()[1].backend_tokenizer.to_str()))

    @property
    def dim(self) -> int:
        return self.axes.shape[1]

    @property
    def max_tokens(self) -> int:
        return min(encoder.max_tokens for encoder in self._encoders)

    def count_tokens(self, texts: Any) -> np.ndarray:
        return self._encoders[0].count_tokens(texts)

    def save(self, folder: Any) -> None:
        raise NotImplementedError

    def fingerprint(self) -> str:
        names = [encoder.fingerprint() for encoder in self._encoders]
        content = repr((names, list(self._weights))).encode() + self.axes.tobytes()
        return hashlib.blake2b(content, digest_size=8).hexdigest()

    def for_role(self, role: Role) -> tuple[Encoder, str | None]:
        if role not in self._halves:
            self._halves[role] = JointEncoder(self._parts, self._encoders, self._weights, self.axes, role)
        return self._halves[role], None

    def _encode_block(self, texts: list[str], batch_size: int, out: np.ndarray) -> np.ndarray:
        assert self._role is not None
        out[:] = joined(self._parts, self._weights, texts, self._role) @ self.axes
        return np.ones(len(texts), np.int64)


def joined(
    parts: Sequence[TeacherVectors], weights: Sequence[float], texts: list[str], role: Role
) -> np.ndarray:
    """Returns the concatenated vectors (n, t) of n texts."""
    vectors = [
        part(texts, role, "vectors")[0] * weight**0.5 for part, weight in zip(parts, weights, strict=True)
    ]
    return np.concatenate(vectors, axis=1)


def joint_encoder(
    encoders: Sequence[TransformerEncoder],
    weights: Sequence[float],
    cache: Path,
    dim: int,
    queries: list[str],
    passages: list[str],
    axes: np.ndarray | None = None,
) -> JointEncoder:
    """Returns the joint space with the principal axes of some queries and passages, or with given axes."""
    names = [str(encoder.metadata.get("name") or f"part-{i}") for i, encoder in enumerate(encoders)]
    parts = [
        TeacherVectors(encoder, cache / name, show_progress_bar=True)
        for encoder, name in zip(encoders, names, strict=True)
    ]
    if axes is None:
        samples = [joined(parts, weights, queries, "query"), joined(parts, weights, passages, "document")]
        # Both roles have the same weight. The vectors are not centered, because cosines are to be kept.
        moments = sum(rows.T.astype(np.float64) @ rows / len(rows) for rows in samples)
        axes = np.ascontiguousarray(np.linalg.eigh(moments)[1][:, ::-1][:, :dim], np.float32)
    return JointEncoder(parts, encoders, weights, axes)
