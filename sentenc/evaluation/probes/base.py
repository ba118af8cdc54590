"""The interface of probes, and the default probe: logistic regression trained to convergence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sentenc.solvers.logistic_folds import Design, predict, solve_path
from sentenc.threads import worker_threads

Labels = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Labeled:
    """Features (n, d), float32, and labels (n,), int64 from 0 to n_classes - 1."""

    features: npt.NDArray[np.float32]
    labels: Labels
    n_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    def with_rows(self, more: "Labeled") -> "Labeled":
        """Returns the rows of both, these first."""
        features = np.concatenate([self.features, more.features])
        return Labeled(features, np.concatenate([self.labels, more.labels]), self.n_classes)


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to train on, rows to predict, and rows on which a probe may stop early.

    If a probe stops early and ``dev`` is None, :meth:`Probe.search` stops on ``test`` and :meth:`Probe.refit`
    on a twentieth of ``train``.
    """

    train: Rows
    test: Rows
    dev: Rows | None = None


class Probe(Protocol):
    """A classifier on frozen features; only the regularization strength is left to choose."""

    @property
    def name(self) -> str:
        """The name in reports."""

    def settings(self) -> dict[str, Any]:
        """Returns all parameters that its predictions depend on, as JSON values."""

    def grid(self, protocol: str) -> tuple[float, ...]:
        """Returns the regularization strengths to search; the first of equally good ones wins."""

    def search(
        self, data: Labeled, splits: Sequence[Split], grid: Sequence[float], rng: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        """Returns the accuracy, 0 to 1, on the test rows of each split at each strength: (splits, grid)."""

    def refit(
        self, data: Labeled, splits: Sequence[Split], strengths: Sequence[float], rng: np.random.Generator
    ) -> list[Labels]:
        """Returns the labels predicted for the test rows of each split, trained at its own strength."""


@dataclass(frozen=True, kw_only=True)
class LogisticProbe:
    """Multinomial logistic regression with an L2 penalty, solved to convergence and independent of any seed.

    The objective is that of scikit-learn's ``LogisticRegression``: ``C * sum of losses + ||W||^2 / 2``, with
    intercepts free of the penalty. The grids of C are those of SentEval's scikit-learn back end.

    Attributes:
        n_threads: Number of threads; all usable cores by default. Changes the speed, never the results.
    """

    n_threads: int | None = None

    @property
    def name(self) -> str:
        """``logistic``."""
        return "logistic"

    def settings(self) -> dict[str, Any]:
        """Returns the grids of C by protocol."""
        return {
            "C": {protocol: list(self.grid(protocol)) for protocol in ("nested-k-fold", "k-fold", "split")}
        }

    def grid(self, protocol: str) -> tuple[float, ...]:
        """Returns the powers of two from 2^-2 to 2^3, or for k-fold from 2^-1 to 2^5."""
        low, high = (-1, 5) if protocol == "k-fold" else (-2, 3)
        return tuple(2.0**power for power in range(low, high + 1))

    def search(
        self, data: Labeled, splits: Sequence[Split], grid: Sequence[float], rng: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        """See :meth:`Probe.search`; ``rng`` is not used."""
        design = Design.of(data.features, data.labels, data.n_classes)
        accuracies = np.zeros((len(splits), len(grid)))
        with worker_threads(self.n_threads) as pool:
            path = solve_path(design, _masks(splits, len(data)), grid, pool)
            for column, (_, weights) in enumerate(path):
                for row, split in enumerate(splits):
                    correct = predict(design, weights[row], split.test) == data.labels[split.test]
                    accuracies[row, column] = correct.mean()
        return accuracies

    def refit(
        self, data: Labeled, splits: Sequence[Split], strengths: Sequence[float], rng: np.random.Generator
    ) -> list[Labels]:
        """See :meth:`Probe.refit`; ``rng`` is not used."""
        design = Design.of(data.features, data.labels, data.n_classes)
        masks = _masks(splits, len(data))
        predictions: dict[int, Labels] = {}
        with worker_threads(self.n_threads) as pool:
            # Splits of one strength are solved together.
            for strength in sorted(set(strengths)):
                indices = [index for index, own in enumerate(strengths) if own == strength]
                for _, weights in solve_path(design, masks[indices], [strength], pool):
                    for position, index in enumerate(indices):
                        predictions[index] = predict(design, weights[position], splits[index].test)
        return [predictions[index] for index in range(len(splits))]


def _masks(splits: Sequence[Split], n: int) -> npt.NDArray[np.bool_]:
    """Returns the training rows of each split as a mask, (splits, n)."""
    masks = np.zeros((len(splits), n), bool)
    for mask, split in zip(masks, splits, strict=True):
        mask[split.train] = True
    return masks
