"""Pair classification: orders pairs by similarity, and measures how well that separates the two classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sentenc.errors import DataError, MissingExtraError
from sentenc.evaluation.protocols.base import (
    EncodedPart,
    EvaluationProtocol,
    Outcome,
    ProtocolConfig,
    Vectors,
)
from sentenc.metrics import Floats, paired_cosine


@dataclass(frozen=True)
class PairClassification(EvaluationProtocol):
    """Average precision of the cosines of pairs with the labels 0 and 1; nothing is trained.

    As in MTEB (Muennighoff et al. 2023), the average precision is also computed for dot products and for
    negative Euclidean and Manhattan distances. ``max_ap`` is the best of the four. MTEB reports
    ``cosine_ap`` in its paper, and ``max_ap`` in some later versions.
    """

    name = "pair-classification"
    metric = "cosine_ap"
    part_names = ("test",)
    raw_by_default = True
    compares_similarity = True

    def settings(self, config: ProtocolConfig) -> dict[str, Any]:
        """Returns no setting: the protocol has none."""
        return {"aggregation": None, "folds": None, "seed": None, "probe": None}

    def score(
        self, parts: Mapping[str, EncodedPart], config: ProtocolConfig, rng: np.random.Generator
    ) -> Outcome:
        """Returns ``cosine_ap``, ``dot_ap``, ``euclidean_ap``, ``manhattan_ap`` and ``max_ap`` in points.

        Raises:
            DataError: The examples are single texts, or all pairs have the same label.
            MissingExtraError: scikit-learn is not installed.
        """
        try:
            from sklearn.metrics import average_precision_score
        except ImportError as error:
            raise MissingExtraError("eval", "scikit-learn", "pair classification") from error
        part = parts["test"]
        if part.partner_vectors is None:
            raise DataError("the examples are single texts, expected pairs for pair classification")
        labels = part.examples.targets
        if len(np.unique(labels)) < 2:
            raise DataError("all pairs have the same label, expected pairs with the labels 0 and 1")
        metrics = {
            f"{name}_ap": 100 * float(average_precision_score(labels, values))
            for name, values in pair_similarities(part.vectors, part.partner_vectors).items()
        }
        return Outcome({**metrics, "max_ap": max(metrics.values())})


def pair_similarities(left: Vectors, right: Vectors) -> dict[str, Floats]:
    """Returns four similarities (n,) of each row of ``left`` (n, dim) with the same row of ``right``."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    return {
        "cosine": paired_cosine(a, b),
        "dot": np.einsum("ij,ij->i", a, b),
        "euclidean": -np.linalg.norm(a - b, axis=1),
        "manhattan": -np.abs(a - b).sum(axis=1),
    }
