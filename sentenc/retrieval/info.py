"""Describes an index."""

from pathlib import Path
from typing import Any

from sentenc.retrieval.ann import search_kind
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.snapshot import Snapshot


def index_info(snapshot: Snapshot, manifest: Manifest, folder: Path | None) -> dict[str, Any]:
    """Returns the number of items, the settings, the ANN index with its recall, and the size on disk."""
    deleted = snapshot.deleted
    return {
        "items": snapshot.n_items,
        "passages": snapshot.n_live,
        "deleted": int((deleted if snapshot.is_first is None else deleted & snapshot.is_first).sum()),
        "deleted passages": int(deleted.sum()),
        "dim": manifest.dim,
        "metric": manifest.metric,
        "kind": manifest.kind,
        "store": manifest.store,
        "encoder": (manifest.encoder or {}).get("model"),
        "fingerprint": (manifest.encoder or {}).get("fingerprint"),
        "encoder options": (manifest.encoder or {}).get("options"),
        "space": (manifest.encoder or {}).get("space"),
        "query encoder": manifest.query_encoder,
        "words": manifest.words,
        "chunking": manifest.chunking,
        "reranker": manifest.reranker,
        "searched by": snapshot.searched_by(manifest.kind, manifest.store),
        "to be searched by": search_kind(manifest.kind, manifest.store, snapshot.n_live),
        "structure": None if snapshot.ann is None else snapshot.ann.describe(),
        "segments": len(snapshot.segments),
        "bytes": sum(entry["bytes"] for entry in manifest.files.values()),
        "folder": None if folder is None else str(folder),
    }
