"""What the index is given, checked: vectors, options, and the encoder that belongs to it."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.errors import IndexMismatchError
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.quantization import FloatArray
from sentenc.texts import as_text_list


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raises ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(choices)}")


def check_positive(name: str, value: Any) -> int:
    """``value``, if it is an integer of 1 or more."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {value!r}, expected an integer of 1 or more")
    return int(value)


def check_texts(texts: Any) -> list[str] | None:
    """The texts as a list; raises TypeError for a single str, which would be taken letter by letter."""
    if isinstance(texts, str):
        raise TypeError("texts is str, expected a list of str: one text is [text]")
    return None if texts is None else as_text_list(texts)


def are_numbers(queries: Any) -> bool:
    """Whether queries are vectors, or one of them, rather than texts."""
    if isinstance(queries, np.ndarray):
        return queries.dtype.kind in "fiu"
    first = queries[0] if isinstance(queries, list | tuple) and queries else None
    return isinstance(first, int | float | np.number | np.ndarray | list | tuple)


def check_vectors(
    name: str, vectors: npt.ArrayLike, dim: int, unit: bool, limit: float = math.inf
) -> FloatArray:
    """A copy of ``vectors`` as (n, dim) float32, of unit length if ``unit`` (zero vectors stay zero).

    Raises:
        TypeError: They are not numbers.
        ValueError: The shape is another, or a value is NaN, infinite, or beyond ``limit``; the message has
            the index.
    """
    try:
        values = np.array(vectors, np.float32, order="C")
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is not an array of numbers, expected shape (n, {dim}): {error}") from error
    if values.ndim != 2 or values.shape[1] != dim:
        raise ValueError(f"{name} has shape {values.shape}, expected (n, {dim})")
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name}[{int(finite.argmin())}] has NaN or infinity, expected finite numbers")
    if unit:
        # In float64: the squares of float32 numbers near its limits are beyond them.
        norms = np.sqrt(np.einsum("ij,ij->i", values, values, dtype=np.float64))
        norms[norms == 0] = 1.0
        huge = norms > 1e37
        values[huge] = values[huge] / norms[huge, None]
        norms[huge] = 1.0
        values /= norms[:, None].astype(np.float32)
    if math.isfinite(limit) and (beyond := (np.abs(values) > limit).any(axis=1)).any():
        raise ValueError(
            f"{name}[{int(beyond.argmax())}] has a number beyond {limit:g}, the limit of this store"
        )
    return values


def check_column(name: str, values: Sequence[Any] | None, count: int) -> Sequence[Any]:
    """``values``, or so many None; raises ValueError if their number is another."""
    if values is None:
        return [None] * count
    if len(values) != count:
        raise ValueError(f"{len(values)} {name} for {count} items, expected one each")
    return values


def load_encoder(
    encoder: Encoder | str | os.PathLike[str] | None,
) -> tuple[str | None, Encoder | None]:
    """An encoder, and the name or folder that :func:`sentenc.load` would load it by, if it has one."""
    if encoder is None or isinstance(encoder, Encoder):
        return _shipped_name(encoder), encoder
    if not isinstance(encoder, str | os.PathLike):
        raise TypeError(f"encoder is {type(encoder).__name__}, expected an Encoder, a name or a folder")
    from sentenc.registry import load

    name = os.fspath(encoder)
    loaded = load(name)
    # A folder is found again from any other folder only by its whole path.
    return str(Path(name).expanduser().absolute()) if Path(name).expanduser().is_dir() else name, loaded


def kept_dim(encoder: Encoder | None, dim: int | None) -> int:
    """How many components an index keeps: ``dim``, or by default those that similarities need."""
    if encoder is None and dim is None:
        raise ValueError("got neither of encoder and dim, expected one of them")
    if encoder is not None and dim is None:
        return encoder.similarity_dim
    kept = check_positive("dim", dim)
    if encoder is not None and kept > encoder.dim:
        raise ValueError(f"dim is {kept}, expected at most the encoder's {encoder.dim}")
    return kept


def kept_part(vectors: Any, encoder: Encoder | None, dim: int) -> Any:
    """The components that an index keeps of an encoder's whole vectors; other vectors as they are."""
    if encoder is None or dim == encoder.dim or np.shape(vectors)[-1:] != (encoder.dim,):
        return vectors
    return np.asarray(vectors)[..., :dim]


def matching_encoder(
    folder: Path, manifest: Manifest, encoder: Encoder | str | os.PathLike[str] | None, force: bool
) -> Encoder | None:
    """The encoder to search an index with.

    Raises:
        IndexMismatchError: It is not the one that the index was built with.
    """
    built = manifest.encoder
    if encoder is None and (built is None or built["model"] is None):
        return None
    _, found = load_encoder(built["model"] if encoder is None and built else encoder)
    if found is None:
        return None
    if found.dim < manifest.dim:
        raise IndexMismatchError(
            f"{folder} holds vectors of {manifest.dim} dimensions, but the encoder gives {found.dim}"
        )
    fingerprint = found.fingerprint()
    if built is not None and built["fingerprint"] != fingerprint and not force:
        raise IndexMismatchError(
            f"{folder} was built by {built['model'] or 'an encoder'} with fingerprint {built['fingerprint']}, "
            f"but this encoder has {fingerprint}: their vectors are not comparable (force=True overrides)"
        )
    return found


def _shipped_name(encoder: Encoder | None) -> str | None:
    # A shipped model says what it is called; that it still is that model, the fingerprint tells.
    from sentenc.registry import available_models

    metadata = getattr(encoder, "metadata", None)
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if name in available_models() else None
