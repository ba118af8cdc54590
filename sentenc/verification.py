"""Golden vectors: what a model gave when it was made, to check that it still gives it."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sentenc.checkpoint import GOLDEN, read_checkpoint
from sentenc.errors import CheckpointError

if TYPE_CHECKING:
    pass

# Fused multiply-add and the order of a product's sums differ between processors; nothing else does.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Verification:
    """Largest difference to the golden vectors, relative to the longest of them, and over how many texts."""

    texts: int
    max_difference: float


def verify(folder: str | os.PathLike[str]) -> Verification:
    """Loads a model folder and compares its vectors with the golden ones stored in it.

    Raises:
        CheckpointError: The folder is damaged, or a vector differs by more than 1e-4 of the longest
            golden vector; the message names the text.
    """
    from sentenc.registry import load_checkpoint, resolve_model

    path = resolve_model(folder)
    checkpoint = read_checkpoint(path)
    # A BERT's golden vectors are those of float32, whatever its folder says that it computes in.
    encoder = load_checkpoint(checkpoint, compute="float32" if checkpoint.kind == "tinybert" else None)
    texts, expected = (
        checkpoint.golden.get("texts"),
        np.array(checkpoint.golden.get("embeddings"), np.float32),
    )
    if not isinstance(texts, list) or expected.shape != (len(texts), encoder.dim):
        raise CheckpointError(
            f"{path / GOLDEN} has embeddings of shape {expected.shape}, expected one of {encoder.dim} a text"
        )
    found = encoder.encode(texts, on_overflow="ignore")
    scale = max(float(np.linalg.norm(expected, axis=1).max(initial=0)), 1e-12)
    differences = np.abs(found - expected).max(axis=1, initial=0) / scale
    if differences.max(initial=0) > TOLERANCE or not np.isfinite(differences).all():
        worst = int(differences.argmax())
        raise CheckpointError(
            f"{path}: the vector of golden text {worst} ({texts[worst][:40]!r}) differs by "
            f"{differences[worst]:.2g} of the longest, expected {TOLERANCE:g} at most"
        )
    return Verification(len(texts), float(differences.max(initial=0)))
