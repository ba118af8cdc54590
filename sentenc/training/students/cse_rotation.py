"""Turning the output space of a trained CSE model without touching what it computes.

A residual model is e = u P + sum_h s_h Q_h. For any square R, e R is the same model with P R in
place of P and Q_h R in place of Q_h. Without a P, R goes into the embeddings (E R), and the filters
W_h^(j) become R^-1 W_h^(j), so that the features s_h stay what they were.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sentenc.encoders.cse.config import CSEConfig

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
Weights = dict[str, FloatArray]

# Above this condition number the inverse would put large, cancelling values into the filters, which
# float16 and int8 cannot hold; R is kept as a projection then, which needs no inverse.
_WORST_CONDITION = 1e3


def map_root(output_map: npt.NDArray[np.floating]) -> DoubleArray:
    """The square root of M M^T for a linear map M (dim, t) from a student's to its teacher's space.

    (x M)(y M)^T = x M M^T y^T: to a dot product, the symmetric root R = (M M^T)^(1/2), (dim, dim), is
    as good as M, and leaves vectors of the student's own length.

    Raises:
        ValueError: ``output_map`` is not a finite matrix.
    """
    m = np.asarray(output_map, np.float64)
    if m.ndim != 2 or not np.isfinite(m).all():
        raise ValueError(f"output_map has shape {m.shape}, expected a matrix (dim, t) of finite values")
    values, vectors = np.linalg.eigh(m @ m.T)
    root: DoubleArray = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root


def principal_axes(vectors: npt.NDArray[np.floating]) -> DoubleArray:
    """The principal axes (dim, dim) of vectors (n, dim), largest first, as the columns of a rotation.

    The vectors are scaled to unit length and not centered (cosines are not invariant to a shift), so
    the first k coordinates after the rotation keep the most of the cosines that any k can. The
    largest element of every axis is positive, which makes the answer unique.
    """
    unit = np.asarray(vectors, np.float64)
    norms = np.sqrt((unit * unit).sum(1, keepdims=True))
    unit = unit / np.where(norms > 0, norms, 1.0)
    axes: DoubleArray = np.linalg.eigh(unit.T @ unit)[1][:, ::-1]
    peaks = axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])]
    return axes * np.where(peaks < 0, -1.0, 1.0)


def turned(config: CSEConfig, weights: Weights, turn: DoubleArray) -> tuple[CSEConfig, Weights]:
    """A model whose vectors, concatenated features aside, are those of ``weights`` times ``turn`` (D, D).

    Returns:
        The configuration, with a projection if one was needed, and the weights, float32.

    Raises:
        ValueError: The model concatenates, or ``turn`` has another shape.
    """
    if config.combine == "concat":
        raise ValueError(
            f"combine is {config.combine!r}, expected 'residual' or 'both': n-gram features that are only "
            "concatenated have no matrix behind them to fold a linear map into"
        )
    if turn.shape != (config.word_dim, config.word_dim):
        raise ValueError(f"the map has shape {turn.shape}, expected {(config.word_dim, config.word_dim)}")
    found = {name: weight.astype(np.float64) for name, weight in weights.items()}
    if config.widths and config.output_dim is None and np.linalg.cond(turn) > _WORST_CONDITION:
        config = replace(config, output_dim=config.embedding_dim)
        found["projection"] = np.eye(config.embedding_dim)
    projected = "projection" in found
    turned_by = ("projection", "output") if projected else ("embeddings", "output")
    for name, weight in found.items():
        kind = name.partition(".")[0]
        if kind in turned_by:
            found[name] = weight @ turn
        elif kind == "filters" and not projected:
            found[name] = np.linalg.solve(turn, weight).astype(np.float64)
    return config, {name: weight.astype(np.float32) for name, weight in found.items()}


def with_features_of_length(
    config: CSEConfig, weights: Weights, features: npt.NDArray[np.floating], length: float
) -> Weights:
    """The same model with the features s_h in another unit, for models that concatenate them (``"both"``).

    Every filter gets the same spread, so that the features of a sentence, less their means, are about
    ``length`` long. relu(c z) = c relu(z) for c > 0: filters and biases are multiplied by c, Q_h divided.

    Args:
        config: With phi "relu" or "identity", for which that holds.
        weights: As in a checkpoint.
        features: s_h of some sentences, (n, K).
        length: Root of the mean square.

    Raises:
        ValueError: phi is another, or the features do not vary.
    """
    if config.phi not in ("relu", "identity"):
        raise ValueError(f"phi is {config.phi!r}, expected 'relu' or 'identity' for features in another unit")
    spread = np.asarray(features, np.float64).std(0)
    if not spread.max() > 0:
        raise ValueError(f"the features of {len(features)} sentences do not vary, expected some that do")
    factors = length / np.sqrt(config.num_features) / np.maximum(spread, 1e-3 * spread.max())
    found = dict(weights)
    for number, h in enumerate(config.widths):
        own = factors[number * config.num_filters : (number + 1) * config.num_filters]
        found[f"filters.{h}"] = (weights[f"filters.{h}"] * own).astype(np.float32)
        found[f"biases.{h}"] = (weights[f"biases.{h}"] * own).astype(np.float32)
        found[f"output.{h}"] = (weights[f"output.{h}"] / own[:, None]).astype(np.float32)
    return found
