"""The native inner loop of CSE: from UTF-8 bytes to sentence vectors.

It does not hold the GIL. A vector does not depend on the other sentences of a call.
"""

import ctypes
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sentenc.kernels.arguments import (
    address_of,
    address_of_output,
    check_shape,
    checked_bytes,
    checked_offsets,
    readable,
)
from sentenc.kernels.library import check, library
from sentenc.kernels.tables import are_side_by_side, side_by_side
from sentenc.kernels.vocabulary import Vocabulary
from sentenc.validation import check_integer

_FLOAT32, _INT64 = np.dtype(np.float32), np.dtype(np.int64)

# Codes of the activation and the pooling.
ACTIVATIONS = {"identity": 0, "tanh": 1, "relu": 2, "gelu": 3}
POOLINGS = {"mean": 0, "sum": 1, "max": 2}

# The largest bias, in quantization steps, for sums in 16 bits: 32 windows, each of up to three taps of 128 and
# a bias, sum up to at most 32 * (384 + 511) = 28,640.
INT16_BIAS = 511
# The largest width, and the largest number of columns of each part of a vector.
_WIDEST, _LARGEST = 1024, 1 << 24


class WordTable(NamedTuple):
    """The table of the word path and the plain average: row i times its scales is [a_i x_i P; y_i]."""

    rows: npt.NDArray[Any]  # (V, D + A) int8 or float32
    scales: npt.NDArray[np.float32]  # (V,) a_i times the quantization step of x_i P
    average_scales: npt.NDArray[np.float32]  # (V,) the quantization step of y_i
    weights: npt.NDArray[np.float32]  # (V,) a_i
    dim: int  # D


class NgramTable(NamedTuple):
    """The table of the n-gram path: a row has all T_{h,j} of a token; the rest is applied to sums of them."""

    rows: npt.NDArray[Any]  # (V, k * sum of widths), of the type of the word table
    scales: npt.NDArray[np.float32]  # (K,) quantization step of each filter
    biases: npt.NDArray[np.float32]  # (K,)
    steps: npt.NDArray[np.int16]  # (K,) biases in whole quantization steps; empty if sums are in float32
    widths: npt.NDArray[np.int64]
    filters: int  # k
    phi: int
    pooling: int
    padded: bool
    projection: npt.NDArray[np.float32]  # (K, D), or (0, 0) if features are only concatenated


class _Model(ctypes.Structure):
    # sentenc_cse in sentenc.h.
    _fields_ = [
        (name, ctypes.c_void_p if kind == "p" else ctypes.c_int64)
        for name, kind in (
            ("vocab_size", "i"), ("is_int8", "i"), ("word_rows", "p"), ("word_stride", "i"),
            ("word_dim", "i"), ("average_dim", "i"), ("word_scales", "p"), ("average_scales", "p"),
            ("word_weights", "p"), ("ngram_rows", "p"), ("ngram_stride", "i"), ("filter_scales", "p"),
            ("filter_biases", "p"), ("bias_steps", "p"), ("widths", "p"), ("n_widths", "i"),
            ("filters", "i"), ("phi", "i"), ("pooling", "i"), ("is_padded", "i"), ("projection", "p"),
            ("appends_features", "i"),
        )
    ]  # fmt: skip


class CSEKernel:
    """Encodes texts with a vocabulary and the tables of a CSE.

    Args:
        vocabulary: The vocabulary; its ids are below V.
        words: The word path and the plain average.
        ngrams: The n-gram path.
        dim: The number of components of a vector. Those after the first D + A are the n-gram features.

    Raises:
        ValueError: Two tables do not fit together, or a number is out of range.
    """

    def __init__(self, vocabulary: Vocabulary, words: WordTable, ngrams: NgramTable, dim: int) -> None:
        self._vocabulary = vocabulary  # owns the native structure
        self._handle = vocabulary.handle
        self._dim = dim
        _check_sizes(vocabulary, words, ngrams, dim)
        self._model, self._arrays = _model(words, ngrams, dim)
        self._address = ctypes.addressof(self._model)

    def encode(
        self,
        text: bytes,
        offsets: npt.NDArray[np.int64],
        max_tokens: int,
        out: npt.NDArray[np.float32],
        counts: npt.NDArray[np.int64],
    ) -> None:
        """Writes the vector of every text ``text[offsets[i]:offsets[i + 1]]`` into ``out``.

        Args:
            text: UTF-8, folded (see :mod:`sentenc.tokenization.unicode_fold`), not yet in lower case.
            offsets: (n + 1,) int64, where each text begins and ends.
            max_tokens: The number of tokens at which a text is cut.
            out: (n, dim) float32, contiguous, overwritten.
            counts: (n,) int64, overwritten by the number of tokens of each text before the cut.

        Raises:
            MemoryError: There is too little memory.
            TypeError: ``text`` is not ``bytes``, or ``max_tokens`` is no integer.
            ValueError: ``offsets`` fall or lie outside of the text, an array has another shape or type, or an
                output cannot be written.
        """
        offsets = checked_offsets(offsets)
        n = len(offsets) - 1
        check(
            library.sentenc_encode(
                self._handle, self._address, checked_bytes("text", text), len(text), address_of(offsets), n,
                check_integer("max_tokens", max_tokens, at_least=0, at_most=2**63 - 1),
                address_of_output("out", out, _FLOAT32, (n, self._dim)), self._dim,
                address_of_output("counts", counts, _INT64, (n,)),
            )
        )  # fmt: skip


