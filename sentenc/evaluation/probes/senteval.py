"""The probe behind published SentEval scores: Adam on mini-batches with early stopping.

Source: the PyTorch back end of facebookresearch/SentEval at 5d6dc11, with the parameters of the literature.
SentEval's program starts its generators from the same seed at every fit; here, every fit draws numbers of its
own. Scores vary with the seed, by a few tenths of a point or by more than one, depending on the task. Prefer the
logistic probe unless the scores are compared with published tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.evaluation.probes.adam import Adam, Network, ScoreGradient, train_epoch
from sentenc.evaluation.probes.base import Labeled, Labels, Rows, Split
from sentenc.threads import worker_threads
from sentenc.validation import check_integer

Floats = npt.NDArray[np.float32]
# Splits that are trained together. Fixed, so that the number of threads does not change the arithmetic.
_SPLITS_PER_BATCH = 10


@dataclass(frozen=True, kw_only=True)
class SentEvalProbe:
    """A linear or one-hidden-layer classifier, trained by Adam; searches weight decay from 1e-5 to 1e-2.

    Attributes:
        hidden: Width of the sigmoid hidden layer; 0 for logistic regression.
        batch_size: Rows per step.
        tenacity: Training ends at the (tenacity + 1)-th round without a better development accuracy.
            The count is cumulative: a better round does not reset it.
        epoch_size: Epochs per round.
        max_epoch: No round starts after this number of epochs.
        n_threads: Number of threads; all usable cores by default. Changes the speed, never the results.
    """

    hidden: int = 0
    batch_size: int = 64
    tenacity: int = 5
    epoch_size: int = 4
    max_epoch: int = 200
    n_threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("hidden", "tenacity", "max_epoch"):
            check_integer(name, getattr(self, name), at_least=0)
        for name in ("batch_size", "epoch_size"):
            check_integer(name, getattr(self, name), at_least=1)

    @property
    def name(self) -> str:
        """``senteval``."""
        return "senteval"

    def settings(self) -> dict[str, Any]:
        """Returns the parameters under the names that SentEval uses."""
        return {
            "nhid": self.hidden,
            "optim": "adam",
            "lr": 1e-3,
            "batch_size": self.batch_size,
            "tenacity": self.tenacity,
            "epoch_size": self.epoch_size,
            "max_epoch": self.max_epoch,
            "weight_decay": list(self.grid("split")),
        }

    def grid(self, protocol: str) -> tuple[float, ...]:
        """Returns the weight decays 1e-5, 1e-4, 1e-3 and 1e-2, for every protocol."""
        return (1e-5, 1e-4, 1e-3, 1e-2)

    def search(
        self, data: Labeled, splits: Sequence[Split], grid: Sequence[float], rng: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        """See :meth:`Probe.search <sentenc.evaluation.probes.base.Probe.search>`.

        Training stops early on the test rows, as in SentEval.
        """
        jobs = [Split(split.train, split.test, split.test) for split in splits]
        trained = self._train(data, jobs, [list(grid)] * len(jobs), rng)
        return np.concatenate([accuracies for _, accuracies in trained])

    def refit(
        self, data: Labeled, splits: Sequence[Split], strengths: Sequence[float], rng: np.random.Generator
    ) -> list[Labels]:
        """See :meth:`Probe.refit <sentenc.evaluation.probes.base.Probe.refit>`."""
        jobs = [
            Split(split.train, split.test, split.dev) if split.dev is not None else _hold_out(split, rng)
            for split in splits
        ]
        trained = self._train(data, jobs, [[strength] for strength in strengths], rng)
        return [labels for predictions, _ in trained for labels in predictions]

    def _train(
        self, data: Labeled, jobs: list[Split], decay: list[list[float]], rng: np.random.Generator
    ) -> list[tuple[list[Labels], npt.NDArray[np.float64]]]:
        """Trains one network per split and weight decay, R per split.

        Returns:
            For each batch of s splits, the test predictions of each split's first network, and the best
            development accuracies (s, R).
        """
        generators = rng.spawn(len(jobs))

        def train_batch(first: int) -> tuple[list[Labels], npt.NDArray[np.float64]]:
            batch = slice(first, first + _SPLITS_PER_BATCH)
            return self._train_batch(data, jobs[batch], np.array(decay[batch]), generators[batch])

        with worker_threads(self.n_threads) as pool:
            return list(pool.map(train_batch, range(0, len(jobs), _SPLITS_PER_BATCH)))

    def _train_batch(
        self,
        data: Labeled,
        jobs: list[Split],
        decay: npt.NDArray[np.float64],
        generators: list[np.random.Generator],
    ) -> tuple[list[Labels], npt.NDArray[np.float64]]:
        n_replicas = decay.shape[1]
        network = Network(data.features.shape[1], self.hidden, data.n_classes, n_replicas, generators)
        optimizer = Adam(network, decay)
        best, best_accuracy = network.snapshot(), np.full(decay.shape, -1.0)
        failures, running = np.zeros(decay.shape, np.int64), np.ones(decay.shape, bool)
        rows, gradient = [job.train for job in jobs], _cross_entropy_gradient(data)
        epoch = 0
        while running.any() and epoch <= self.max_epoch:
            active = np.flatnonzero(running.any(axis=1))
            for _ in range(self.epoch_size):
                train_epoch(
                    network, optimizer, data.features, rows, active, self.batch_size, generators, gradient
                )
            epoch += self.epoch_size
            accuracies = np.stack([_accuracies(network, data, jobs[split], int(split)) for split in active])
            better = running[active] & (accuracies > best_accuracy[active])
            for best_array, array in zip(best, network.parameters, strict=True):
                best_array[active] = np.where(better[:, :, None, None], array[active], best_array[active])
            best_accuracy[active] = np.where(better, accuracies, best_accuracy[active])
            failures[active] += running[active] & ~better
            running &= failures <= self.tenacity
        network.parameters[:] = best
        predictions = [_predict(network, data.features[job.test], split)[0] for split, job in enumerate(jobs)]
        return predictions, best_accuracy


def _cross_entropy_gradient(data: Labeled) -> ScoreGradient:
    """Returns a function that computes the gradient of the mean cross-entropy with respect to the scores."""

    def gradient(scores: Floats, rows: Rows) -> Floats:
        probabilities = np.exp(scores - scores.max(axis=-1, keepdims=True))
        probabilities /= probabilities.sum(axis=-1, keepdims=True)
        one_hot = np.eye(data.n_classes, dtype=np.float32)[data.labels[rows]]
        return np.asarray((probabilities - one_hot[:, None]) / np.float32(rows.shape[1]), np.float32)

    return gradient


def _predict(network: Network, features: Floats, split: int) -> Labels:
    """Returns the labels (R, n) that the networks of one split predict for features (n, d)."""
    scores = network.forward(features[None], np.array([split]))[-1][0]
    return np.asarray(scores.argmax(axis=-1), np.int64)


def _accuracies(network: Network, data: Labeled, job: Split, split: int) -> npt.NDArray[np.float64]:
    """Returns the development accuracies (R,) of the networks of one split."""
    if job.dev is None:
        raise ValueError("dev of the split is None, expected the rows to stop early on")
    return np.asarray((_predict(network, data.features[job.dev], split) == data.labels[job.dev]).mean(axis=1))


def _hold_out(split: Split, rng: np.random.Generator) -> Split:
    """Returns the split with a random twentieth of its training rows as ``dev``."""
    order = rng.permutation(split.train)
    # A twentieth of fewer than 20 rows is none, and early stopping needs at least one.
    n_dev = max(1, len(order) // 20)
    return Split(order[n_dev:], split.test, order[:n_dev])
