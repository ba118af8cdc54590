"""Reads and writes the folder of an estimator: ``config.json``, ``head.safetensors`` and ``encoder/``."""

import hashlib
import json
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from sentenc._version import __version__
from sentenc.downstream.head import LinearHead
from sentenc.encoders.base import Encoder
from sentenc.errors import CheckpointError, ModelNotFoundError
from sentenc.io.atomic import replacing_folder
from sentenc.registry import load as load_encoder

FORMAT_VERSION = 1
CONFIG, HEAD, ENCODER = "config.json", "head.safetensors", "encoder"
_KEYS = {
    "format_version",
    "kind",
    "sentenc_version",
    "versions",
    "params",
    "labels",
    "head",
    "fitted",
    "files",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class EstimatorState:
    """The contents of an estimator's folder, apart from versions and hashes.

    Attributes:
        kind: Name of the estimator's class.
        params: Constructor arguments that can be written as JSON.
        labels: Classes or score steps, as JSON values.
        fitted: Fitted attributes that can be written as JSON.
        head: The linear head.
        encoder: The encoder.
    """

    kind: str
    params: dict[str, Any]
    labels: dict[str, Any]
    fitted: dict[str, Any]
    head: LinearHead
    encoder: Encoder


def write_estimator(folder: Path, state: EstimatorState) -> None:
    """Writes a folder atomically: if writing fails, an older folder stays as it was.

    Args:
        folder: The folder to write; an existing one must contain an estimator, or nothing.
        state: What to write.

    Raises:
        CheckpointError: ``folder`` exists and contains something else.
    """
    from safetensors.numpy import save_file

    with replacing_folder(folder, HEAD, CheckpointError, "a classifier's folder") as staging:
        save_file(state.head.tensors(), staging / HEAD)
        state.encoder.save(staging / ENCODER)
        config = {
            "format_version": FORMAT_VERSION,
            "kind": state.kind,
            "sentenc_version": __version__,
            "versions": {name: version(name) for name in ("numpy", "scikit-learn")},
            "params": state.params,
            "labels": state.labels,
            "head": state.head.kind,
            "fitted": state.fitted,
            "files": {
                path.relative_to(staging).as_posix(): file_entry(path)
                for path in sorted(staging.rglob("*"))
                if path.is_file()
            },
        }
        # Written as ASCII because a label may contain a lone surrogate, which UTF-8 cannot encode.
        text = json.dumps(config, indent=1, default=_json_value) + "\n"
        (staging / CONFIG).write_text(text, encoding="utf-8")


def read_config(folder: Path) -> dict[str, Any]:
    """Reads ``config.json`` and checks its keys, its version, and the hash of every file that it lists.

    Raises:
        CheckpointError: The folder does not contain an estimator, or a file is missing or damaged.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder} is not a classifier's folder: {CONFIG} cannot be read ({error})"
        ) from error
    if not isinstance(config, dict) or not (folder / HEAD).exists():
        raise CheckpointError(
            f"{folder} is not a classifier's folder, expected {CONFIG}, {HEAD} and {ENCODER}/"
        )
    if config.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format_version {config.get('format_version')}, expected {FORMAT_VERSION}"
        )
    if set(config) != _KEYS:
        missing, unexpected = sorted(_KEYS - set(config)), sorted(set(config) - _KEYS)
        raise CheckpointError(f"{path} has missing keys {missing} and unexpected keys {unexpected}")
    _check_files(folder, config["files"])
    return config


def read_head(folder: Path, kind: Any) -> LinearHead:
    """Reads the linear head.

    Args:
        folder: The estimator's folder.
        kind: "softmax" or "sigmoid", from the configuration.

    Raises:
        CheckpointError: The file is not a safetensors file, or its tensors do not form a head.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / HEAD
    try:
        return LinearHead.from_tensors(kind, load_file(path))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def read_encoder(folder: Path) -> Encoder:
    """Loads the encoder.

    Raises:
        CheckpointError: The folder contains no encoder, or a damaged one.
        MissingExtraError: The extra that the encoder needs is not installed.
    """
    try:
        return load_encoder(folder / ENCODER)
    except ModelNotFoundError as error:
        raise CheckpointError(f"{folder / ENCODER} contains no encoder: {error}") from error


def file_entry(path: Path) -> dict[str, Any]:
    """Returns the size and the SHA-256 of a file, as listed in ``config.json``."""
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": sha256}


def _check_files(folder: Path, files: Any) -> None:
    # The folder may contain unlisted files, such as a report, but not among the files of the encoder.
    if (
        not isinstance(files, dict)
        or HEAD not in files
        or not any(name.startswith(ENCODER + "/") for name in files)
    ):
        raise CheckpointError(
            f"{folder / CONFIG} has files {files!r}, expected {HEAD} and those in {ENCODER}/"
        )
    for name, listed in files.items():
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise CheckpointError(f"{folder / CONFIG} lists a file outside the folder: {name}")
        try:
            entry = file_entry(path)
        except OSError as error:
            raise CheckpointError(f"{path} is listed in {CONFIG} and cannot be read ({error})") from error
        if entry != listed:
            raise CheckpointError(
                f"{path} does not have the size and SHA-256 listed in {CONFIG}: it is damaged or was changed"
            )
    names = (path.relative_to(folder).as_posix() for path in (folder / ENCODER).rglob("*") if path.is_file())
    if unlisted := sorted(name for name in names if name not in files):
        raise CheckpointError(f"{folder / unlisted[0]} is not listed in {CONFIG}")


def _json_value(value: Any) -> Any:
    # NumPy scalars and paths occur among settings and metrics.
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be written to {CONFIG}")