def _check_sizes(vocabulary: Vocabulary, words: WordTable, ngrams: NgramTable, dim: int) -> None:
    if words.rows.ndim != 2 or ngrams.widths.ndim != 1 or ngrams.widths.dtype.kind not in "iu":
        raise ValueError(
            f"words.rows have shape {words.rows.shape}, and ngrams.widths are {ngrams.widths.dtype} of shape "
            f"{ngrams.widths.shape}, expected (V, D + A) and integers of shape (n,)"
        )
    if len(words.rows) < vocabulary.n_tokens:
        raise ValueError(
            f"words.rows has {len(words.rows)} rows, expected at least one for each of "
            f"{vocabulary.n_tokens} tokens"
        )
    columns = words.rows.shape[1]
    check_integer("the number of widths", len(ngrams.widths), at_least=0, at_most=_WIDEST)
    for width in ngrams.widths.tolist():
        check_integer("a width", width, at_least=1, at_most=_WIDEST)
    check_integer("ngrams.filters", ngrams.filters, at_least=0, at_most=_LARGEST)
    check_integer("words.dim", words.dim, at_least=0, at_most=min(columns, _LARGEST))
    check_integer("the dimensions of the average", columns - words.dim, at_least=0, at_most=_LARGEST)
    check_integer("ngrams.phi", ngrams.phi, at_least=0, at_most=max(ACTIVATIONS.values()))
    check_integer("ngrams.pooling", ngrams.pooling, at_least=0, at_most=max(POOLINGS.values()))
    steps = np.asarray(ngrams.steps)
    if len(steps) and max(abs(int(steps.min())), abs(int(steps.max()))) > INT16_BIAS:
        raise ValueError(f"ngrams.steps are up to {np.abs(steps).max()}, expected at most {INT16_BIAS}")
    features = len(ngrams.widths) * ngrams.filters
    if dim not in (columns, columns + features):
        raise ValueError(f"dim is {dim}, expected {columns}, or {columns + features} with the features")


def _model(words: WordTable, ngrams: NgramTable, dim: int) -> tuple[_Model, list[Any]]:
    n_features = len(ngrams.widths) * ngrams.filters
    columns = int(ngrams.widths.sum()) * ngrams.filters
    vocab_size = len(words.rows)
    for name, array, shape in (
        ("words.scales", words.scales, (vocab_size,)),
        ("words.average_scales", words.average_scales, (vocab_size,)),
        ("words.weights", words.weights, (vocab_size,)),
        ("ngrams.rows", ngrams.rows, (vocab_size, columns)),
        ("ngrams.scales", ngrams.scales, (n_features,)),
        ("ngrams.biases", ngrams.biases, (n_features,)),
        ("ngrams.steps", ngrams.steps, (n_features if len(ngrams.steps) else 0,)),
        (
            "ngrams.projection",
            ngrams.projection,
            (n_features, words.dim) if ngrams.projection.size else (0, 0),
        ),
    ):
        check_shape(name, array, shape)
    if words.rows.dtype != ngrams.rows.dtype or words.rows.dtype not in (np.int8, np.float32):
        raise ValueError(
            f"rows are {words.rows.dtype} and {ngrams.rows.dtype}, expected both int8 or float32"
        )
    arrays = [
        *_side_by_side(words.rows, ngrams.rows),
        *(readable(a, np.float32) for a in (words.scales, words.average_scales, words.weights)),
        *(readable(a, np.float32) for a in (ngrams.scales, ngrams.biases, ngrams.projection)),
        readable(ngrams.steps, np.int16), ngrams.widths.astype(np.int64),
    ]  # fmt: skip
    word_rows, ngram_rows, scales, average, weights, filter_scales, biases, projection, steps, widths = arrays
    model = _Model(
        vocab_size, words.rows.dtype == np.int8, word_rows.ctypes.data, word_rows.strides[0], words.dim,
        words.rows.shape[1] - words.dim, scales.ctypes.data, average.ctypes.data, weights.ctypes.data,
        ngram_rows.ctypes.data, ngram_rows.strides[0], filter_scales.ctypes.data, biases.ctypes.data,
        steps.ctypes.data if len(steps) else None, widths.ctypes.data, len(widths), ngrams.filters,
        ngrams.phi, ngrams.pooling, ngrams.padded, projection.ctypes.data if projection.size else None,
        dim > words.rows.shape[1],
    )  # fmt: skip
    return model, arrays


def _side_by_side(words: npt.NDArray[Any], ngrams: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    if are_side_by_side(words, ngrams):
        return [words, ngrams]
    parts = side_by_side(len(words), (words.shape[1], ngrams.shape[1]), words.dtype)
    parts[0][:], parts[1][:] = words, ngrams
    return parts
