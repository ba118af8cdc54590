"""Evaluates TF-IDF of words and word pairs with logistic regression, by the same protocols as an encoder.

The features are sparse, with one column per word or word pair, so the probe runs fold by fold in
scikit-learn. The vocabulary and the weights come from the training part of a task, without its labels. A task
without a training part supplies all of its texts.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from sentenc.evaluation.probes.base import Labeled, LogisticProbe, Split
from sentenc.evaluation.protocols.base import Outcome, ProtocolConfig
from sentenc.evaluation.protocols.classification import ClassificationProtocol, senteval_order
from sentenc.evaluation.protocols.similarity import CosineSimilarity, correlations
from sentenc.evaluation.readers import Examples
from sentenc.evaluation.results import Results, Score, versions
from sentenc.evaluation.tasks import Task, file_checksum

NAME = "TF-IDF + LR"


class SparseLabeled(Labeled):
    """Labeled rows of a sparse matrix."""

    def with_rows(self, more: Labeled) -> "SparseLabeled":
        features = scipy.sparse.vstack([self.features, more.features], format="csr")
        return SparseLabeled(features, np.concatenate([self.labels, more.labels]), self.n_classes)


@dataclass
class FoldByFold:
    """The probe ``logistic`` as one scikit-learn fit after the other. Counts its fits."""

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
        def accuracy(split: Split, strength: float) -> float:
            model = self.fit(data, split.train, strength)
            return model.score(data.features[split.test], data.labels[split.test])

        return np.array([[accuracy(split, strength) for strength in grid] for split in splits])

    def refit(
        self, data: Labeled, splits: Sequence[Split], strengths: Sequence[float], rng: np.random.Generator
    ) -> list[np.ndarray]:
        return [
            self.fit(data, split.train, strength).predict(data.features[split.test])
            for split, strength in zip(splits, strengths, strict=True)
        ]


def evaluate_bag_of_words(tasks: Sequence[Task], data: str) -> Results:
    """Scores the tasks, except supervised relatedness, whose probe needs dense vectors."""
    records = {}
    for task in tasks:
        if isinstance(task.protocol, ClassificationProtocol | CosineSimilarity):
            # Sparse products use no BLAS: its threads would only spin, without end on a busy machine.
            with threadpool_limits(1):
                records[task.name] = _score(task, data)
            print(f"{NAME}: {task.name} {records[task.name].value:.2f}", flush=True)
    return Results(NAME, records)


def _score(task: Task, data: str) -> Score:
    started = time.perf_counter()
    variant = task.text_variant(None)
    parts = task.read(data, variant)
    checksums = {file: file_checksum(Path(data, file)) for file in task.files(variant)}
    training_part = parts.get("train") or parts.get("all")
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+", dtype=np.float64
    )
    vectorizer.fit(
        [
            text
            for part in ([training_part] if training_part else parts.values())
            for text in [*part.texts, *(part.partners or [])]
        ]
    )
    probe = FoldByFold()
    config = ProtocolConfig(probe=probe)
    if isinstance(task.protocol, ClassificationProtocol):
        outcome = _classify(task, task.protocol, parts, vectorizer, config)
    else:
        outcome = _correlate(parts, vectorizer)
    settings = task.protocol.settings(config)
    if settings["probe"]:
        settings["probe"]["n_fits"] = probe.n_fits
    return Score(
        task=task.name,
        value=round(outcome.metrics[task.protocol.metric], 2),
        metric=task.protocol.metric,
        protocol=task.protocol.name,
        **settings,
        text=variant,
        encoder={"name": NAME, "fingerprint": None, "dim": len(vectorizer.vocabulary_), "settings": {}},
        data=checksums,
        mismatches=task.mismatches(variant, parts, checksums),
        sizes={name: len(part) for name, part in parts.items()},
        metrics=outcome.metrics,
        details=outcome.details,
        versions=versions(),
        seconds={"encode": 0.0, "score": round(time.perf_counter() - started, 3)},
    )


def _classify(
    task: Task,
    protocol: ClassificationProtocol,
    parts: Mapping[str, Examples],
    vectorizer: TfidfVectorizer,
    config: ProtocolConfig,
) -> Outcome:
    labeled = {}
    for name, part in parts.items():
        features = vectorizer.transform(part.texts)
        if part.partners is not None:
            partners = vectorizer.transform(part.partners)
            features = scipy.sparse.hstack([abs(features - partners), features.multiply(partners)])
        order = senteval_order(part.texts, part.partners, part.targets)
        labeled[name] = SparseLabeled(features.tocsr()[order], part.targets[order], len(task.classes))
    return protocol.classify(labeled, config, np.random.default_rng(config.seed))


def _correlate(parts: Mapping[str, Examples], vectorizer: TfidfVectorizer) -> Outcome:
    sets = {}
    for name, part in parts.items():
        # TF-IDF rows have unit norm, so that their dot product is their cosine.
        products = vectorizer.transform(part.texts).multiply(vectorizer.transform(part.partners))
        sets[name] = (np.asarray(products.sum(axis=1)).ravel(), part.targets)
    by_set = correlations(sets)
    return Outcome({name: values["all"] for name, values in by_set.items()}, by_set)
