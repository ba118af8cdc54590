"""Measures an aligned model: cosines, common neighbors, search quality, and its weight in hybrid search."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sentenc.evaluation.beir import CORPUS, QUERIES, Queries, judgments_file, read_documents, read_queries
from sentenc.evaluation.protocols.search import (
    BlockScores,
    cosine_scores,
    hybrid_scores,
    lexical_scores,
    search_metrics,
)
from sentenc.tokenization.analysis import Analyzer
from sentenc.training.alignment.tokens import FloatArray, Rows

_NEIGHBORS = 10
_METRIC = "nDCG@10"
ALPHAS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
# The weight is chosen on at most this number of queries: words are scored one query at a time.
_QUERIES_FOR_ALPHA = 300


@dataclass(frozen=True, eq=False)
class JudgedCollection:
    """A collection with judged queries, as BEIR stores it.

    Attributes:
        ids: The ids of the n documents.
        documents: Their texts.
        queries: The judged queries.
    """

    ids: Sequence[str]
    documents: list[str]
    queries: Queries


def read_judged(folder: Path) -> JudgedCollection:
    """Reads a folder in BEIR's layout.

    Raises:
        DataError: A file is missing or malformed.
    """
    documents = read_documents([folder / CORPUS], "utf-8", ())
    queries = read_queries([folder / QUERIES, judgments_file(folder)], "utf-8", ())
    return JudgedCollection(documents.ids, list(documents.texts), queries)


def mean_cosine(vectors: FloatArray, expected: FloatArray) -> float:
    """Returns the mean cosine of n pairs of unit vectors, both (n, d). A zero vector has a cosine of 0."""
    return float(np.einsum("nd,nd->n", vectors, expected).mean(dtype=np.float64))


def common_neighbors(vectors: FloatArray, expected: FloatArray, documents: FloatArray) -> float:
    """Returns the mean share of the ten nearest documents that two sets of queries have in common.

    Args:
        vectors: The queries by the model, (n, d), of unit length like all others.
        expected: The queries by the teacher, (n, d).
        documents: The documents by the teacher, (m, d). With fewer than ten, all are neighbors.
    """
    k = min(_NEIGHBORS, len(documents))
    shares = [
        len(np.intersect1d(own, other)) / k
        for own, other in zip(
            _nearest(vectors @ documents.T, k), _nearest(expected @ documents.T, k), strict=True
        )
    ]
    return float(np.mean(shares))


def judged_scores(
    collection: JudgedCollection,
    vectors: FloatArray,
    expected: FloatArray | None,
    documents: FloatArray,
    language: str,
) -> tuple[dict[str, float], float]:
    """Returns nDCG@10 by the kind of query, and the weight of the vectors with the best hybrid search.

    The weight is chosen on the judgments that it is scored on, so the hybrid score is slightly optimistic.

    Args:
        collection: Documents and judged queries.
        vectors: The queries by the model, (q, d).
        expected: The queries by the teacher, (q, d), if there is one.
        documents: The documents by the teacher, (n, d).
        language: The language of the words, a code of ISO 639.
    """

    def quality(scores: BlockScores) -> float:
        return search_metrics(collection.ids, collection.queries, scores)[_METRIC]

    cosines = cosine_scores(documents, vectors, collection.documents)
    lexical = lexical_scores(collection.documents, collection.queries.texts, Analyzer(language))
    words = _computed(lexical, len(collection.queries.texts))
    fused = {alpha: quality(hybrid_scores(cosines, words, alpha)) for alpha in ALPHAS}
    alpha = max(fused, key=lambda value: fused[value])
    scores = {}
    if expected is not None:
        scores["teacher"] = quality(cosine_scores(documents, expected, collection.documents))
    scores |= {
        "aligned": quality(cosines),
        "lexical": quality(words),
        "hybrid": fused[alpha],
    }
    return scores, alpha


def alpha_without_judgments(
    queries: list[str],
    vectors: FloatArray,
    expected: FloatArray,
    texts: list[str],
    documents: FloatArray,
    *,
    teacher_alpha: float,
    language: str,
) -> float:
    """Returns the weight whose hybrid search has most in common with the hybrid search of the teacher.

    Args:
        queries: The texts of n queries.
        vectors: Their vectors by the model, (n, d).
        expected: Their vectors by the teacher, (n, d).
        texts: The texts of the documents.
        documents: Their vectors by the teacher, (m, d).
        teacher_alpha: The weight of the teacher's vectors.
        language: The language of the words, a code of ISO 639.
    """
    queries = queries[:_QUERIES_FOR_ALPHA]
    words = _computed(lexical_scores(texts, queries, Analyzer(language)), len(queries))
    k = min(_NEIGHBORS, len(texts))

    def best(rows: FloatArray, alpha: float) -> list[list[int]]:
        scores = hybrid_scores(cosine_scores(documents, rows[: len(queries)], texts), words, alpha)
        return [row.tolist() for row in _nearest(scores(slice(0, len(queries))), k)]

    wanted = best(expected, teacher_alpha)

    def common(alpha: float) -> int:
        return sum(
            len(set(own).intersection(other)) for own, other in zip(best(vectors, alpha), wanted, strict=True)
        )

    return max(ALPHAS, key=common)


def _computed(scores: BlockScores, n_queries: int) -> BlockScores:
    # Scores of words take longer than all else, and are used for every weight.
    values = scores(slice(0, n_queries))

    def block(part: slice) -> FloatArray:
        return values[part].astype(np.float32, copy=False)

    return block


def _nearest(scores: npt.NDArray[np.floating], k: int) -> Rows:
    return np.argpartition(-scores, k - 1, axis=1)[:, :k]
