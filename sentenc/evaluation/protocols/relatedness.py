"""Supervised relatedness: predicts a distribution over the scores 1 to 5 from the features of a pair.

Sources: Tai, Socher and Manning 2015 (the target distribution); SentEval, which trains it for SICK-R and
STS-B with one linear layer, softmax, mean squared error and Adam.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.evaluation.probes.adam import Adam, Floats, Network, Rows, train_epoch
from sentenc.evaluation.protocols.base import EncodedPart, EvaluationProtocol, Outcome, ProtocolConfig
from sentenc.metrics import pearson, spearman
from sentenc.threads import worker_threads

_CLASSES = 5
_BATCH_SIZE = 64
_EPOCHS_PER_ROUND = 50
_MAX_EPOCHS = 1000
_TENACITY = 3

Part = tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class SupervisedRelatedness(EvaluationProtocol):
    """SICK-R and STS-B with training: see :func:`supervised_relatedness`."""

    name = "relatedness"
    metric = "pearson"
    part_names = ("train", "dev", "test")

    def settings(self, config: ProtocolConfig) -> dict[str, Any]:
        """Returns the seed and the parameters of the trained layer, which the configuration cannot change."""
        probe = {
            "name": "score-distribution",
            "optim": "adam",
            "lr": 1e-3,
            "batch_size": _BATCH_SIZE,
            "tenacity": _TENACITY,
            "epoch_size": _EPOCHS_PER_ROUND,
            "max_epoch": _MAX_EPOCHS,
        }
        return {"aggregation": None, "folds": None, "seed": config.seed, "probe": probe}

    def score(
        self, parts: Mapping[str, EncodedPart], config: ProtocolConfig, rng: np.random.Generator
    ) -> Outcome:
        """See :func:`supervised_relatedness`."""
        pairs = {name: (part.features(), part.examples.targets) for name, part in parts.items()}
        return supervised_relatedness(pairs, rng)


def score_distribution(scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns the distribution over the scores 1 to 5 whose mean is each gold score.

    A gold score of 3.6 becomes 0.4 on 3 and 0.6 on 4. A gold score below 1, which STS-B has, becomes its
    fraction on 1 and nothing on the missing score 0, so that its row does not sum to 1. SentEval does the
    same; it is kept for comparable scores.

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
    """Trains on "train", stops early on "dev", and scores "test".

    Every 50 epochs the Pearson correlation on the development set is computed. Training ends when the
    correlation has failed to rise for the fourth time in all, and the best weights are used.

    Args:
        parts: Features (n, d) and gold scores (n,) of each part.
        rng: Generator of the initial weights and the order of the mini-batches.

    Returns:
        ``pearson`` and ``spearman`` x 100, and ``mse``, on the test set; ``dev_pearson`` x 100.
    """
    features, gold = parts["train"]
    network = Network(features.shape[1], 0, _CLASSES, 1, [rng])
    optimizer = Adam(network, np.zeros((1, 1)))
    rows, splits = [np.arange(len(gold))], np.array([0])
    gradient = _ErrorGradient(score_distribution(gold).astype(np.float32))
    best, best_correlation, failures, epoch = network.snapshot(), -np.inf, 0, 0
    with worker_threads(1):
        # As in SentEval: a round begins at the last epoch, too.
        while failures <= _TENACITY and epoch <= _MAX_EPOCHS:
            for _ in range(_EPOCHS_PER_ROUND):
                train_epoch(network, optimizer, features, rows, splits, _BATCH_SIZE, [rng], gradient)
            epoch += _EPOCHS_PER_ROUND
            correlation = pearson(_predict(network, parts["dev"][0]), parts["dev"][1])
            if correlation > best_correlation:
                best, best_correlation = network.snapshot(), correlation
            else:
                failures += 1
        network.parameters[:] = best
        predicted = _predict(network, parts["test"][0])
    test_gold = parts["test"][1]
    metrics = {
        "pearson": 100 * pearson(predicted, test_gold),
        "spearman": 100 * spearman(predicted, test_gold),
        "mse": float(np.mean((predicted - test_gold) ** 2)),
        "dev_pearson": 100 * best_correlation,
    }
    return Outcome(metrics, {"epochs": epoch})


class _ErrorGradient:
    """Gradient of the mean squared error of the predicted distributions with respect to the scores."""

    def __init__(self, targets: Floats) -> None:
        self._targets = targets

    def __call__(self, scores: Floats, rows: Rows) -> Floats:
        predicted = _softmax(scores)
        outer = (predicted - self._targets[rows][:, None]) * np.float32(2 / (rows.shape[1] * _CLASSES))
        return np.asarray(predicted * (outer - (outer * predicted).sum(axis=-1, keepdims=True)))


def _softmax(scores: Floats) -> Floats:
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def _predict(network: Network, features: Floats) -> npt.NDArray[np.float64]:
    """Returns the mean (n,) of the predicted distribution for each row of features (n, d)."""
    scores = network.forward(features[None], np.array([0]))[-1][0, 0]
    return np.asarray(_softmax(scores).astype(np.float64) @ np.arange(1, _CLASSES + 1))
