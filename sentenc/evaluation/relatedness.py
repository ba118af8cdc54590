"""Supervised relatedness: a distribution over the scores 1 to 5, fitted to the gold score's own.

Source: Tai, Socher and Manning 2015 (the target distribution), as SentEval trains it for SICK-R and
STS-B: one linear layer, softmax, mean squared error, Adam.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.evaluation.probes.adam import Adam, Floats, Network, Rows, train_epoch
from sentenc.evaluation.protocols import Outcome
from sentenc.metrics import pearson, spearman
from sentenc.threads import worker_threads

_CLASSES = 5
_BATCH_SIZE = 64
_EPOCHS_A_ROUND = 50
_MOST_EPOCHS = 1000
_TENACITY = 3

SETTINGS: dict[str, Any] = {
    "name": "score-distribution",
    "optim": "adam",
    "lr": 1e-3,
    "batch_size": _BATCH_SIZE,
    "tenacity": _TENACITY,
    "epoch_size": _EPOCHS_A_ROUND,
    "max_epoch": _MOST_EPOCHS,
}
Part = tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]


def score_distribution(scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Shares of the scores 1..5 whose mean is each score: 3.6 is 0.4 of 3 and 0.6 of 4.

    A score below 1, as STS-B has, gets what SentEval gives it: its fraction on score 1 and nothing for
    the missing score 0, so that the shares do not add up to 1. Kept, for comparable numbers.

    Args:
        scores: Shape (n,), 0 to 5.

    Returns:
        Shape (n, 5).
    """
    gold = np.asarray(scores, np.float64)
    floor = np.floor(gold)
    steps = np.arange(1, _CLASSES + 1)
    upper = np.where(steps == floor[:, None] + 1, (gold - floor)[:, None], 0.0)
    return np.asarray(np.where(steps == floor[:, None], (floor - gold + 1)[:, None], upper))


def supervised_relatedness(parts: Mapping[str, Part], rng: np.random.Generator) -> Outcome:
    """Trains on "train", stops early on "dev", scores "test".

    Every 50 epochs the Pearson correlation on the development set is taken; training ends when it has
    failed to rise for the fourth time in all, and the best weights are used.

    Args:
        parts: Features (n, d) and gold scores (n,) of each part.
        rng: Of the initial weights and the order of the mini-batches.

    Returns:
        ``pearson`` and ``spearman`` x 100, and ``mse``, on the test set; ``dev_pearson``.
    """
    features, gold = parts["train"]
    network = Network(features.shape[1], 0, _CLASSES, 1, [rng])
    optimizer = Adam(network, np.zeros((1, 1)))
    rows, at = [np.arange(len(gold))], np.array([0])
    slope = _Slope(score_distribution(gold).astype(np.float32))
    best, best_correlation, failures, epoch = network.snapshot(), -np.inf, 0, 0
    with worker_threads(1):
        while failures <= _TENACITY and epoch < _MOST_EPOCHS:
            for _ in range(_EPOCHS_A_ROUND):
                train_epoch(network, optimizer, features, rows, at, _BATCH_SIZE, [rng], slope)
            epoch += _EPOCHS_A_ROUND
            correlation = pearson(_predict(network, parts["dev"][0]), parts["dev"][1])
            if correlation > best_correlation:
                best, best_correlation = network.snapshot(), correlation
            else:
                failures += 1
        network.parameters[:] = best
        predicted = _predict(network, parts["test"][0])
    wanted = parts["test"][1]
    metrics = {
        "pearson": 100 * pearson(predicted, wanted),
        "spearman": 100 * spearman(predicted, wanted),
        "mse": float(np.mean((predicted - wanted) ** 2)),
        "dev_pearson": 100 * best_correlation,
    }
    return Outcome(metrics, {"epochs": epoch})


class _Slope:
    """Gradient of the mean squared error of the shares with respect to the scores."""

    def __init__(self, targets: Floats) -> None:
        self._targets = targets

    def __call__(self, scores: Floats, rows: Rows) -> Floats:
        shares = _softmax(scores)
        outer = (shares - self._targets[rows][:, None]) * np.float32(2 / (rows.shape[1] * _CLASSES))
        return np.asarray(shares * (outer - (outer * shares).sum(axis=-1, keepdims=True)))


def _softmax(scores: Floats) -> Floats:
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def _predict(network: Network, features: Floats) -> npt.NDArray[np.float64]:
    scores = network.forward(features[None], np.array([0]))[-1][0, 0]
    return np.asarray(_softmax(scores).astype(np.float64) @ np.arange(1, _CLASSES + 1))
