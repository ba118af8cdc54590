"""Searches one snapshot of an index: from queries to hits."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.retrieval.encoding import Queries, query_vectors
from sentenc.retrieval.filters import Condition
from sentenc.retrieval.fusion import Ranked, by_both, by_vectors, by_words
from sentenc.retrieval.items import Hit
from sentenc.retrieval.lexical.analysis import Analyzer
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.snapshot import Snapshot
from sentenc.retrieval.validation import check_choice, check_positive, check_share

MODES = ("hybrid", "vector", "lexical")


@dataclass(frozen=True)
class SearchOptions:
    """Options of a search; see :meth:`sentenc.Index.search`.

    Attributes:
        k: Maximum number of hits per query.
        mode: ``"hybrid"``, ``"vector"`` or ``"lexical"``; None chooses one.
        alpha: Weight of the vectors in hybrid search, 0 to 1; None takes that of the index.
        condition: The condition that every hit meets; None for no filter.
    """

    k: int
    mode: str | None = None
    alpha: float | None = None
    condition: Condition | None = None

    def __post_init__(self) -> None:
        check_positive("k", self.k)
        if self.mode is not None:
            check_choice("mode", self.mode, MODES)
        if self.alpha is not None:
            check_share("alpha", self.alpha)


def search(
    snapshot: Snapshot,
    manifest: Manifest,
    queries: Queries,
    options: SearchOptions,
    encoder: Encoder | None,
    analyzer: Analyzer | None,
) -> list[list[Hit]]:
    """Returns at most k hits for each of the q queries, best first.

    Args:
        snapshot: The items.
        manifest: Settings of the index.
        queries: The queries.
        options: Options of the search.
        encoder: The index's encoder, or None.
        analyzer: Analyzer of the texts; None if texts are not searched by words.

    Raises:
        ValueError: The mode needs texts or words that are missing, or a vector is wrong.
    """
    k, kind, store = options.k, manifest.kind, manifest.store
    mode = _mode(snapshot, queries, options.mode, encoder, analyzer)
    allowed = None if options.condition is None else snapshot.allowed(options.condition)
    if mode == "lexical" and analyzer is not None:
        terms = [analyzer.terms(text) for text in queries.texts or ()]
        return _hits(snapshot, by_words(snapshot, terms, k, allowed), terms, analyzer)
    vectors = query_vectors(queries, encoder, manifest)
    if analyzer is None or manifest.words is None or mode == "vector":
        return _hits(snapshot, by_vectors(snapshot, vectors, k, kind, store, allowed), repeat(()), None)
    terms = [analyzer.terms(text) for text in queries.texts or ()]
    alpha = manifest.words["alpha"] if options.alpha is None else options.alpha
    ranked = by_both(snapshot, vectors, terms, alpha, k, kind, store, allowed)
    return _hits(snapshot, ranked, terms, analyzer)


def _mode(
    snapshot: Snapshot, queries: Queries, mode: str | None, encoder: Encoder | None, analyzer: Analyzer | None
) -> str:
    if mode is None:
        if queries.texts is None or analyzer is None or snapshot.moments is None:
            return "vector"
        return "lexical" if encoder is None and queries.vectors is None else "hybrid"
    if mode != "vector":
        if queries.texts is None:
            raise ValueError(f"mode is {mode!r}, which needs texts: pass str, or use mode 'vector'")
        if analyzer is None:
            raise ValueError(f"mode is {mode!r}, but the index has no words: index_words() adds them")
    return mode


def _hits(
    snapshot: Snapshot, ranked: Ranked, terms: Iterable[Sequence[str]], analyzer: Analyzer | None
) -> list[list[Hit]]:
    hits = []
    for rows, scores, semantic, lexical, own_terms in zip(
        ranked.rows, ranked.scores, _parts(ranked.semantic), _parts(ranked.lexical), terms, strict=False
    ):
        wanted = set(own_terms)
        items = snapshot.items(rows[rows >= 0])
        hits.append(
            [
                Hit(
                    score, item.id, item.text, item.payload,
                    None if semantic is None else float(semantic[i]),
                    None if lexical is None else float(lexical[i]),
                    () if analyzer is None or item.text is None else analyzer.matched(item.text, wanted),
                )
                for i, (item, score) in enumerate(zip(items, scores.tolist(), strict=False))
            ]
        )  # fmt: skip
    return hits


def _parts(parts: npt.NDArray[np.floating] | None) -> Iterable[npt.NDArray[np.floating] | None]:
    return repeat(None) if parts is None else parts


def describe_filter(snapshot: Snapshot, condition: Condition) -> dict[str, Any]:
    """Returns the number of live items that meet a filter; see :meth:`sentenc.Index.describe_filter`."""
    paths = list(dict.fromkeys(condition.paths()))
    fields: dict[str, Counter[str]] = {path: Counter() for path in paths}
    for segment, start in zip(snapshot.segments, snapshot.starts.tolist(), strict=True):
        is_live = ~snapshot.deleted[start : start + len(segment)]
        for path, column in segment.columns(paths).items():
            fields[path].update(column.counts(is_live))
    items = int((snapshot.allowed(condition) & ~snapshot.deleted).sum())
    return {"items": items, "fields": {path: dict(counts) for path, counts in fields.items()}}
