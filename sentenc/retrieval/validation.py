"""Validates the arguments of an index: vectors, options and the encoder."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.encoders.lazy import EncoderSource
from sentenc.encoders.roles import stated_space
from sentenc.errors import IndexMismatchError, ModelNotFoundError
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.quantization import FloatArray
from sentenc.texts import as_text_list, describe


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raises ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(choices)}")


def check_positive(name: str, value: Any) -> int:
    """Returns ``value`` as int; raises ValueError unless it is an integer of at least 1."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {value!r}, expected an integer of at least 1")
    return int(value)


def check_share(name: str, value: Any) -> float:
    """Returns ``value`` as float; raises ValueError unless it is a number from 0 to 1."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}, expected a number from 0 to 1")
    return float(value)


def check_texts(texts: Any) -> list[str] | None:
    """Returns the texts as a list; raises TypeError for a single str, whose items would be letters."""
    if isinstance(texts, str):
        raise TypeError("texts is str, expected a list of str: pass [text] for a single text")
    return None if texts is None else as_text_list(texts)


def are_numbers(queries: Any) -> bool:
    """Returns whether the queries are one or several vectors, not texts."""
    numbers = (int, float, np.number, np.ndarray, list, tuple)
    if hasattr(queries, "__array__") and not isinstance(queries, str):
        # Arrays, tensors and Series. The items of an array of objects decide.
        array = np.asarray(queries)
        if array.dtype != object:
            return bool(array.dtype.kind in "fiu")
        return array.size > 0 and all(isinstance(item, numbers) for item in array.flat)
    first = queries[0] if isinstance(queries, list | tuple) and queries else None
    return isinstance(first, numbers)


def as_array(name: str, vectors: Any, dim: int) -> npt.NDArray[Any]:
    """Returns vectors as an array of any shape; raises ValueError if lists in them have different lengths."""
    try:
        return np.asarray(vectors)
    except ValueError as error:
        raise ValueError(
            f"{name} contains lists of different lengths, expected vectors of {dim} numbers each"
        ) from error


def check_vectors(
    name: str, vectors: npt.ArrayLike, dim: int, unit: bool, limit: float = math.inf
) -> FloatArray:
    """Returns a copy of ``vectors`` as (n, dim) float32, normalized if ``unit``; zero vectors stay zero.

    Raises:
        TypeError: The vectors are not numbers.
        ValueError: The shape differs, or a value is NaN, infinite or beyond ``limit``; with its index.
    """
    try:
        # The arrays of other libraries may not know NumPy's argument for copies.
        values = np.array(np.asarray(vectors), np.float32, order="C")
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is not an array of numbers, expected shape (n, {dim}): {error}") from error
    if values.ndim != 2 or values.shape[1] != dim:
        raise ValueError(f"{name} has shape {values.shape}, expected (n, {dim})")
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name}[{int(finite.argmin())}] has NaN or infinity, expected finite numbers")
    if unit:
        # In float64, because the square of a large float32 number overflows.
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


def check_column(name: str, values: Any, count: int) -> list[Any]:
    """Returns ``values`` as a list, or ``count`` times None.

    Raises:
        TypeError: ``values`` is no ordered collection.
        ValueError: There are not ``count`` values.
    """
    if values is None:
        return [None] * count
    if isinstance(values, str | bytes | Mapping | set | frozenset) or not isinstance(values, Iterable):
        raise TypeError(f"{name} is {describe(values)}, expected a list of {count}")
    items = list(values)
    if len(items) != count:
        raise ValueError(f"{len(items)} {name} for {count} items, expected one each")
    return items


def load_encoder(
    encoder: Encoder | str | os.PathLike[str] | None,
    options: Mapping[str, Any] | None = None,
    threads: int | None = None,
) -> tuple[str | None, Encoder | None]:
    """Loads an encoder, unless it is one already.

    Args:
        encoder: An encoder, or the name or folder of one.
        options: Options of :func:`sentenc.load` that change vectors.
        threads: Its number of threads.

    Returns:
        The name or folder by which :func:`sentenc.load` loads it, or None if there is none, and the encoder.
    """
    if encoder is None or isinstance(encoder, Encoder):
        return _name_of(encoder), encoder
    if not isinstance(encoder, str | os.PathLike):
        raise TypeError(f"encoder is {type(encoder).__name__}, expected an Encoder, a name or a folder")
    from sentenc.registry import load

    loaded = load(encoder, threads=threads, **(options or {}))
    return _name_of(loaded), loaded


def described_encoder(model: str | None, encoder: Encoder) -> dict[str, Any]:
    """Returns what the manifest of an index states about the encoder of its items.

    Args:
        model: The name or folder by which it is loaded; None if there is none.
        encoder: The encoder.
    """
    described: dict[str, Any] = {
        "model": model, "fingerprint": encoder.fingerprint(), "space": encoder.space,
    }  # fmt: skip
    return described | stated_options(model, encoder)


def stated_options(model: str | None, encoder: Encoder) -> dict[str, dict[str, Any]]:
    """Returns ``{"options": options}`` of :func:`sentenc.load`, or an empty dict if it was called without any."""
    if encoder.loaded_as is None or encoder.loaded_as[0] != model or not encoder.loaded_as[1]:
        return {}
    return {"options": dict(encoder.loaded_as[1])}


def folder_path(folder: Any) -> Path:
    """Returns the absolute path of the folder of an index; raises TypeError if it is neither a str nor a path."""
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"folder is {describe(folder)}, expected a str or a path")
    return Path(folder).expanduser().resolve()


def stored_dim(encoder: Encoder | None, dim: int | None) -> int:
    """Returns the number of components that an index stores: ``dim``, or by default ``similarity_dim``."""
    if encoder is None and dim is None:
        raise ValueError("pass either encoder or dim")
    if encoder is not None and dim is None:
        return encoder.similarity_dim
    stored = check_positive("dim", dim)
    if encoder is not None and stored > encoder.dim:
        raise ValueError(f"dim is {stored}, expected at most the encoder's {encoder.dim}")
    return stored


def stored_part(vectors: Any, source: EncoderSource | None, dim: int) -> Any:
    """Returns the leading components of vectors of the encoder; other vectors are returned unchanged."""
    # The encoder may not be loaded yet, and vectors of the stored length do not need it.
    if source is None or np.shape(vectors)[-1:] in ((), (dim,)):
        return vectors
    if np.shape(vectors)[-1:] != (source.encoder.dim,):
        return vectors
    return np.asarray(vectors)[..., :dim]


def matching_encoder(
    folder: Path,
    manifest: Manifest,
    encoder: Encoder | str | os.PathLike[str] | None,
    force: bool,
    threads: int | None = None,
) -> Encoder | None:
    """Returns the encoder to search an index with: ``encoder``, or the one that built the index.

    Raises:
        IndexMismatchError: An encoder of another space built the index, and ``force`` is False.
    """
    built = manifest.encoder
    if encoder is None and (built is None or built["model"] is None):
        return None
    if encoder is None and built is not None:
        name, loaded = _load_stored(folder, built, threads, "Index.open(folder, encoder=...), --model")
    else:
        name, loaded = load_encoder(encoder, threads=threads)
    if loaded is None:
        return None
    if built is not None and not force and not shares_space(loaded, built, manifest.dim):
        raise IndexMismatchError(_mismatch(folder, built, name, loaded.space))
    if loaded.dim < manifest.dim:
        raise IndexMismatchError(
            f"{folder} has vectors of {manifest.dim} dimensions, but those of the encoder have {loaded.dim}"
        )
    return loaded


def _load_stored(
    folder: Path, described: Mapping[str, Any], threads: int | None, way_out: str
) -> tuple[str | None, Encoder | None]:
    try:
        return load_encoder(described["model"], described.get("options"), threads)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"{folder} needs the model {described['model']}, which cannot be found; if it was moved, pass its new "
            f"place ({way_out}). {error}"
        ) from error


def shares_space(encoder: Encoder, described: Mapping[str, Any], dim: int) -> bool:
    """Returns whether the vectors of an encoder may be compared with those of an index.

    Args:
        encoder: The encoder.
        described: The encoder of the index in its manifest. Older ones have no space, but the fingerprint that
            identifies it.
        dim: The number of dimensions of the stored vectors.
    """
    space = described.get("space", described["fingerprint"])
    if is_part_of(encoder.space, space, dim):
        return True
    if "space" not in described and encoder.fingerprint() == described["fingerprint"]:
        return True
    # Older versions took this fingerprint, which depends on compute and max_tokens, for the space of a model.
    return stated_space(encoder.metadata) is None and is_part_of(
        encoder._unprompted_fingerprint(), space, dim
    )


def _mismatch(folder: Path, built: dict[str, Any], name: str | None, space: str) -> str:
    built_space = built.get("space", built["fingerprint"])
    if name is not None and name == built["model"]:
        return (
            f"the model {name} has been replaced since it built {folder}: its space was "
            f"{built_space} and is {space}, so their vectors are not comparable. The items are "
            f"intact, and `sentenc index reencode {folder}` computes their vectors from their texts again "
            "(force=True overrides)"
        )
    option = "" if name is None else f" --model {name}"
    return (
        f"{folder} was built by {built['model'] or 'an encoder'} of space {built_space}, but "
        f"{name or 'this encoder'} has the space {space}: their vectors are not comparable. Open it with the encoder that built it, or "
        f"replace its vectors by `sentenc index reencode {folder}{option}` or Index.reencode() "
        "(force=True overrides)"
    )


def check_query_encoder(encoder: Encoder, manifest: Manifest, items: Encoder | None) -> None:
    """Checks that the vectors of an encoder of queries can be compared with those of an index.

    Args:
        encoder: The encoder of queries.
        manifest: Settings of the index.
        items: The encoder of its items; None if it is not known, or cannot be loaded.

    Raises:
        ValueError: They cannot.
    """
    if encoder.dim < manifest.dim:
        raise ValueError(
            f"the encoder of queries has vectors of {encoder.dim} dimensions, expected those of the index, "
            f"{manifest.dim}"
        )
    built = manifest.encoder
    if built is None:
        return
    # Indexes of older versions do not state the space.
    spaces = [built["space"]] if "space" in built else []
    if items is not None:
        spaces.append(items.space)
    if not spaces:
        raise ValueError(
            "the space of the index is not known: open it with the encoder that built it, "
            "Index.open(folder, encoder=...)"
        )
    if not any(is_part_of(encoder.space, space, manifest.dim) for space in spaces):
        raise ValueError(
            f"the encoder of queries has the space {encoder.space!r}, expected that of the index and of "
            f"{built['model'] or 'its encoder'}, {spaces[-1]!r}"
        )


def is_part_of(queries: str, items: str, dim: int) -> bool:
    """Returns whether a space of queries is that of items, or that of their first ``dim`` components."""
    # A model that was fitted to the leading components of the vectors states their number.
    return queries in (items, f"{items}[:{dim}]")


def query_encoder(folder: Path, described: dict[str, Any], dim: int, threads: int | None = None) -> Encoder:
    """Returns the encoder of queries that a manifest describes.

    Raises:
        IndexMismatchError: It has another space than the index, or fewer dimensions.
    """
    _, loaded = _load_stored(folder, described, threads, "set_query_encoder()")
    if loaded is None:
        raise IndexMismatchError(f"{folder} has an encoder of queries without a name")
    if not shares_space(loaded, described, loaded.dim) or loaded.dim < dim:
        raise IndexMismatchError(
            f"{folder} has the encoder of queries {described['model']} of space {described['space']!r}, but its "
            f"space is now {loaded.space!r}. If both models of the index were replaced, `sentenc index reencode "
            f"{folder}` makes it their index again; set_query_encoder() sets another encoder of queries"
        )
    return loaded


def _name_of(encoder: Encoder | None) -> str | None:
    if encoder is None:
        return None
    if encoder.loaded_as is not None:
        return encoder.loaded_as[0]
    from sentenc.registry import available_models, load

    metadata = encoder.metadata if isinstance(encoder.metadata, Mapping) else {}
    name = metadata.get("name")
    if name not in available_models():
        return None
    # A model that was fitted to other texts may still have the name of the shipped model.
    return name if load(name).fingerprint() == encoder.fingerprint() else None
