"""Weights by name: checks of their shapes and values, and int8 matrices in float32."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import CheckpointError

Weights = Mapping[str, npt.NDArray[Any]]


def check_weights(
    weights: Weights, shapes: Mapping[str, tuple[int, ...]], may_be_int8: Collection[str]
) -> None:
    """Checks that all weights of a model are present and well-formed, and that there are no others.

    Args:
        weights: The weights by name. An int8 matrix (rows, columns) comes with its scales (rows,),
            named ``<name>.scale``.
        shapes: The shape of each weight, without scales.
        may_be_int8: The names of the matrices that may be int8. All others are float16 or float32.

    Raises:
        CheckpointError: A weight is missing, unexpected, of another shape or dtype, or not finite.
    """
    expected = dict(shapes)
    for name in may_be_int8:
        if name in weights and weights[name].dtype == np.int8:
            expected[f"{name}.scale"] = shapes[name][:1]
    missing, unexpected = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing or unexpected:
        raise CheckpointError(
            f"model.safetensors has weights missing: {missing[:5]}, unexpected: {unexpected[:5]}"
        )
    for name, shape in expected.items():
        value = weights[name]
        if value.shape != shape:
            raise CheckpointError(f"model.safetensors has {name} of shape {value.shape}, expected {shape}")
        if value.dtype == np.int8 and name in may_be_int8:
            continue
        if value.dtype not in (np.float16, np.float32):
            raise CheckpointError(
                f"model.safetensors has {name} of dtype {value.dtype}, expected float16 or float32"
            )
        if not np.isfinite(value).all():
            raise CheckpointError(f"model.safetensors has values in {name} that are not finite")


def dense_weight(weights: Weights, name: str) -> npt.NDArray[np.float32]:
    """Returns a weight in float32. The rows of an int8 matrix are multiplied by their scales."""
    value = weights[name]
    dense: npt.NDArray[np.float32] = value.astype(np.float32)
    if value.dtype == np.int8:
        dense *= weights[f"{name}.scale"][:, None]
    return dense
