"""Search: ranks the documents of a collection for each query, and compares the rankings with judgments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from sentenc.encoders.roles import Role
from sentenc.errors import DataError
from sentenc.evaluation.beir import Documents, Queries
from sentenc.evaluation.protocols.base import (
    EncodedPart,
    EvaluationProtocol,
    Outcome,
    ProtocolConfig,
    Vectors,
)
from sentenc.metrics.ranking import RANKING_METRICS, ranked, ranking_metrics
from sentenc.retrieval.lexical.bm25 import K1, B, Bm25
from sentenc.retrieval.lexical.postings import Postings
from sentenc.tokenization.analysis import Analyzer

# The ways to rank documents; a score's details have the metrics of each.
SEARCH_MODES = ("vector", "lexical", "hybrid")
# Length of the rankings, as in BEIR: MAP is cut there.
DEPTH = 1000
_QUERIES_PER_BLOCK = 64

# From a slice of the queries to the scores (q, n) of all documents; -inf for a document that is not found.
BlockScores = Callable[[slice], npt.NDArray[np.floating]]


@dataclass(frozen=True)
class Search(EvaluationProtocol):
    """nDCG@10, recall@100, MRR@10 and MAP of the rankings of all documents; nothing is trained.

    Queries are encoded by :meth:`~sentenc.Encoder.encode_query`, and documents by
    :meth:`~sentenc.Encoder.encode_document`. Documents are ranked by vectors (the cosine of
    :meth:`~sentenc.Encoder.similarity`), by words (BM25), and by both, as :class:`~sentenc.Index` does in its
    modes of the same names. As in BEIR, a ranking has at most 1,000 documents, and a document with the id of
    the query is left out of its ranking. Equal scores are ordered by falling id, as in trec_eval.
    """

    name = "search"
    metric = "nDCG@10"
    part_names = ("corpus", "queries")
    raw_by_default = True
    compares_similarity = True
    roles: ClassVar[Mapping[str, Role]] = {"corpus": "document", "queries": "query"}

    def settings(self, config: ProtocolConfig) -> dict[str, Any]:
        """Returns the parameters of the search by words and by both, in place of those of a probe."""
        words = {"name": "BM25 and z-scores", "k1": K1, "b": B, **config.words}
        return {"aggregation": None, "folds": None, "seed": None, "probe": words}

    def score(
        self, parts: Mapping[str, EncodedPart], config: ProtocolConfig, rng: np.random.Generator
    ) -> Outcome:
        """Returns the four metrics in points, of the vectors and with the mode's name before them of the others.

        The details have the metrics by mode (``vector``, ``lexical``, ``hybrid``), and the number of relevant
        documents that the collection lacks. These count as not found. Draws nothing.

        Raises:
            DataError: The collection has none of the relevant documents.
        """
        corpus, queries = parts["corpus"], parts["queries"]
        documents, judged = corpus.examples, queries.examples
        if not isinstance(documents, Documents) or not isinstance(judged, Queries):
            raise TypeError(
                f"parts are {type(documents).__name__} and {type(judged).__name__}, expected "
                "Documents and Queries"
            )
        details: dict[str, Any] = {"missing_documents": _count_missing(documents, judged)}
        vector = cosine_scores(corpus.vectors, queries.vectors, documents.texts)
        lexical = lexical_scores(documents.texts, judged.texts, Analyzer(config.words["language"]))
        hybrid = hybrid_scores(vector, lexical, config.words["alpha"])
        metrics: dict[str, float] = {}
        for mode, scores in zip(SEARCH_MODES, (vector, lexical, hybrid), strict=True):
            details[mode] = search_metrics(documents.ids, judged, scores)
            prefix = "" if mode == "vector" else f"{mode} "
            metrics.update({f"{prefix}{name}": value for name, value in details[mode].items()})
        return Outcome(metrics, details)


def search_metrics(ids: Sequence[str], queries: Queries, scores: BlockScores) -> dict[str, float]:
    """Returns the means over the queries of nDCG@10, recall@100, MRR@10 and MAP, in points.

    Args:
        ids: The ids of the n documents.
        queries: The judged queries.
        scores: Computes the scores of the documents.
    """
    rankings: dict[str, list[str]] = {}
    for first in range(0, len(queries), _QUERIES_PER_BLOCK):
        block = slice(first, first + _QUERIES_PER_BLOCK)
        for query, row in zip(queries.ids[block], scores(block), strict=True):
            n_found = int((row > -np.inf).sum())
            names = ranked(row, ids, min(n_found, DEPTH + 1))
            rankings[query] = [name for name in names if name != query][:DEPTH]
    values = ranking_metrics(rankings, dict(zip(queries.ids, queries.grades, strict=True)))
    return {name: 100 * float(np.mean(values[name])) for name in RANKING_METRICS}


def cosine_scores(documents: Vectors, queries: Vectors, texts: Sequence[str]) -> BlockScores:
    """Returns a function that computes the cosines of queries and documents; 0 if a vector is zero.

    Args:
        documents: Shape (n, dim).
        queries: Shape (m, dim).
        texts: The texts of the documents. Equal texts have exactly equal scores, wherever they are.
    """
    first = {text: row for row, text in reversed(list(enumerate(texts)))}
    distinct = {text: position for position, text in enumerate(first)}
    copies = np.array([distinct[text] for text in texts])
    unit_documents = _unit(documents[list(first.values())])
    unit_queries = _unit(queries)

    def scores(block: slice) -> Vectors:
        return np.asarray((unit_queries[block] @ unit_documents.T)[:, copies])

    return scores


def lexical_scores(documents: Sequence[str], queries: Sequence[str], analyzer: Analyzer) -> BlockScores:
    """Returns a function that computes BM25; a document without a term of the query is not found.

    Args:
        documents: The n texts.
        queries: The texts of the queries.
        analyzer: Splits texts into terms.
    """
    postings = Postings.of(documents, analyzer)
    bm25 = Bm25([postings], np.zeros(len(documents), np.bool_))

    def scores(block: slice) -> Vectors:
        rows = np.full((len(queries[block]), len(documents)), -np.inf, np.float32)
        for row, text in zip(rows, queries[block], strict=True):
            scored = bm25.scores(analyzer.terms(text))
            row[scored.rows] = scored.scores
        return rows

    return scores


def hybrid_scores(vector: BlockScores, lexical: BlockScores, alpha: float) -> BlockScores:
    """Returns a function that computes ``alpha * z(cosine) + (1 - alpha) * z(BM25)``, as ``Index`` does.

    The z-scores are relative to the collection. Without a document that has a term of the query, the vectors
    alone decide. If all cosines of a query are equal, only documents that have a term are found.
    """

    def scores(block: slice) -> Vectors:
        cosines, words = vector(block), lexical(block)
        has_term = words > -np.inf
        fused = alpha * _z_scores(cosines) + (1 - alpha) * _z_scores(np.where(has_term, words, 0.0))
        by_words_alone = (np.ptp(cosines, axis=1) == 0) & has_term.any(axis=1)
        fused[by_words_alone[:, None] & ~has_term] = -np.inf
        return np.asarray(fused)

    return scores


def _z_scores(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Returns the z-scores of each row; 0 if all values of a row are equal."""
    deviations = values - values.mean(axis=1, keepdims=True, dtype=np.float64)
    spread = values.std(axis=1, keepdims=True, dtype=np.float64)
    return np.asarray(np.divide(deviations, spread, out=np.zeros_like(deviations), where=spread > 0))


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0))


def _count_missing(documents: Documents, queries: Queries) -> int:
    """Returns the number of relevant documents that the collection lacks."""
    relevant = {name for grades in queries.grades for name, grade in grades.items() if grade > 0}
    missing = relevant.difference(documents.ids)
    if missing == relevant:
        example = f", for example {min(missing)!r}" if missing else ""
        raise DataError(
            f"the collection has none of the {len(relevant)} relevant documents{example}; "
            "expected judgments of its documents"
        )
    return len(missing)
