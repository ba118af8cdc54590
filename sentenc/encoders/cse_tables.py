"""Folding CSE's weights into the tables that the kernel looks up."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sentenc.encoders.cse_config import CSEConfig

_PHI = {"identity": 0, "tanh": 1, "relu": 2, "gelu": 3}
_POOLING = {"mean": 0, "sum": 1, "max": 2}


class WordTable(NamedTuple):
    """The word path: row i of the table times its scale is a_i x_i P."""

    rows: npt.NDArray[Any]  # (V, D) int8 or float32
    scales: npt.NDArray[np.float32]  # (V,) a_i times the quantisation step
    weights: npt.NDArray[np.float32]  # (V,) a_i


class NgramTable(NamedTuple):
    """The n-gram path: all T_{h,j} of a token side by side, and what is done to their sums."""

    rows: npt.NDArray[Any]  # (V, k * sum of widths) int8 or float32
    scales: npt.NDArray[np.float32]  # (K,) quantisation step of each filter
    biases: npt.NDArray[np.float32]  # (K,)
    widths: npt.NDArray[np.int64]
    filters: int
    phi: int
    pooling: int
    padded: bool
    projection: npt.NDArray[np.float32]  # (K, D), or (0, 0) to concatenate


def fold_tables(
    config: CSEConfig, weights: Mapping[str, npt.NDArray[Any]], tables: str
) -> tuple[WordTable, NgramTable]:
    """The tables of a model, in ``tables`` = ``"int8"`` or ``"float32"``."""
    stored = weights["embeddings"]
    scale = weights.get("embeddings.scale", np.ones(len(stored), np.float32)).astype(np.float32)
    embeddings = dense_weight(weights, "embeddings")
    dense = {name: dense_weight(weights, name) for name in config.shapes() if name != "embeddings"}
    return (
        _word_table(config, stored, scale, embeddings, dense, tables),
        _ngram_table(config, embeddings, dense, tables),
    )


def dense_weight(weights: Mapping[str, npt.NDArray[Any]], name: str) -> npt.NDArray[np.float32]:
    """A weight in float32; int8 embeddings are multiplied by their scale."""
    value = weights[name].astype(np.float32)
    return value * weights["embeddings.scale"][:, None] if weights[name].dtype == np.int8 else value


def _word_table(
    config: CSEConfig,
    stored: npt.NDArray[Any],
    scale: npt.NDArray[np.float32],
    embeddings: npt.NDArray[np.float32],
    dense: Mapping[str, npt.NDArray[np.float32]],
    tables: str,
) -> WordTable:
    if not config.word_path:
        nothing = np.zeros(len(stored), np.float32)
        return WordTable(
            np.zeros((len(stored), 0), np.int8 if tables == "int8" else np.float32), nothing, nothing
        )
    # Only ratios of weights count; the highest is made 1, so that none overflows.
    weights = np.exp(dense["token_weights"] - dense["token_weights"].max())
    if "projection" in dense:
        embeddings = embeddings @ dense["projection"]
    elif tables == "int8" and stored.dtype == np.int8:
        return WordTable(stored, weights * scale, weights)
    if tables == "float32":
        return WordTable(embeddings, weights, weights)
    step = quantisation_steps(np.abs(embeddings).max(axis=1))
    return WordTable(quantised(embeddings, step[:, None]), weights * step, weights)


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
        # One step a filter, shared by its taps, so that they can be added before they are scaled.
        largest = np.abs(rows).max(axis=0, initial=0).reshape(-1, k)
        bounds = np.cumsum([0, *widths])
        peak = [largest[bounds[i] : bounds[i + 1]].max(axis=0) for i in range(len(widths))]
        scales = quantisation_steps(np.concatenate(peak)) if peak else scales
        steps = [scales[i * k : (i + 1) * k] for i, h in enumerate(widths) for _ in range(h)]
        rows = quantised(rows, np.concatenate(steps) if steps else np.ones(0, np.float32))
    biases = [dense[f"biases.{h}"] for h in widths]
    residual = bool(widths) and config.combine == "residual"
    return NgramTable(
        rows,
        scales,
        np.concatenate(biases) if biases else np.zeros(0, np.float32),
        np.array(widths, np.int64),
        k,
        _PHI[config.phi],
        _POOLING[config.pooling],
        config.windows == "padded",
        np.concatenate([dense[f"output.{h}"] for h in widths]) if residual else np.zeros((0, 0), np.float32),
    )


def quantisation_steps(peaks: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Quantisation steps that take values as large as ``peaks`` to 127."""
    return (np.maximum(peaks, 1e-12) / 127).astype(np.float32)


def quantised(values: npt.NDArray[np.float32], steps: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    """Values in whole steps, int8."""
    whole: npt.NDArray[np.int8] = np.rint(values / steps).astype(np.int8)
    return whole
