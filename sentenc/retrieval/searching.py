"""Searches one snapshot of an index: from queries to hits."""

from collections import Counter
from typing import Any

from sentenc.retrieval.encoding import Queries
from sentenc.retrieval.filters import Condition
from sentenc.retrieval.items import Hit
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.snapshot import Snapshot


def search(
    snapshot: Snapshot, manifest: Manifest, queries: Queries, k: int, condition: Condition | None = None
) -> list[list[Hit]]:
    """Returns at most k hits for each of the q queries, best first; see :meth:`sentenc.Index.search`.

    Args:
        snapshot: The items.
        manifest: Settings of the index.
        queries: The queries.
        k: Maximum number of hits per query.
        condition: The condition that every hit meets; None for no filter.
    """
    allowed = None if condition is None else snapshot.allowed(condition)
    scores, rows = snapshot.search(queries.vectors, k, manifest.kind, manifest.store, allowed=allowed)
    return snapshot.hits(scores, rows)


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
