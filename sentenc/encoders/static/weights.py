"""Reads the rows of static models from safetensors files."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.bert.reading import SAFETENSORS
from sentenc.errors import CheckpointError, NotStaticError

# The names of the rows in the files of sentence-transformers and wordllama, and of model2vec.
_ROWS = ("embedding.weight", "embeddings")


def read_tensors(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Returns the tensors of the ``model.safetensors`` of a folder.

    Raises:
        NotStaticError: There is no such file.
        CheckpointError: It is damaged.
    """
    path = folder / SAFETENSORS
    if not path.exists():
        raise NotStaticError(f"{folder} has no {SAFETENSORS}, expected the weights in this file")
    return read_tensor_file(path)


def read_tensor_file(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Returns the tensors of a safetensors file.

    Raises:
        CheckpointError: It is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read as weights: {error}") from error


def read_rows(tensors: dict[str, npt.NDArray[Any]], source: Path) -> dict[str, npt.NDArray[Any]]:
    """Returns the row of every token, as the weights of a static model.

    Args:
        tensors: ``embedding.weight`` (V, d); or, as in model2vec, ``embeddings`` (m, d), and optionally the row of
            each token as ``mapping`` (V,) and the factor of each token as ``weights`` (V,).
        source: The folder or file, for messages.

    Returns:
        ``embeddings`` (V, d) float32, or int8 with the factors ``embeddings.scale`` (V,).

    Raises:
        CheckpointError: A tensor is missing, has another shape, or has a value that is not finite.
    """
    name = next((name for name in _ROWS if name in tensors), None)
    if name is None:
        raise CheckpointError(
            f"{source} has the weights {', '.join(sorted(tensors)) or 'none'}, "
            "expected embedding.weight or embeddings"
        )
    rows = tensors[name]
    mapping, factors = (
        (tensors.get("mapping"), tensors.get("weights")) if name == "embeddings" else (None, None)
    )
    if rows.ndim != 2 or not rows.shape[1]:
        raise CheckpointError(f"{source} has embeddings of shape {rows.shape}, expected finite rows (V, d)")
    if mapping is not None:
        places = mapping.astype(np.int64)
        if places.ndim != 1 or (len(places) and not 0 <= places.min() <= places.max() < len(rows)):
            raise CheckpointError(
                f"{source} has a mapping of shape {places.shape}, expected the number of a row, from 0 to "
                f"{len(rows) - 1}, for every token"
            )
        rows = rows[places]
    if factors is not None and factors.shape != (len(rows),):
        raise CheckpointError(f"{source} has weights of shape {factors.shape}, expected ({len(rows)},)")
    if rows.dtype == np.int8:
        scale = np.ones(len(rows), np.float32) if factors is None else factors.astype(np.float32)
        return {"embeddings": np.ascontiguousarray(rows), "embeddings.scale": scale}
    rows = rows.astype(np.float32)
    if factors is not None:
        rows *= factors.astype(np.float32)[:, None]
    return {"embeddings": checked_rows(rows, source)}


def checked_rows(rows: npt.NDArray[np.float32], source: Path) -> npt.NDArray[np.float32]:
    """Returns rows (V, d), contiguous.

    Raises:
        CheckpointError: A value is not finite.
    """
    if not np.isfinite(rows).all():
        raise CheckpointError(f"{source} has embeddings of shape {rows.shape}, expected finite rows (V, d)")
    return np.ascontiguousarray(rows)
