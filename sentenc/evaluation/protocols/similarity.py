"""Unsupervised similarity: correlates cosines with gold scores, and aggregates the sets of an STS year."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sentenc.evaluation.protocols.base import EncodedPart, EvaluationProtocol, Outcome, ProtocolConfig
from sentenc.metrics import Floats, paired_cosine, pearson, spearman


@dataclass(frozen=True)
class CosineSimilarity(EvaluationProtocol):
    """Spearman correlation of the pairs' cosines with their gold scores; nothing is trained.

    The cosine is that of :meth:`~sentenc.Encoder.similarity`, over the first ``similarity_dim`` columns.

    Scores any number of parts: the sets of an STS year, or one test set.
    """

    name = "cosine"
    metric = "spearman"
    raw_by_default = True
    compares_similarity = True

    def settings(self, config: ProtocolConfig) -> dict[str, Any]:
        """Returns the aggregation."""
        return {"aggregation": config.aggregation, "folds": None, "seed": None, "probe": None}

    def score(
        self, parts: Mapping[str, EncodedPart], config: ProtocolConfig, rng: np.random.Generator
    ) -> Outcome:
        """Returns ``pearson`` and ``spearman`` x 100 in the chosen aggregation, and by set; draws nothing.

        Raises:
            ValueError: The examples of a part are single texts.
        """
        sets = {}
        for name, part in parts.items():
            if part.partner_vectors is None:
                raise ValueError(f"part {name!r} has single texts, expected pairs for the protocol 'cosine'")
            sets[name] = (paired_cosine(part.vectors, part.partner_vectors), part.examples.targets)
        by_set = correlations(sets)
        return Outcome({name: values[config.aggregation] for name, values in by_set.items()}, by_set)


def correlations(sets: Mapping[str, tuple[Floats, Floats]]) -> dict[str, dict[str, float]]:
    """Returns the correlations of each set of a task, and of all sets in three aggregations.

    ``all`` correlates the concatenation of the sets (SBERT, SimCSE, MTEB). ``mean`` averages the
    correlations of the sets (Wieting, SentEval). ``wmean`` weights them by size (BERT-flow). On STS12
    they differ by several points, so a score is meaningless without the name of its aggregation.

    Args:
        sets: Predictions and gold scores, both (n,), by the name of the set.

    Returns:
        ``{"pearson": {"all": ..., "mean": ..., "wmean": ..., "<set>": ...}, "spearman": ...}`` x 100.
    """
    sizes = [len(gold) for _, gold in sets.values()]
    predicted = np.concatenate([values for values, _ in sets.values()])
    gold = np.concatenate([values for _, values in sets.values()])
    by_metric: dict[str, dict[str, float]] = {}
    for name, correlation in (("pearson", pearson), ("spearman", spearman)):
        by_set = {key: 100 * correlation(*pair) for key, pair in sets.items()}
        by_metric[name] = {
            "all": 100 * correlation(predicted, gold),
            "mean": float(np.mean(list(by_set.values()))),
            "wmean": _weighted_mean(list(by_set.values()), sizes),
            **by_set,
        }
    return by_metric


def _weighted_mean(values: Sequence[float], weights: Sequence[int]) -> float:
    return float(np.dot(values, weights) / np.sum(weights))
