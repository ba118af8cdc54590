"""Checks a model against its golden vectors, the reference vectors stored in its folder."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sentenc.checkpoint import GOLDEN, PAIR, Checkpoint, read_checkpoint
from sentenc.encoders.base import Encoder
from sentenc.encoders.pair import PairEncoder
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
    encoder = load_checkpoint(checkpoint, compute=None if checkpoint.kind in ("cse", "static") else "float32")
    texts = checkpoint.golden.get("texts")
    if not isinstance(texts, list):
        raise CheckpointError(f"{path / GOLDEN} has texts {texts!r}, expected a list")
    difference = _difference(
        path, texts, _golden(checkpoint, "embeddings", encoder), encoder.encode(texts, on_overflow="ignore")
    )
    if checkpoint.kind == PAIR:
        _check_halves(checkpoint, path)
        vectors = encoder.encode_query(texts, on_overflow="ignore")
        difference = max(
            difference, _difference(path, texts, _golden(checkpoint, "queries", encoder), vectors)
        )
    return Verification(len(texts), difference)


def _check_halves(checkpoint: Checkpoint, path: Path) -> None:
    # The fingerprint of a BERT depends on the type in which it computes, which is the stored one here.
    pair = load_checkpoint(checkpoint)
    for name, half in pair.halves.items() if isinstance(pair, PairEncoder) else ():
        stored, actual = half.described["fingerprint"], half.encoder.fingerprint()
        if stored != actual:
            raise CheckpointError(
                f"{path / name} has the fingerprint {actual}, expected {stored}: it is damaged or changed"
            )


def _golden(checkpoint: Checkpoint, key: str, encoder: Encoder) -> npt.NDArray[np.float32]:
    texts = checkpoint.golden["texts"]
    expected = np.array(checkpoint.golden.get(key), np.float32)
    if expected.shape != (len(texts), encoder.dim):
        raise CheckpointError(
            f"{checkpoint.folder}/{GOLDEN} has {key} of shape {expected.shape}, expected (texts, {encoder.dim})"
        )
    return expected


def _difference(
    path: Path, texts: list[str], expected: npt.NDArray[np.float32], vectors: npt.NDArray[np.float32]
) -> float:
    """Returns the largest difference of a component; raises CheckpointError if it is above ``TOLERANCE``."""
    scale = max(float(np.linalg.norm(expected, axis=1).max(initial=0)), 1e-12)
    differences = np.abs(vectors - expected).max(axis=1, initial=0) / scale
    if differences.max(initial=0) > TOLERANCE or not np.isfinite(differences).all():
        worst = int(differences.argmax())
        raise CheckpointError(
            f"{path}: the vector of golden text {worst} ({texts[worst][:40]!r}) differs by "
            f"{differences[worst]:.2g} of the longest vector, expected at most {TOLERANCE:g}"
        )
    return float(differences.max(initial=0))
