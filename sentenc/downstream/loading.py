"""Loads a fitted estimator of any class from its folder."""

import os
from pathlib import Path

from sentenc.downstream.classifier import SentenceClassifier
from sentenc.downstream.estimator import SentenceEstimator, read_estimator
from sentenc.downstream.pairs import SentencePairClassifier, SentencePairRegressor
from sentenc.downstream.persistence import CONFIG, read_config
from sentenc.errors import CheckpointError

_CLASSES: dict[str, type[SentenceEstimator]] = {
    cls.__name__: cls for cls in (SentenceClassifier, SentencePairClassifier, SentencePairRegressor)
}


def load(folder: str | os.PathLike[str]) -> SentenceEstimator:
    """Loads the fitted estimator in a folder, whatever its class.

    Args:
        folder: A folder written by the ``save`` method of an estimator.

    Raises:
        CheckpointError: The folder contains no estimator, one of an unknown class, or a damaged one.
        MissingExtraError: The extra ``downstream``, or one that the encoder needs, is not installed.
    """
    folder = Path(folder)
    config = read_config(folder)
    kind = config["kind"]
    if not isinstance(kind, str) or kind not in _CLASSES:
        raise CheckpointError(f"{folder / CONFIG} has kind {kind!r}, expected one of {', '.join(_CLASSES)}")
    return read_estimator(_CLASSES[kind], folder, config)
