"""Computes the look-up tables of a CSE from its weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.cse.config import CSEConfig
from sentenc.encoders.weights import Weights, dense_weight
from sentenc.kernels.encode import ACTIVATIONS, INT16_BIAS, POOLINGS, NgramTable, WordTable
from sentenc.kernels.tables import multiply, quantize, side_by_side

# Rows that are quantized at a time, so that they stay in the cache.
_ROWS_PER_BLOCK = 1024

# Weights with one row per token, the bulk of a model. They may be stored in int8, with one scale per row.
ROWS = ("embeddings", "average")


def fold_tables(config: CSEConfig, weights: Weights, tables: str) -> tuple[WordTable, NgramTable]:
    """Returns the tables of a model in the type ``tables``: ``"int8"`` or ``"float32"``."""
    dense = {name: dense_weight(weights, name) for name in config.shapes() if name not in ROWS}
    columns = (config.word_dim + config.average_dim, sum(config.widths) * config.num_filters)
    words, ngrams = side_by_side(config.vocab_size, columns, tables)
    return (
        _word_table(config, weights, dense, words),
        _ngram_table(config, weights, dense, ngrams),
    )


def quantized_rows(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Returns rows (n, d) in int8, and the scale of each, (n,)."""
    scale = quantization_steps(np.abs(values).max(axis=1, initial=0))
    rounded = np.empty(values.shape, np.int8)
    for start in range(0, len(values), _ROWS_PER_BLOCK):
        block = slice(start, start + _ROWS_PER_BLOCK)
        scaled = values[block] / scale[block, None]
        rounded[block] = np.rint(scaled, out=scaled)
    return rounded, scale


def _word_table(
    config: CSEConfig,
    weights: Weights,
    dense: Mapping[str, npt.NDArray[np.float32]],
    rows: npt.NDArray[Any],
) -> WordTable:
    # Fills the rows, (V, D + A).
    no_scales = np.zeros(config.vocab_size, np.float32)
    scales, a = no_scales, no_scales
    if config.word_path:
        # Only the ratios of the weights matter. The highest is set to 1, so that none overflows.
        a = np.exp(dense["token_weights"] - dense["token_weights"].max())
        words = rows[:, : config.word_dim]
        if "projection" in dense:
            scales = _fill_projected(words, weights, dense["projection"])
        else:
            scales = _fill(words, weights, "embeddings")
    average_scales = no_scales
    if config.average_dim:
        average_scales = _fill(rows[:, config.word_dim :], weights, "average")
    return WordTable(rows, a * scales, average_scales, a, config.word_dim)


def _fill(rows: npt.NDArray[Any], weights: Weights, name: str) -> npt.NDArray[np.float32]:
    # Fills rows with a weight, and returns their scales. Rows stored in int8 are taken as they are, without loss.
    stored = weights[name]
    if stored.dtype == rows.dtype == np.int8:
        rows[:] = stored
        return weights[f"{name}.scale"].astype(np.float32)
    return _fill_dense(rows, dense_weight(weights, name))


def _fill_projected(
    rows: npt.NDArray[Any], weights: Weights, projection: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    # Fills rows with the products of the embeddings and the projection, and returns their scales. Block by block,
    # because all products with thousands of components would take four times the memory of the rows.
    scales = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _ROWS_PER_BLOCK):
        block = slice(start, start + _ROWS_PER_BLOCK)
        scales[block] = _fill_dense(rows[block], _products(weights, projection, block)[0])
    return scales


def _fill_dense(rows: npt.NDArray[Any], values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if rows.dtype == np.float32:
        rows[:] = values
        return np.ones(len(values), np.float32)
    rows[:], scales = quantized_rows(values)
    return scales


def _products(
    weights: Weights, matrix: npt.NDArray[np.float32], block: slice = slice(None)
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    # Returns the products of embeddings with a matrix, and the largest size in each column.
    stored = weights["embeddings"][block]
    if stored.dtype == np.int8:
        return multiply(stored, weights["embeddings.scale"][block].astype(np.float32), matrix)
    return multiply(stored.astype(np.float32, copy=False), None, matrix)


def _ngram_table(
    config: CSEConfig,
    weights: Weights,
    dense: Mapping[str, npt.NDArray[np.float32]],
    rows: npt.NDArray[Any],
) -> NgramTable:
    # Fills the rows, (V, k * sum of widths).
    k, widths = config.num_filters, config.widths
    columns = [dense[f"filters.{h}"][j] for h in widths for j in range(h)]
    scales = np.ones(config.num_features, np.float32)
    is_int8 = rows.dtype == np.int8
    if columns:
        products, largest = _products(weights, np.concatenate(columns, axis=1))
        if is_int8:
            # One step per filter, shared by its taps, so that they can be added before they are scaled.
            taps, bounds = largest.reshape(-1, k), np.cumsum([0, *widths])
            peaks = [taps[bounds[i] : bounds[i + 1]].max(axis=0) for i in range(len(widths))]
            scales = quantization_steps(np.concatenate(peaks))
            steps = [scales[i * k : (i + 1) * k] for i, h in enumerate(widths) for _ in range(h)]
            quantize(products, np.concatenate(steps), rows)
        else:
            rows[:] = products
    biases = np.concatenate([dense[f"biases.{h}"] for h in widths]) if widths else np.zeros(0, np.float32)
    projected = bool(widths) and config.combine != "concat"
    return NgramTable(
        rows,
        scales,
        biases,
        _whole_steps(biases, scales) if is_int8 else np.zeros(0, np.int16),
        np.array(widths, np.int64),
        k,
        ACTIVATIONS[config.phi],
        POOLINGS[config.pooling],
        config.windows == "padded",
        np.concatenate([dense[f"output.{h}"] for h in widths]) if projected else np.zeros((0, 0), np.float32),
    )


def _whole_steps(biases: npt.NDArray[np.float32], scales: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    # Rounding loses at most half a step, as it does for each tap. A bias that is too large belongs to a
    # filter whose taps are nearly zero; a model with such a filter keeps float32 sums.
    steps = np.rint(biases / scales)
    return (steps if (np.abs(steps) <= INT16_BIAS).all() else np.zeros(0)).astype(np.int16)


def quantization_steps(peaks: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns the quantization steps with which ``peaks`` becomes 127."""
    return (np.maximum(peaks, 1e-12) / 127).astype(np.float32)
