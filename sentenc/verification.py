"""Checks a model against its golden vectors, the reference vectors stored in its folder."""

import os
from dataclasses import dataclass

import numpy as np

from sentenc.checkpoint import GOLDEN, read_checkpoint
from sentenc.errors import CheckpointError
from sentenc.registry import load_checkpoint, resolve_model

# Processors differ only in fused multiply-add and in the order of summation.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    Attributes:
        texts: The number of golden texts.
        max_difference: The largest difference of a component, relative to the norm of the longest vector.
    """

    texts: int
    max_difference: float


def verify(folder: str | os.PathLike[str]) -> Verification:
    """Loads a model folder and compares its vectors with the golden ones stored in it.

    Raises:
        CheckpointError: The folder is damaged, or a component differs by more than 1e-4 of the norm of the
            longest golden vector. The message contains the text.
        ModelNotFoundError: There is no model of this name.
    """
    path = resolve_model(folder)
    checkpoint = read_checkpoint(path)
    # The golden vectors of a BERT are those of float32, even if it computes in int8 by default.
    encoder = load_checkpoint(checkpoint, compute="float32" if checkpoint.kind == "tinybert" else None)
    texts = checkpoint.golden.get("texts")
    expected = np.array(checkpoint.golden.get("embeddings"), np.float32)
    if not isinstance(texts, list) or expected.shape != (len(texts), encoder.dim):
        raise CheckpointError(
            f"{path / GOLDEN} has embeddings of shape {expected.shape}, expected (texts, {encoder.dim})"
        )
    vectors = encoder.encode(texts, on_overflow="ignore")
    scale = max(float(np.linalg.norm(expected, axis=1).max(initial=0)), 1e-12)
    differences = np.abs(vectors - expected).max(axis=1, initial=0) / scale
    if differences.max(initial=0) > TOLERANCE or not np.isfinite(differences).all():
        worst = int(differences.argmax())
        raise CheckpointError(
            f"{path}: the vector of golden text {worst} ({texts[worst][:40]!r}) differs by "
            f"{differences[worst]:.2g} of the longest vector, expected at most {TOLERANCE:g}"
        )
    return Verification(len(texts), float(differences.max(initial=0)))
