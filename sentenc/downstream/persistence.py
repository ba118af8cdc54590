"""A fitted estimator as a folder: ``config.json``, ``head.safetensors``, and the encoder in ``encoder/``."""

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sentenc._version import __version__
from sentenc.downstream.head import LinearHead
from sentenc.downstream.labels import Labels
from sentenc.encoders.base import Encoder
from sentenc.errors import CheckpointError, ModelNotFoundError
from sentenc.io.atomic import replacing_folder
from sentenc.registry import load as load_encoder

if TYPE_CHECKING:
    from sentenc.downstream.estimator import SentenceEstimator

FORMAT_VERSION = 1
CONFIG, HEAD, ENCODER = "config.json", "head.safetensors", "encoder"
_KEYS = {
    "format_version", "kind", "sentenc_version", "versions", "params", "labels", "head", "fitted", "files",
}  # fmt: skip
# Settings that are objects, or mean nothing to who loads the folder.
_NOT_KEPT = ("encoder", "random_state", "class_weight", "show_progress_bar")


def save(estimator: "SentenceEstimator", folder: str | os.PathLike[str]) -> None:
    """See :meth:`~sentenc.downstream.estimator.SentenceEstimator.save`."""
    from safetensors.numpy import save_file

    from sentenc.downstream.estimator import FITTED

    with replacing_folder(Path(folder), HEAD, CheckpointError, "a classifier's folder") as staging:
        save_file(estimator.head_.tensors(), staging / HEAD)
        estimator.encoder_.save(staging / ENCODER)
        params = {k: v for k, v in estimator.get_params(deep=False).items() if k not in _NOT_KEPT}
        config = {
            "format_version": FORMAT_VERSION,
            "kind": type(estimator).__name__,
            "sentenc_version": __version__,
            "versions": {name: version(name) for name in ("numpy", "scikit-learn")},
            "params": params,
            "labels": _labels(estimator),
            "head": estimator.head_.kind,
            "fitted": {name: getattr(estimator, name) for name in FITTED},
            "files": {
                path.relative_to(staging).as_posix(): _stated(path)
                for path in sorted(staging.rglob("*"))
                if path.is_file()
            },
        }
        # ASCII, so that a label with half a surrogate pair is kept too.
        text = json.dumps(config, indent=1, default=_plain) + "\n"
        (staging / CONFIG).write_text(text, encoding="utf-8")


def load(folder: str | os.PathLike[str], expected: type | None = None) -> "SentenceEstimator":
    """The fitted estimator in a folder, whichever it is.

    Args:
        folder: What ``save`` wrote.
        expected: The class that it must be of.

    Raises:
        CheckpointError: It holds none, one of another class, or is damaged.
        MissingExtraError: The extra ``downstream``, or one that the encoder needs, is not installed.
    """
    from sentenc.downstream.classifier import SentenceClassifier
    from sentenc.downstream.estimator import FITTED, check_settings
    from sentenc.downstream.pairs import SentencePairClassifier, SentencePairRegressor

    kinds = {c.__name__: c for c in (SentenceClassifier, SentencePairClassifier, SentencePairRegressor)}
    folder = Path(folder)
    config = _read_config(folder)
    _check_files(folder, config["files"])
    if not isinstance(config["kind"], str) or config["kind"] not in kinds:
        raise CheckpointError(
            f"{folder / CONFIG} has kind {config['kind']!r}, expected one of {', '.join(kinds)}"
        )
    kind = kinds[config["kind"]]
    if expected is not None and kind is not expected:
        raise CheckpointError(f"{folder} holds a {kind.__name__}, expected a {expected.__name__}")
    try:
        estimator: Any = kind(**config["params"])
        for name in FITTED:
            setattr(estimator, name, config["fitted"][name])
        n_outputs = _set_labels(estimator, config["labels"], config["head"])
        check_settings(estimator)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{folder / CONFIG} cannot be used: {error!r}") from error
    estimator.encoder_ = _read_encoder(folder)
    # What a clone of it is fitted from: the encoder that it has.
    estimator.encoder = estimator.encoder_
    estimator.head_ = _read_head(folder / HEAD, config)
    columns = 1 if kind is SentenceClassifier else 2
    shape = (n_outputs, columns * estimator.encoder_.dim)
    if estimator.head_.weights.shape != shape:
        raise CheckpointError(
            f"{folder / HEAD} has weights {estimator.head_.weights.shape}, expected {shape}"
        )
    return estimator  # type: ignore[no-any-return]


