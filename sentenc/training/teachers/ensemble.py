"""Several encoders as one teacher. Importable without torch."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from sentenc.encoders.comparison import unit_rows
from sentenc.encoders.fingerprints import digest
from sentenc.encoders.transformer import TransformerEncoder
from sentenc.training.config.teacher import normalized_weights
from sentenc.training.teachers.base import Teacher


class TeacherEnsemble:
    """Concatenates the unit vectors of several teachers, each scaled by the square root of its weight.

    The cosine of two such vectors is the weighted mean of the teachers' cosines, unless a teacher encodes a
    text as the zero vector. A student that is initialized from an ensemble takes tokens and layers from the
    first teacher.

    Args:
        encoders: One or more teachers.
        weights: A positive weight for each teacher, divided by their sum. Equal weights by default.

    Raises:
        ValueError: There is no teacher, or the weights are not one positive number for each.
    """

    def __init__(self, encoders: Sequence[Teacher], weights: Sequence[float] = ()) -> None:
        if not encoders:
            raise ValueError("encoders is empty, expected at least one teacher")
        self.encoders = tuple(encoders)
        self.weights = normalized_weights(len(encoders), weights)

    @property
    def dim(self) -> int:
        """Length of the vectors: the sum of the teachers' dimensions."""
        return sum(encoder.dim for encoder in self.encoders)

    def encode(
        self,
        texts: list[str],
        *,
        normalize_embeddings: bool = False,
        on_overflow: Literal["ignore"] = "ignore",
    ) -> npt.NDArray[np.float32]:
        """Encodes n texts, see :meth:`Teacher.encode`: (n, dim) float32.

        The vectors have unit length even without ``normalize_embeddings``, unless a teacher encodes a text as
        the zero vector.
        """
        vectors = self.concatenate(
            [encoder.encode(texts, on_overflow=on_overflow) for encoder in self.encoders]
        )
        return unit_rows(vectors, "vectors") if normalize_embeddings else vectors

    def concatenate(self, parts: Sequence[npt.NDArray[np.floating]]) -> npt.NDArray[np.float32]:
        """Returns the ensemble's vectors (n, dim), float32, from each teacher's (n, t_i), of any norm."""
        scaled = [
            unit_rows(part, "vectors") * np.float32(weight**0.5)
            for part, weight in zip(parts, self.weights, strict=True)
        ]
        return np.concatenate(scaled, axis=1)

    def fingerprint(self) -> str:
        """Returns a short hash of the teachers' fingerprints and weights."""
        pairs = zip(self.encoders, self.weights, strict=True)
        return digest([f"{encoder.fingerprint()} {weight:.6f}".encode() for encoder, weight in pairs])


def first_transformer(teacher: Teacher) -> TransformerEncoder:
    """Returns the teacher, or the first of an ensemble, as a transformer with tokens and layers.

    Raises:
        ValueError: It is not a transformer.
    """
    if isinstance(teacher, TeacherEnsemble):
        teacher = teacher.encoders[0]
    if not isinstance(teacher, TransformerEncoder):
        raise ValueError(f"the teacher is {type(teacher).__name__}, expected a transformer")
    return teacher
