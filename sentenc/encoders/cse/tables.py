"""Computes the look-up tables of a CSE from its weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.cse.config import CSEConfig
from sentenc.encoders.weights import Weights, dense_weight
from sentenc.kernels.encode import ACTIVATIONS, INT16_BIAS, POOLINGS, NgramTable, WordTable

# Rows that are quantized at a time, so that they stay in the cache.
_ROWS_PER_BLOCK = 1024

# Weights with one row per token, the bulk of a model. They may be stored in int8, with one scale per row.
ROWS = ("embeddings", "average")


def fold_tables(config: CSEConfig, weights: Weights, tables: str) -> tuple[WordTable, NgramTable]:
    """Returns the tables of a model in the type ``tables``: ``"int8"`` or ``"float32"``."""
    embeddings = dense_weight(weights, "embeddings")
    dense = {name: dense_weight(weights, name) for name in config.shapes() if name not in ROWS}
    return (
        _word_table(config, weights, embeddings, dense, tables),
        _ngram_table(config, embeddings, dense, tables),
    )


def quantized_rows(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Returns rows (n, d) in int8, and the scale of each, (n,)."""
    scale = quantization_steps(np.abs(values).max(axis=1, initial=0))
    return quantized(values, scale[:, None]), scale


def _word_table(
    config: CSEConfig,
    weights: Weights,
    embeddings: npt.NDArray[np.float32],
    dense: Mapping[str, npt.NDArray[np.float32]],
    tables: str,
) -> WordTable:
    no_scales = np.zeros(len(embeddings), np.float32)
    rows, scales, a = np.zeros((len(embeddings), 0), tables), no_scales, no_scales
    if config.word_path:
        # Only the ratios of the weights matter. The highest is set to 1, so that none overflows.
        a = np.exp(dense["token_weights"] - dense["token_weights"].max())
        if "projection" in dense:
            rows, scales = _projected_rows(embeddings, dense["projection"], tables)
        else:
            rows, scales = _rows(weights, "embeddings", tables)
    average_scales = no_scales
    if config.average_dim:
        average, average_scales = _rows(weights, "average", tables)
        rows = np.concatenate([rows, average], axis=1)
    return WordTable(rows, a * scales, average_scales, a, config.word_dim)


def _projected_rows(
    embeddings: npt.NDArray[np.float32], projection: npt.NDArray[np.float32], tables: str
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    # Returns the rows of embeddings @ projection and their scales. A projection to thousands of components is
    # quantized block by block, because all of it would take four times the memory of the table.
    rows = np.empty((len(embeddings), projection.shape[1]), tables)
    scales = np.ones(len(embeddings), np.float32)
    for start in range(0, len(embeddings), _ROWS_PER_BLOCK):
        block = slice(start, start + _ROWS_PER_BLOCK)
        projected = embeddings[block] @ projection
        if tables == "float32":
            rows[block] = projected
        else:
            rows[block], scales[block] = quantized_rows(projected)
    return rows, scales


def _rows(weights: Weights, name: str, tables: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    # Returns the rows of a table and their scales. Rows stored in int8 are taken as they are, without loss.
    stored = weights[name]
    if tables == "float32":
        dense = dense_weight(weights, name)
        return dense, np.ones(len(dense), np.float32)
    if stored.dtype == np.int8:
        return stored, weights[f"{name}.scale"].astype(np.float32)
    return quantized_rows(dense_weight(weights, name))


def _ngram_table(
    config: CSEConfig,
    embeddings: npt.NDArray[np.float32],
    dense: Mapping[str, npt.NDArray[np.float32]],
    tables: str,
) -> NgramTable:
    k, widths = config.num_filters, config.widths
    columns = [dense[f"filters.{h}"][j] for h in widths for j in range(h)]
    filters = np.concatenate(columns, axis=1) if columns else np.zeros((embeddings.shape[1], 0), np.float32)
    rows: npt.NDArray[Any] = embeddings @ filters
    scales = np.ones(config.num_features, np.float32)
    if tables == "int8":
        # One step per filter, shared by its taps, so that they can be added before they are scaled.
        largest = np.maximum(rows.max(axis=0, initial=0), -rows.min(axis=0, initial=0)).reshape(-1, k)
        bounds = np.cumsum([0, *widths])
        peak = [largest[bounds[i] : bounds[i + 1]].max(axis=0) for i in range(len(widths))]
        scales = quantization_steps(np.concatenate(peak)) if peak else scales
        steps = [scales[i * k : (i + 1) * k] for i, h in enumerate(widths) for _ in range(h)]
        rows = quantized(rows, np.concatenate(steps) if steps else np.ones(0, np.float32))
    biases = np.concatenate([dense[f"biases.{h}"] for h in widths]) if widths else np.zeros(0, np.float32)
    projected = bool(widths) and config.combine != "concat"
    return NgramTable(
        rows,
        scales,
        biases,
        _whole_steps(biases, scales) if tables == "int8" else np.zeros(0, np.int16),
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


def quantized(values: npt.NDArray[np.float32], steps: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    """Returns values (n, d) in whole steps, int8. The shape of ``steps`` is (d,) or (n, 1)."""
    rounded = np.empty(values.shape, np.int8)
    steps = np.broadcast_to(steps, values.shape)
    for start in range(0, len(values), _ROWS_PER_BLOCK):
        block = slice(start, start + _ROWS_PER_BLOCK)
        scaled = values[block] / steps[block]
        rounded[block] = np.rint(scaled, out=scaled)
    return rounded
