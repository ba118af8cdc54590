"""Loads the encoder of an estimator, and keeps one copy of it in memory."""

import copy
import os
from functools import lru_cache
from typing import TypeVar

from sentenc.encoders.base import Encoder
from sentenc.errors import MissingExtraError
from sentenc.registry import available_models, load

try:
    from sklearn.base import (
        BaseEstimator,
        ClassifierMixin,
        ClassNamePrefixFeaturesOutMixin,
        RegressorMixin,
        TransformerMixin,
    )
    from sklearn.exceptions import NotFittedError
except ImportError as error:
    raise MissingExtraError("downstream", "scikit-learn", "an estimator") from error

# These names are exported, so that scikit-learn is imported, and a missing one reported, in this module only.
__all__ = [
    "ClassNamePrefixFeaturesOutMixin",
    "ClassifierMixin",
    "NotFittedError",
    "RegressorMixin",
    "SharedEncoder",
    "TransformerMixin",
    "encoder_of",
]

_Estimator = TypeVar("_Estimator", bound="SharedEncoder")


class SharedEncoder(BaseEstimator):  # type: ignore[misc, unused-ignore]
    """Base class of estimators with an encoder among their parameters. A clone has the same encoder object."""

    # The name of the parameter.
    _encoder_parameter = "encoder"

    def __sklearn_clone__(self: _Estimator) -> _Estimator:
        """Returns an unfitted estimator with the same parameters and the same encoder object."""
        # scikit-learn would deep-copy the encoder, which is large and never changes.
        without = copy.copy(self)
        setattr(without, self._encoder_parameter, "")
        twin: _Estimator = super(SharedEncoder, without).__sklearn_clone__()
        setattr(twin, self._encoder_parameter, getattr(self, self._encoder_parameter))
        return twin


def encoder_of(model: str | os.PathLike[str] | Encoder) -> Encoder:
    """Returns an encoder as it is, or loads it by the argument of :func:`sentenc.load`."""
    if isinstance(model, Encoder):
        return model
    return _load_shipped(model) if model in available_models() else load(model)


@lru_cache(maxsize=1)
def _load_shipped(name: str) -> Encoder:
    # A grid search fits hundreds of estimators with the same encoder, whose files do not change.
    return load(name)
