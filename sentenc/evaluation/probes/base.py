"""What a protocol asks of a probe, and the default one: logistic regression to convergence."""

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
    """Features (n, d), float32, and labels (n,), int64 in 0..n_classes-1."""

    features: npt.NDArray[np.float32]
    labels: Labels
    n_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    def with_rows(self, more: "Labeled") -> "Labeled":
        """The rows of both, these first."""
        features = np.concatenate([self.features, more.features])
        return Labeled(features, np.concatenate([self.labels, more.labels]), self.n_classes)


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to train on, rows to predict, and rows to stop early on if the probe stops early.

    Without ``dev``, a search stops on ``test`` and a refit on a twentieth of ``train``.
    """

    train: Rows
    test: Rows
    dev: Rows | None = None


class Probe(Protocol):
    """A classifier on frozen features, with everything about it settled but the regularization."""

    @property
    def name(self) -> str:
        """For reports."""

    def settings(self) -> dict[str, Any]:
        """All that its results depend on, fit for JSON."""

    def grid(self, protocol: str) -> tuple[float, ...]:
        """Regularization strengths to search, in order of preference among equals."""

    def search(
        self, data: Labeled, splits: Sequence[Split], grid: Sequence[float], rng: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        """Accuracy on the test rows of every split at every strength: shape (splits, grid), 0 to 1."""

    def refit(
        self, data: Labeled, splits: Sequence[Split], strengths: Sequence[float], rng: np.random.Generator
    ) -> list[Labels]:
        """Predictions for the test rows of every split, each trained at a strength of its own."""


@dataclass(frozen=True, kw_only=True)
class LogisticProbe:
    """Multinomial logistic regression with an L2 penalty, solved to convergence: no seed, no luck.

    The objective is that of scikit-learn's ``LogisticRegression``: ``C * sum of losses + ||W||^2 / 2``,
    intercepts free. The grids of C are SentEval's for its scikit-learn back end.

    Attributes:
        n_threads: Threads to use, all usable cores by default. Changes speed, never results.
    """

    n_threads: int | None = None

    @property
    def name(self) -> str:
        """``logistic``."""
        return "logistic"

    def settings(self) -> dict[str, Any]:
        """The grids."""
        return {
            "C": {protocol: list(self.grid(protocol)) for protocol in ("nested-k-fold", "k-fold", "split")}
        }

    def grid(self, protocol: str) -> tuple[float, ...]:
        """2^-2..2^3; for k-fold 2^-1..2^5."""
        low, high = (-1, 5) if protocol == "k-fold" else (-2, 3)
        return tuple(2.0**power for power in range(low, high + 1))

    def search(
        self, data: Labeled, splits: Sequence[Split], grid: Sequence[float], rng: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        """See :class:`Probe`; ``rng`` is not used."""
        design = Design.of(data.features, data.labels, data.n_classes)
        found = np.zeros((len(splits), len(grid)))
        with worker_threads(self.n_threads) as pool:
            for at, (_, weights) in enumerate(solve_path(design, _masks(splits, len(data)), grid, pool)):
                for row, split in enumerate(splits):
                    right = predict(design, weights[row], split.test) == data.labels[split.test]
                    found[row, at] = right.mean()
        return found

    def refit(
        self, data: Labeled, splits: Sequence[Split], strengths: Sequence[float], rng: np.random.Generator
    ) -> list[Labels]:
        """See :class:`Probe`; ``rng`` is not used."""
        design = Design.of(data.features, data.labels, data.n_classes)
        masks = _masks(splits, len(data))
        found: dict[int, Labels] = {}
        with worker_threads(self.n_threads) as pool:
            for strength in sorted(set(strengths)):
                rows = [row for row, asked in enumerate(strengths) if asked == strength]
                for _, weights in solve_path(design, masks[rows], [strength], pool):
                    for at, row in enumerate(rows):
                        found[row] = predict(design, weights[at], splits[row].test)
        return [found[row] for row in range(len(splits))]


def _masks(splits: Sequence[Split], n: int) -> npt.NDArray[np.bool_]:
    masks = np.zeros((len(splits), n), bool)
    for mask, split in zip(masks, splits, strict=True):
        mask[split.train] = True
    return masks
