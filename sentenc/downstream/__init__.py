"""scikit-learn estimators that classify or score sentences, on top of a pretrained encoder."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentenc.downstream.classifier import SentenceClassifier
    from sentenc.downstream.loading import load
    from sentenc.downstream.pairs import SentencePairClassifier, SentencePairRegressor

__all__ = ["SentenceClassifier", "SentencePairClassifier", "SentencePairRegressor", "load"]

_HOME = {
    "SentenceClassifier": "classifier",
    "SentencePairClassifier": "pairs",
    "SentencePairRegressor": "pairs",
    "load": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sentenc.downstream' has no attribute {name!r}")
    value = getattr(import_module(f"sentenc.downstream.{_HOME[name]}"), name)
    globals()[name] = value
    return value
