"""Folds a rotation, or any linear map, of the output axes into the weights of a trained CSE model.

A residual model computes e = u P + b / n + sum_h s_h Q_h. For any square R, e R is the same model with P R,
b R and Q_h R instead of P, b and Q_h. Without a projection P, R is folded into the embeddings (E R). The
filters W_h^(j) then become R^-1 W_h^(j), so that the features s_h do not change.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sentenc.encoders.cse.config import CSEConfig

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
Weights = dict[str, FloatArray]

# Above this condition number, the inverse would put large values that cancel each other into the filters,
# which float16 and int8 cannot represent. R then becomes a projection, which needs no inverse.
_WORST_CONDITION = 1e3


def map_root(output_map: npt.NDArray[np.floating]) -> DoubleArray:
    """Returns (M M^T)^(1/2), (dim, dim), for a linear map M (dim, t) from student to teacher space.

    Because (x M)(y M)^T = x M M^T y^T, the symmetric root gives the same dot products as M, and the mapped
    vectors have as many components as the student's.

    Raises:
        ValueError: ``output_map`` is not a matrix of finite values.
    """
    m = np.asarray(output_map, np.float64)
    if m.ndim != 2 or not np.isfinite(m).all():
        raise ValueError(f"output_map has shape {m.shape}, expected a matrix (dim, t) of finite values")
    values, vectors = np.linalg.eigh(m @ m.T)
    root: DoubleArray = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root


def principal_rotation(vectors: npt.NDArray[np.floating]) -> DoubleArray:
    """Returns the rotation (dim, dim) of vectors (n, dim) to their principal axes, largest first.

    The vectors are scaled to unit length, but not centered, because cosines are not invariant to a shift. The
    first k coordinates after the rotation therefore preserve the cosines better than any other k. The largest
    element of every axis is positive, which makes the result unique.
    """
    unit = np.asarray(vectors, np.float64)
    norms = np.sqrt((unit * unit).sum(1, keepdims=True))
    unit = unit / np.where(norms > 0, norms, 1.0)
    axes: DoubleArray = np.linalg.eigh(unit.T @ unit)[1][:, ::-1]
    peaks = axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])]
    return axes * np.where(peaks < 0, -1.0, 1.0)


def map_output(config: CSEConfig, weights: Weights, matrix: DoubleArray) -> tuple[CSEConfig, Weights]:
    """Folds a linear map of the sentence vectors into the weights; features behind them do not change.

    Args:
        config: The configuration of the model.
        weights: The weights by their names in a checkpoint.
        matrix: The linear map R (D, D), D being ``config.word_dim``.

    Returns:
        The configuration, with a projection if one is needed, and the weights in float32.

    Raises:
        ValueError: The model has no sentence vector (combine "concat"), or ``matrix`` has another shape.
    """
    if config.combine == "concat":
        raise ValueError(
            f"combine is {config.combine!r}, expected 'residual' or 'both': concatenated n-gram features "
            "have no output matrix that a linear map can be folded into"
        )
    if matrix.shape != (config.word_dim, config.word_dim):
        raise ValueError(f"the map has shape {matrix.shape}, expected {(config.word_dim, config.word_dim)}")
    mapped = {name: weight.astype(np.float64) for name, weight in weights.items()}
    if config.widths and config.output_dim is None and np.linalg.cond(matrix) > _WORST_CONDITION:
        config = replace(config, output_dim=config.embedding_dim)
        mapped["projection"] = np.eye(config.embedding_dim)
    is_projected = "projection" in mapped
    last_matrices = ("projection" if is_projected else "embeddings", "bias", "output")
    for name, weight in mapped.items():
        kind = name.partition(".")[0]
        if kind in last_matrices:
            mapped[name] = weight @ matrix
        elif kind == "filters" and not is_projected:
            mapped[name] = np.linalg.solve(matrix, weight).astype(np.float64)
    return config, {name: weight.astype(np.float32) for name, weight in mapped.items()}


def scale_features(
    config: CSEConfig, weights: Weights, features: npt.NDArray[np.floating], norm: float
) -> Weights:
    """Scales the n-gram features s_h of a model that concatenates them to its sentence vector (``"both"``).

    All features get the same standard deviation, such that the centered features of a sentence have an RMS
    norm of about ``norm``. Because relu(c z) = c relu(z) for c > 0, filters and biases are multiplied by c,
    and Q_h is divided by c. The sentence vector does not change.

    Args:
        config: The configuration of the model, with phi "relu" or "identity".
        weights: The weights by their names in a checkpoint.
        features: The features s_h of n sentences, (n, K).
        norm: The root of the mean squared norm.

    Raises:
        ValueError: phi is another function, or the features do not vary.
    """
    if config.phi not in ("relu", "identity"):
        raise ValueError(
            f"phi is {config.phi!r}, expected 'relu' or 'identity', whose features can be scaled"
        )
    spread = np.asarray(features, np.float64).std(0)
    if not spread.max() > 0:
        raise ValueError(
            f"the n-gram features of {len(features)} sentences do not vary: they cannot be scaled"
        )
    factors = norm / np.sqrt(config.num_features) / np.maximum(spread, 1e-3 * spread.max())
    scaled = dict(weights)
    for number, h in enumerate(config.widths):
        c = factors[number * config.num_filters : (number + 1) * config.num_filters]
        scaled[f"filters.{h}"] = (weights[f"filters.{h}"] * c).astype(np.float32)
        scaled[f"biases.{h}"] = (weights[f"biases.{h}"] * c).astype(np.float32)
        scaled[f"output.{h}"] = (weights[f"output.{h}"] / c[:, None]).astype(np.float32)
    return scaled
