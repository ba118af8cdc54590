"""Searches one snapshot of an index: from queries to hits."""

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
