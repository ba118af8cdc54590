"""A fitted estimator as a folder: ``config.json``, ``head.safetensors``, and the encoder in ``encoder/``."""

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sentenc._version import __version__
from sentenc.atomic import replacing_folder
from sentenc.downstream.head import LinearHead
from sentenc.downstream.labels import Labels
from sentenc.errors import CheckpointError
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
            "files": {HEAD: _sha256(staging / HEAD)},
        }
        text = json.dumps(config, ensure_ascii=False, indent=1, default=_plain) + "\n"
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
    from sentenc.downstream.estimator import FITTED
    from sentenc.downstream.pairs import SentencePairClassifier, SentencePairRegressor

    kinds = {c.__name__: c for c in (SentenceClassifier, SentencePairClassifier, SentencePairRegressor)}
    folder = Path(folder)
    config = _read_config(folder)
    if config["kind"] not in kinds:
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
        labels = config["labels"]
        if kind is SentencePairRegressor:
            estimator._set_steps(np.array(labels["steps"], np.int64))
            n_outputs = len(labels["steps"])
        else:
            estimator._set_labels(Labels.from_json(labels))
            n_outputs = len(estimator.classes_)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG} cannot be used: {error!r}") from error
    estimator.encoder_ = load_encoder(folder / ENCODER)
    # What a clone of it is fitted from: the encoder that it has.
    estimator.encoder = estimator.encoder_
    estimator.head_ = _read_head(folder / HEAD, config)
    estimator._head_kind = estimator.head_.kind
    columns = 1 if kind is SentenceClassifier else 2
    shape = (n_outputs, columns * estimator.encoder_.dim)
    if estimator.head_.weights.shape != shape:
        raise CheckpointError(
            f"{folder / HEAD} has weights {estimator.head_.weights.shape}, expected {shape}"
        )
    return estimator  # type: ignore[no-any-return]


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

    if not isinstance(config["files"], dict) or _sha256(path) != config["files"].get(HEAD):
        raise CheckpointError(f"{path} does not have the sha256 that {CONFIG} states: damaged or changed")
    try:
        return LinearHead.from_tensors(config["head"], load_file(path))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _plain(value: Any) -> Any:
    # numpy's scalars among settings and metrics.
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be kept in {CONFIG}")
