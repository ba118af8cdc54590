"""The oldest baseline, through the same protocols: TF-IDF of words and word pairs, logistic regression.

Its features are sparse and as many as there are words, which no encoder of ours is like; so it runs fold
by fold in scikit-learn. The vocabulary and the weights come from the training part of a task (without
labels), from all of it where there is no such part.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from sentenc.evaluation.probes.base import Labeled, LogisticProbe, Split
from sentenc.evaluation.protocols import Outcome, k_fold, nested_k_fold, senteval_order, split
from sentenc.evaluation.results import Results, Score, versions
from sentenc.evaluation.similarity import correlations
from sentenc.evaluation.tasks import Task

NAME = "TF-IDF + LR"


class SparseLabeled(Labeled):
    """Labeled rows of a sparse matrix."""

    def with_rows(self, more: Labeled) -> "SparseLabeled":
        features = scipy.sparse.vstack([self.features, more.features], format="csr")
        return SparseLabeled(features, np.concatenate([self.labels, more.labels]), self.n_classes)


@dataclass
class FoldByFold:
    """The probe ``logistic``, one scikit-learn fit after the other. Counts them."""

    tolerance: float = 1e-4
    n_fits: int = 0
    name: str = "scikit-learn"

    def settings(self) -> dict:
        return {"tol": self.tolerance}

    def grid(self, protocol: str) -> tuple[float, ...]:
        return LogisticProbe().grid(protocol)

    def fit(self, data: Labeled, rows: np.ndarray, strength: float) -> LogisticRegression:
        self.n_fits += 1
        model = LogisticRegression(C=strength, tol=self.tolerance, max_iter=5000)
        return model.fit(data.features[rows], data.labels[rows])

    def search(
        self, data: Labeled, splits: Sequence[Split], grid: Sequence[float], rng: np.random.Generator
    ) -> np.ndarray:
        return np.array(
            [
                [
                    self.fit(data, part.train, strength).score(
                        data.features[part.test], data.labels[part.test]
                    )
                    for strength in grid
                ]
                for part in splits
            ]
        )

    def refit(
        self, data: Labeled, splits: Sequence[Split], strengths: Sequence[float], rng: np.random.Generator
    ) -> list[np.ndarray]:
        return [
            self.fit(data, part.train, strength).predict(data.features[part.test])
            for part, strength in zip(splits, strengths, strict=True)
        ]


def evaluate_bag_of_words(tasks: Sequence[Task], data: str) -> Results:
    """Scores of the tasks; supervised relatedness is left out, its probe being for dense vectors."""
    records = {}
    for task in tasks:
        if task.protocol != "relatedness":
            # Sparse products use no BLAS; its threads would only spin, and on a busy machine for ever.
            with threadpool_limits(1):
                records[task.name] = _score(task, data)
            print(f"{NAME}: {task.name} {records[task.name].value:.2f}", flush=True)
    return Results(NAME, records)


def _score(task: Task, data: str) -> Score:
    started = time.perf_counter()
    text = task.text_variant(None)
    parts, mismatches = task.read(data, text)
    seen = parts.get("train") or parts.get("all")
    seen_parts = list(parts.values()) if seen is None else [seen]
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+", dtype=np.float64
    )
    vectorizer.fit([text for part in seen_parts for text in [*part.texts, *(part.partners or [])]])
    outcome, probe = _run(task, parts, vectorizer)
    trained = task.protocol != "cosine"
    return Score(
        task=task.name,
        value=round(outcome.metrics[task.metric], 2),
        metric=task.metric,
        protocol=task.protocol,
        aggregation=None if trained else "all",
        text=text,
        folds=10 if task.protocol in ("nested-k-fold", "k-fold") else None,
        seed=1111 if trained else None,
        probe={"name": probe.name, **probe.settings(), "n_fits": probe.n_fits} if trained else None,
        encoder={"name": NAME, "fingerprint": None, "dim": len(vectorizer.vocabulary_), "settings": {}},
        data=task.checksums(data, text),
        mismatches=mismatches,
        sizes={name: len(part) for name, part in parts.items()},
        metrics=outcome.metrics,
        details=outcome.details,
        versions=versions(),
        seconds={"encode": 0.0, "score": round(time.perf_counter() - started, 3)},
    )


def _run(task: Task, parts: dict, vectorizer: TfidfVectorizer) -> tuple[Outcome, FoldByFold]:
    probe, rng, labeled, sets = FoldByFold(), np.random.default_rng(1111), {}, {}
    for name, part in parts.items():
        left = vectorizer.transform(part.texts)
        right = None if part.partners is None else vectorizer.transform(part.partners)
        if task.protocol == "cosine":
            sets[name] = (np.asarray(left.multiply(right).sum(axis=1)).ravel(), part.targets)
            continue
        features = left if right is None else scipy.sparse.hstack([abs(left - right), left.multiply(right)])
        order = senteval_order(part.texts, part.partners, part.targets)
        labeled[name] = SparseLabeled(features.tocsr()[order], part.targets[order], len(task.classes))
    if task.protocol == "cosine":
        found = correlations(sets)
        return Outcome({name: values["all"] for name, values in found.items()}, found), probe
    if task.protocol == "nested-k-fold":
        return nested_k_fold(labeled["all"], probe, 10, 1111, rng), probe
    if task.protocol == "k-fold":
        return k_fold(labeled["train"], labeled["test"], probe, 10, 1111, rng), probe
    return split(labeled["train"], labeled["dev"], labeled["test"], probe, rng), probe
