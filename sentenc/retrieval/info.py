"""Describes an index."""

from pathlib import Path
from typing import Any

from sentenc.retrieval.ann import search_kind
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.snapshot import Snapshot


def index_info(snapshot: Snapshot, manifest: Manifest, folder: Path | None) -> dict[str, Any]:
    """Returns the number of items, the settings, the ANN index with its recall, and the size on disk."""
    return {
        "items": snapshot.n_live,
        "deleted": int(snapshot.deleted.sum()),
        "dim": manifest.dim,
        "metric": manifest.metric,
        "kind": manifest.kind,
        "store": manifest.store,
        "encoder": (manifest.encoder or {}).get("model"),
        "fingerprint": (manifest.encoder or {}).get("fingerprint"),
        "words": manifest.words,
        "searched by": snapshot.searched_by(manifest.kind, manifest.store),
        "to be searched by": search_kind(manifest.kind, manifest.store, snapshot.n_live),
        "structure": None if snapshot.ann is None else snapshot.ann.describe(),
        "segments": len(snapshot.segments),
        "bytes": sum(entry["bytes"] for entry in manifest.files.values()),
        "folder": None if folder is None else str(folder),
    }
