"""Searches one snapshot of an index: from queries to hits."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.retrieval.encoding import Queries, query_vectors
from sentenc.retrieval.filters import Condition
from sentenc.retrieval.fusion import Ranked, by_both, by_vectors, by_words
from sentenc.retrieval.grouping import best_passages
from sentenc.retrieval.index_encoders import QueryEncoder
from sentenc.retrieval.items import Hit, QueryTerms
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.modes import MODES, default_mode
from sentenc.retrieval.reranking import DEFAULT_CANDIDATES, Reranker, reranked
from sentenc.retrieval.snapshot import Snapshot
from sentenc.retrieval.validation import check_choice, check_positive, check_share
from sentenc.retrieval.words import stored_alpha
from sentenc.tokenization.analysis import Analyzer


@dataclass(frozen=True)
class SearchOptions:
    """Options of a search; see :meth:`sentenc.Index.search`.

    Attributes:
        k: Maximum number of hits per query.
        mode: ``"hybrid"``, ``"vector"`` or ``"lexical"``; None chooses one.
        alpha: Weight of the vectors in hybrid search, 0 to 1; None takes that of the index.
        condition: The condition that every hit meets; None for no filter.
        reranker: Reorders the candidates; None for no reranking.
        candidates: Number of candidates per query.
    """

    k: int
    mode: str | None = None
    alpha: float | None = None
    condition: Condition | None = None
    reranker: Reranker | None = None
    candidates: int = DEFAULT_CANDIDATES

    def __post_init__(self) -> None:
        check_positive("k", self.k)
        check_positive("candidates", self.candidates)
        if self.mode is not None:
            check_choice("mode", self.mode, MODES)
        if self.alpha is not None:
            check_share("alpha", self.alpha)


def search(
    snapshot: Snapshot,
    manifest: Manifest,
    queries: Queries,
    options: SearchOptions,
    encoder: QueryEncoder | None,
    analyzer: Analyzer | None,
) -> list[list[Hit]]:
    """Returns at most k hits for each of the q queries, best first.

    Args:
        snapshot: The items.
        manifest: Settings of the index.
        queries: The queries.
        options: Options of the search.
        encoder: The encoder of the queries, or None.
        analyzer: Analyzer of the texts; None if texts are not searched by words.

    Raises:
        ValueError: The mode needs texts or words that are missing, or a vector is wrong.
    """
    mode = _mode(snapshot, queries, options.mode, encoder, analyzer)
    vectors = None if mode == "lexical" else query_vectors(queries, encoder, manifest)
    terms = [analyzer.terms(text) for text in queries.texts or ()] if analyzer and mode != "vector" else None
    allowed = None if options.condition is None else snapshot.allowed(options.condition)
    alpha = options.alpha
    if alpha is None and mode == "hybrid":
        alpha = stored_alpha(manifest.words) if encoder is None else encoder.alpha(manifest.words)

    def rank(n: int) -> Ranked:
        if vectors is None:
            return by_words(snapshot, terms or [], n, allowed)
        if terms is None or alpha is None:
            return by_vectors(snapshot, vectors, n, manifest.kind, manifest.store, allowed)
        return by_both(snapshot, vectors, terms, alpha, n, manifest.kind, manifest.store, allowed)

    if options.reranker is None:
        ranked = best_passages(snapshot, options.k, rank)
    else:
        ranked = best_passages(snapshot, max(options.k, options.candidates), rank)
        ranked = reranked(snapshot, ranked, queries.texts, options.reranker, options.k)
    return _hits(snapshot, ranked, terms or repeat(()), analyzer if terms else None)


def _mode(
    snapshot: Snapshot,
    queries: Queries,
    mode: str | None,
    encoder: QueryEncoder | None,
    analyzer: Analyzer | None,
) -> str:
    if mode is None:
        return default_mode(
            texts=queries.texts is not None,
            words=analyzer is not None and snapshot.moments is not None,
            vectors=encoder is not None or queries.vectors is not None,
        )
    if mode != "vector":
        if queries.texts is None:
            raise ValueError(f"mode is {mode!r}, which needs texts: pass str, or use mode 'vector'")
        if analyzer is None:
            raise ValueError(f"mode is {mode!r}, but the index has no words: index_words() adds them")
    return mode


def _hits(
    snapshot: Snapshot, ranked: Ranked, terms: Iterable[Sequence[str]], analyzer: Analyzer | None
) -> list[list[Hit]]:
    hits: list[list[Hit]] = []
    for rows, scores, semantic, lexical, own_terms in zip(
        ranked.rows, ranked.scores, _parts(ranked.semantic), _parts(ranked.lexical), terms, strict=False
    ):
        query_terms = None if analyzer is None else QueryTerms(analyzer, frozenset(own_terms))
        rows = rows[rows >= 0]
        rerank = None if ranked.rerank is None else ranked.rerank[len(hits)].tolist()
        results = zip(snapshot.items(rows), snapshot.spans(rows), scores[: len(rows)].tolist(), strict=True)
        own = []
        for i, (item, span, score) in enumerate(results):
            hit = Hit(
                score, item.id, item.text, item.payload,
                None if semantic is None else float(semantic[i]),
                None if lexical is None else float(lexical[i]),
                span=None if item.text is None else span,
                rerank=None if rerank is None else rerank[i],
                query_terms=query_terms,
            )  # fmt: skip
            own.append(hit)
        hits.append(own)
    return hits


def _parts(parts: npt.NDArray[np.floating] | None) -> Iterable[npt.NDArray[np.floating] | None]:
    return repeat(None) if parts is None else parts


def describe_filter(snapshot: Snapshot, condition: Condition) -> dict[str, Any]:
    """Returns the number of live items that meet a filter; see :meth:`sentenc.Index.describe_filter`."""
    paths = list(dict.fromkeys(condition.paths()))
    fields: dict[str, Counter[str]] = {path: Counter() for path in paths}
    for segment, start in zip(snapshot.segments, snapshot.starts.tolist(), strict=True):
        is_live = ~snapshot.deleted[start + segment.first_rows]
        for path, column in segment.columns(paths).items():
            fields[path].update(column.counts(is_live))
    matching = snapshot.allowed(condition) & ~snapshot.deleted
    items = int((matching if snapshot.is_first is None else matching & snapshot.is_first).sum())
    return {"items": items, "fields": {path: dict(counts) for path, counts in fields.items()}}
