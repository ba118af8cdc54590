"""Reads and writes model folders: written atomically, checked completely when read.

A folder contains ``config.json`` (kind, configuration, metadata, and the hash of every other file),
``model.safetensors``, ``tokenizer.json``, ``golden.json`` (texts and their reference vectors), and optionally
``README.md`` (the model card). Nothing is pickled. The folder of a pair has neither weights nor a tokenizer, and that of a
hybrid encoder no tokenizer; their encoders have folders of their own.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc._version import __version__
from sentenc.errors import CheckpointError
from sentenc.io.int4 import packed, unpacked

FORMAT_VERSION = 1
CONFIG, WEIGHTS, TOKENIZER, GOLDEN, CARD = (
    "config.json", "model.safetensors", "tokenizer.json", "golden.json", "README.md",
)  # fmt: skip
_KEYS = {"format_version", "kind", "sentenc_version", "config", "metadata", "files"}
#: The kinds of folders that have encoders in folders of their own: two, and one.
PAIR, HYBRID = "pair", "hybrid"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The content of a model folder.

    Attributes:
        kind: The kind of encoder: ``"cse"``, ``"static"``, ``"tinybert"`` for any BERT, ``"pair"`` or ``"hybrid"``.
        config: The encoder's configuration, plain values.
        tensors: The weights by name; none for a pair.
        tokenizer: The text of ``tokenizer.json``; empty for a pair and a hybrid encoder.
        golden: ``{"texts": [...], "embeddings": [[...], ...]}``, and ``"queries"`` for the texts as queries of a
            pair.
        metadata: Name, sources, scores and whatever else describes the model.
        card: The model card, Markdown, or None.
        folder: The folder from which it was read, or None.
    """

    kind: str
    config: dict[str, Any]
    tensors: dict[str, npt.NDArray[Any]]
    tokenizer: str
    golden: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    card: str | None = None
    folder: Path | None = None


def write_checkpoint(folder: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Writes a model folder. An older model is replaced completely or not at all.

    Raises:
        CheckpointError: ``folder`` exists and is not a model folder.
    """
    from sentenc.io.atomic import replacing_folder

    with replacing_folder(Path(folder), CONFIG, CheckpointError, "a model folder") as staging:
        write_files(staging, checkpoint)


def write_files(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes the files of a model into an existing folder; :func:`write_checkpoint` does so atomically.

    Int8 matrices that fit into 4 bits are written in half their size; see :mod:`sentenc.io.int4`.
    """
    names = _file_names(checkpoint.kind)
    if WEIGHTS in names:
        from safetensors.numpy import save_file

        tensors = {name: np.ascontiguousarray(value) for name, value in checkpoint.tensors.items()}
        save_file(packed(tensors), folder / WEIGHTS)
    if TOKENIZER in names:
        (folder / TOKENIZER).write_text(checkpoint.tokenizer, encoding="utf-8")
    (folder / GOLDEN).write_text(json.dumps(checkpoint.golden, ensure_ascii=False), encoding="utf-8")
    if checkpoint.card is not None:
        (folder / CARD).write_text(checkpoint.card, encoding="utf-8")
    config = {
        "format_version": FORMAT_VERSION,
        "kind": checkpoint.kind,
        "sentenc_version": __version__,
        "config": checkpoint.config,
        "metadata": checkpoint.metadata,
        "files": {name: _describe(folder / name) for name in names},
    }
    text = json.dumps(config, ensure_ascii=False, indent=1) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")


def read_checkpoint(folder: str | os.PathLike[str]) -> Checkpoint:
    """Reads a model folder and checks its files against the hashes in ``config.json``.

    Raises:
        CheckpointError: A file or key is missing, unexpected, damaged or of another format version.
    """
    folder = Path(folder)
    config = _read_config(folder)
    names = _file_names(config["kind"])
    data = {name: _read_checked(folder / name, config["files"].get(name)) for name in names}
    return Checkpoint(
        kind=config["kind"],
        config=config["config"],
        tensors=_tensors(data[WEIGHTS], folder / WEIGHTS) if WEIGHTS in data else {},
        tokenizer=_text(data[TOKENIZER], folder / TOKENIZER) if TOKENIZER in data else "",
        golden=_json(data[GOLDEN], folder / GOLDEN),
        metadata=config["metadata"],
        card=read_card(folder),
        folder=folder,
    )


def read_card(folder: Path) -> str | None:
    """Returns the model card in a folder, or None. Bytes that are not UTF-8 become replacement characters."""
    # The card is for people, so a damaged one is no reason to refuse a model.
    path = folder / CARD
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def is_checkpoint(folder: Path) -> bool:
    """Returns whether a folder contains a ``config.json`` of sentenc."""
    try:
        return "format_version" in json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _file_names(kind: Any) -> tuple[str, ...]:
    if kind == HYBRID:
        return (WEIGHTS, GOLDEN)
    return (GOLDEN,) if kind == PAIR else (WEIGHTS, TOKENIZER, GOLDEN)


def _describe(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = _json(path.read_bytes(), path)
    except OSError as error:
        raise CheckpointError(f"{folder} is not a model folder: {CONFIG} cannot be read ({error})") from error
    version = config.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path} has format_version {version}, expected {FORMAT_VERSION}")
    if set(config) != _KEYS:
        missing, unexpected = sorted(_KEYS - set(config)), sorted(set(config) - _KEYS)
        raise CheckpointError(f"{path} has keys missing: {missing}, unexpected: {unexpected}")
    for key in ("config", "metadata", "files"):
        if not isinstance(config[key], dict):
            raise CheckpointError(
                f"{path} has {key} of type {type(config[key]).__name__}, expected an object"
            )
    return config


def _read_checked(path: Path, expected: Any) -> bytes:
    if not isinstance(expected, dict):
        raise CheckpointError(f"{path.parent / CONFIG} has no entry for {path.name} under files")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if len(data) != expected.get("bytes"):
        raise CheckpointError(
            f"{path} has {len(data)} bytes, expected {expected.get('bytes')}: truncated or changed"
        )
    if hashlib.sha256(data).hexdigest() != expected.get("sha256"):
        raise CheckpointError(f"{path} does not have the sha256 that {CONFIG} states: damaged or changed")
    return data


def _tensors(data: bytes, path: Path) -> dict[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return unpacked(load(data))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} has damaged weights: {error}") from error


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8: {error}") from error


def _json(data: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_text(data, path))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} contains {type(value).__name__}, expected an object")
    return value
