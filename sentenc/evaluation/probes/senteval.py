"""The probe that the published numbers were made with: Adam, mini-batches, early stopping.

Source: facebookresearch/SentEval at 5d6dc11, its PyTorch back end with the parameters that the
literature uses. Its scores vary with the seed by a few tenths of a point; prefer the logistic probe
where the comparison with old tables does not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.evaluation.probes.adam import Adam, Network, train_epoch
from sentenc.evaluation.probes.base import Labeled, Labels, Rows, Split
from sentenc.threads import worker_threads

Floats = npt.NDArray[np.float32]
# Splits that are trained side by side. Fixed, so that the threads do not change the arithmetic.
_SPLITS_PER_BATCH = 10


@dataclass(frozen=True, kw_only=True)
class SentEvalProbe:
    """Linear or one-hidden-layer classifier, Adam at 1e-3, weight decay searched over 1e-5..1e-2.

    Attributes:
        hidden: Width of the sigmoid hidden layer; 0 for logistic regression.
        batch_size: Rows of a step.
        tenacity: Training ends at the (tenacity + 1)-th round without a better development accuracy.
            The count is cumulative: a better round does not reset it.
        epoch_size: Epochs of a round.
        max_epoch: No round starts after so many epochs.
        n_threads: Threads to use. Changes speed, never results.
    """

    hidden: int = 0
    batch_size: int = 64
    tenacity: int = 5
    epoch_size: int = 4
    max_epoch: int = 200
    n_threads: int | None = None

    def __post_init__(self) -> None:
        for name, low in (
            ("hidden", 0),
            ("batch_size", 1),
            ("tenacity", 0),
            ("epoch_size", 1),
            ("max_epoch", 0),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < low:
                raise ValueError(f"{name} is {value!r}, expected an integer of {low} or more")

    @property
    def name(self) -> str:
        """``senteval``."""
        return "senteval"

    def settings(self) -> dict[str, Any]:
        """The parameters, by SentEval's names where it has one."""
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
        """1e-5, 1e-4, 1e-3, 1e-2, for every protocol."""
        return (1e-5, 1e-4, 1e-3, 1e-2)

    def search(
        self, data: Labeled, splits: Sequence[Split], grid: Sequence[float], rng: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        """See :class:`~sentenc.evaluation.probes.base.Probe`; stops early on the test rows, as SentEval does."""
        jobs = [Split(split.train, split.test, split.test) for split in splits]
        trained = self._train(data, jobs, [list(grid)] * len(jobs), rng)
        return np.concatenate([accuracies for _, accuracies in trained])

    def refit(
        self, data: Labeled, splits: Sequence[Split], strengths: Sequence[float], rng: np.random.Generator
    ) -> list[Labels]:
        """See :class:`~sentenc.evaluation.probes.base.Probe`."""
        jobs = [
            Split(split.train, split.test, split.dev) if split.dev is not None else _hold_out(split, rng)
            for split in splits
        ]
        trained = self._train(data, jobs, [[strength] for strength in strengths], rng)
        return [labels for predictions, _ in trained for labels in predictions]

    def _train(
        self, data: Labeled, jobs: list[Split], decay: list[list[float]], rng: np.random.Generator
    ) -> list[tuple[list[Labels], npt.NDArray[np.float64]]]:
        """Trains every split's networks; predictions of its first one, and best accuracies (s, R)."""
        generators = rng.spawn(len(jobs))
        starts = range(0, len(jobs), _SPLITS_PER_BATCH)

        def batch(start: int) -> tuple[list[Labels], npt.NDArray[np.float64]]:
            part = slice(start, start + _SPLITS_PER_BATCH)
            return self._train_batch(data, jobs[part], np.array(decay[part]), generators[part])

        with worker_threads(self.n_threads) as pool:
            return list(pool.map(batch, starts))

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
        rows = [job.train for job in jobs]
        epoch = 0
        while running.any() and epoch <= self.max_epoch:
            at = np.flatnonzero(running.any(axis=1))
            for _ in range(self.epoch_size):
                train_epoch(
                    network, optimizer, data.features, rows, at, self.batch_size, generators, _slope(data)
                )
            epoch += self.epoch_size
            accuracies = np.stack([_accuracies(network, data, jobs[split], int(split)) for split in at])
            better = running[at] & (accuracies > best_accuracy[at])
            for kept, now in zip(best, network.parameters, strict=True):
                kept[at] = np.where(better[:, :, None, None], now[at], kept[at])
            best_accuracy[at] = np.where(better, accuracies, best_accuracy[at])
            failures[at] += running[at] & ~better
            running &= failures <= self.tenacity
        network.parameters[:] = best
        predictions = [_predict(network, data.features[job.test], split)[0] for split, job in enumerate(jobs)]
        return predictions, best_accuracy


def _slope(data: Labeled) -> Any:
    """Gradient of the mean cross-entropy with respect to the scores."""

    def slope(scores: Floats, rows: Rows) -> Floats:
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        one_hot = np.eye(data.n_classes, dtype=np.float32)[data.labels[rows]]
        return np.asarray((shares - one_hot[:, None]) / np.float32(rows.shape[1]), np.float32)

    return slope


def _predict(network: Network, features: Floats, split: int) -> Labels:
    """Classes for features (n, d) by the networks of one split: shape (R, n)."""
    scores = network.forward(features[None], np.array([split]))[-1][0]
    return np.asarray(scores.argmax(axis=-1), np.int64)


def _accuracies(network: Network, data: Labeled, job: Split, split: int) -> npt.NDArray[np.float64]:
    if job.dev is None:
        raise ValueError("a split without rows to stop early on")
    return np.asarray((_predict(network, data.features[job.dev], split) == data.labels[job.dev]).mean(axis=1))


def _hold_out(split: Split, rng: np.random.Generator) -> Split:
    """Sets a random twentieth of the training rows aside for early stopping."""
    order = rng.permutation(split.train)
    # Of fewer than 20 rows a twentieth is none: one is the least that can be stopped on.
    held = max(1, len(order) // 20)
    return Split(order[held:], split.test, order[:held])