def _set_labels(estimator: Any, labels: dict[str, Any], head: Any) -> int:
    # Gives a new estimator what the head's outputs stand for; returns how many there are.
    if hasattr(estimator, "score_range"):
        steps = labels["steps"]
        if any(type(step) is not int for step in steps) or steps != list(range(steps[0], steps[-1] + 1)):
            raise ValueError(f"steps are {steps}, expected whole numbers, one after the other")
        estimator._set_steps(np.array(steps, np.int64))
        if estimator.score_range is not None:
            estimator.score_range = tuple(estimator.score_range)
        multi_label, n = False, len(steps)
    else:
        estimator._set_labels(Labels.from_json(labels))
        multi_label, n = estimator.multi_label_, len(estimator.classes_)
    if head != ("sigmoid" if multi_label else "softmax"):
        raise ValueError(f"a head of kind {head!r} does not go with these labels")
    return n


def _labels(estimator: Any) -> dict[str, Any]:
    if hasattr(estimator, "steps_"):
        return {"steps": estimator.steps_.tolist()}
    found: dict[str, Any] = estimator._labels.to_json()
    return found


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder} is not a classifier's folder: {CONFIG} cannot be read ({error})"
        ) from error
    if not isinstance(config, dict) or not (folder / HEAD).exists():
        raise CheckpointError(
            f"{folder} is not a classifier's folder: expected {CONFIG}, {HEAD} and {ENCODER}/"
        )
    if config.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format_version {config.get('format_version')}, expected {FORMAT_VERSION}"
        )
    if set(config) != _KEYS:
        missing, unexpected = sorted(_KEYS - set(config)), sorted(set(config) - _KEYS)
        raise CheckpointError(f"{path} has keys missing: {missing}, unexpected: {unexpected}")
    return config


def _read_head(path: Path, config: dict[str, Any]) -> LinearHead:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return LinearHead.from_tensors(config["head"], load_file(path))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def _read_encoder(folder: Path) -> Encoder:
    try:
        return load_encoder(folder / ENCODER)
    except ModelNotFoundError as error:
        raise CheckpointError(f"{folder / ENCODER} holds no encoder: {error}") from error


def _check_files(folder: Path, files: Any) -> None:
    # Every file that was written is as it was; others beside them (a report) do no harm.
    if (
        not isinstance(files, dict)
        or HEAD not in files
        or not any(n.startswith(ENCODER + "/") for n in files)
    ):
        raise CheckpointError(
            f"{folder / CONFIG} has files {files!r}, expected {HEAD} and those in {ENCODER}/"
        )
    for name, stated in files.items():
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise CheckpointError(f"{folder / CONFIG} states a file outside the folder: {name}")
        try:
            found = _stated(path)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read ({error}), but {CONFIG} states it") from error
        if found != stated:
            raise CheckpointError(
                f"{path} does not have the size and sha256 that {CONFIG} states: damaged or changed"
            )
    if extra := sorted(
        name
        for path in (folder / ENCODER).rglob("*")
        if path.is_file() and (name := path.relative_to(folder).as_posix()) not in files
    ):
        raise CheckpointError(f"{folder / extra[0]} is a file that {CONFIG} does not state")


def _stated(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": sha256}


def _plain(value: Any) -> Any:
    # numpy's scalars among settings and metrics.
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be kept in {CONFIG}")
