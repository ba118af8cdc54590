"""Pools the rows of tokens to the vectors of texts, in bounded memory."""

from functools import reduce

import numpy as np
import numpy.typing as npt

from sentenc.encoders.static.config import Pooling
from sentenc.encoders.weights import Weights

# The numbers that are gathered at a time, 16 MB of float32.
_NUMBERS = 1 << 22


def pool_rows(
    weights: Weights, ids: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], pooling: Pooling,
    out: npt.NDArray[np.float32],
) -> None:  # fmt: skip
    """Writes the pooled rows of each text into ``out``, (n, d); zeros for a text without tokens.

    The order of a sum is that of the tokens, whatever the other texts are.

    Args:
        weights: ``embeddings`` (V, d), and ``embeddings.scale`` (V,) if they are int8.
        ids: The ids of all texts, one text after another.
        ends: The end of each text in them, (n,).
        pooling: ``"mean"``, ``"mean_sqrt_len"`` or ``"max"``.
        out: Overwritten.
    """
    most = max(1, _NUMBERS // out.shape[1])
    if len(ends) == 1:
        # For one text, finding the texts of each length takes longer than the sum.
        n = len(ids)
        out[0] = _pooled(weights, ids, np.zeros(1, np.int64), n, pooling, most)[0] if n else 0.0
        if n and pooling != "max":
            out /= np.float32(n if pooling == "mean" else np.sqrt(n))
        return
    lengths = np.diff(ends, prepend=0)
    starts = ends - lengths
    out[:] = 0.0
    for length in np.unique(lengths[lengths > 0]).tolist():
        texts = np.flatnonzero(lengths == length)
        at_a_time = max(1, most // length)
        for begin in range(0, len(texts), at_a_time):
            block = texts[begin : begin + at_a_time]
            out[block] = _pooled(weights, ids, starts[block], length, pooling, most)
    if pooling in ("mean", "mean_sqrt_len"):
        divisor = np.maximum(lengths, 1).astype(np.float32)
        out /= (divisor if pooling == "mean" else np.sqrt(divisor))[:, None]


def _pooled(
    weights: Weights, ids: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], length: int, pooling: Pooling,
    most: int,
) -> npt.NDArray[np.float32]:  # fmt: skip
    # The sums or maxima of texts of one length, (n, d).
    add, pool = (np.maximum, np.max) if pooling == "max" else (np.add, np.sum)
    parts = (
        pool(_rows(weights, ids[starts[:, None] + np.arange(begin, min(begin + most, length))]), axis=1)
        for begin in range(0, length, most)
    )
    return reduce(add, parts)


def _rows(weights: Weights, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    rows = weights["embeddings"][ids].astype(np.float32, copy=False)
    if "embeddings.scale" in weights:
        rows *= weights["embeddings.scale"][ids][..., None]
    return rows


def pool_counts(
    token_weights: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], add: bool,
    out: npt.NDArray[np.float32],
) -> None:  # fmt: skip
    """Writes bags of words into ``out``, (n, V).

    Args:
        token_weights: The weight of each token, (V,).
        ids: The ids of all texts, one text after another.
        ends: The end of each text in them, (n,).
        add: Whether a weight is added for every token of a text, or once.
        out: Overwritten.
    """
    out[:] = 0.0
    texts = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    if add:
        np.add.at(out, (texts, ids), token_weights[ids])
    else:
        out[texts, ids] = token_weights[ids]


def without(
    ids: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], token: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns ids and ends without one token."""
    kept = ids != token
    before = np.concatenate([[0], np.cumsum(kept)])
    return ids[kept], before[ends]


def scale_to_unit(vectors: npt.NDArray[np.float32]) -> None:
    """Scales vectors (n, d) to unit length in place; zero vectors stay zero."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    vectors /= np.where(norms > 0, norms, np.float32(1.0))[:, None]
