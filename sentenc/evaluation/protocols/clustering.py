"""Clustering: groups texts by k-means, and compares the clusters with the labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import DataError, MissingExtraError
from sentenc.evaluation.protocols.base import (
    EncodedPart,
    EvaluationProtocol,
    Outcome,
    ProtocolConfig,
    Vectors,
)
from sentenc.threads import worker_threads

_BATCH_SIZE = 500
_RUNS = 10


@dataclass(frozen=True)
class Clustering(EvaluationProtocol):
    """V-measure of clusters by k-means, as in MTEB; the mean of ten runs with stated seeds.

    MTEB (Muennighoff et al. 2023) clusters the vectors of a set of texts by scikit-learn's
    ``MiniBatchKMeans`` with as many clusters as there are labels and batches of 500, and reports the V-measure
    (Rosenberg and Hirschberg 2007). One run depends on its seed by a point or so. This protocol therefore
    runs with the seeds ``seed`` to ``seed + 9`` and reports the mean.
    """

    name = "clustering"
    metric = "v_measure"
    part_names = ("test",)
    raw_by_default = True
    compares_similarity = True

    def settings(self, config: ProtocolConfig) -> dict[str, Any]:
        """Returns the first seed and the parameters of k-means."""
        probe = {"name": "mini-batch k-means", "batch_size": _BATCH_SIZE, "runs": _RUNS}
        return {"aggregation": None, "folds": None, "seed": config.seed, "probe": probe}

    def score(
        self, parts: Mapping[str, EncodedPart], config: ProtocolConfig, rng: np.random.Generator
    ) -> Outcome:
        """Returns ``v_measure`` and its standard deviation over the runs, ``v_measure_std``, in points.

        Raises:
            DataError: The texts have fewer than two labels.
            MissingExtraError: scikit-learn is not installed.
        """
        part = parts["test"]
        labels = np.asarray(part.examples.targets)
        if len(np.unique(labels)) < 2:
            raise DataError("all texts have the same label, expected at least 2 labels to cluster")
        seeds = list(range(config.seed, config.seed + _RUNS))
        values = [100 * v_measure(part.vectors, labels, seed) for seed in seeds]
        metrics = {"v_measure": float(np.mean(values)), "v_measure_std": float(np.std(values))}
        return Outcome(metrics, {"v_measure": values, "seeds": seeds})


def v_measure(vectors: Vectors, labels: npt.NDArray[np.int64], seed: int) -> float:
    """Returns the V-measure, 0 to 1, of one run of mini-batch k-means.

    Args:
        vectors: Shape (n, dim).
        labels: Shape (n,).
        seed: Seed of k-means.
    """
    try:
        from sklearn.cluster import MiniBatchKMeans
        from sklearn.metrics import v_measure_score
    except ImportError as error:
        raise MissingExtraError("eval", "scikit-learn", "clustering") from error
    k_means = MiniBatchKMeans(
        n_clusters=len(np.unique(labels)), batch_size=_BATCH_SIZE, n_init="auto", random_state=seed
    )
    with worker_threads(1):
        return float(v_measure_score(labels, k_means.fit_predict(vectors)))
