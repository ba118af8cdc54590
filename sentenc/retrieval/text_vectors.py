"""The texts of an index with their stored vectors, from which another encoder can be fitted."""

from typing import Any

import numpy as np

from sentenc.errors import TextFileError
from sentenc.io.text_vectors import TextVectors, select_rows
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.snapshot import Snapshot


def stored_text_vectors(snapshot: Snapshot, manifest: Manifest, source: str) -> TextVectors:
    """Returns the texts of the live rows with their vectors, which stay where they are stored.

    Args:
        snapshot: The rows.
        manifest: The index's description.
        source: The index's folder, for messages.

    Raises:
        TextFileError: No item has a text and a vector.
    """
    texts: list[str | None] = []
    for segment, start in zip(snapshot.segments, snapshot.starts.tolist(), strict=True):
        is_deleted = snapshot.deleted[start : start + len(segment)]
        pairs = zip(segment.passage_texts(), is_deleted.tolist(), strict=True)
        texts += [text for text, deleted in pairs if not deleted]
    described: dict[str, Any] = {"metric": manifest.metric} | (manifest.encoder or {})
    if manifest.words is not None:
        described |= {"language": manifest.words["language"], "hybrid_alpha": manifest.words["alpha"]}
    live = np.flatnonzero(~snapshot.deleted)
    chosen = select_rows(source, texts, manifest.dim, snapshot.vectors, described, live)
    if not chosen.texts:
        raise TextFileError(f"{source} has no item with a text and a vector")
    return chosen
