"""What makes an index quick again after many changes: compaction, and a new structure."""

import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np

from sentenc.retrieval.folder import Manifest
from sentenc.retrieval.rows import Rows
from sentenc.retrieval.structures import build, choose_effort, structure_kind

# A structure is built anew, and deleted rows are thrown out, when so large a share has changed.
_STALE = 0.1


def optimized(rows: Rows, manifest: Manifest, folder: Path | None, target: float) -> Rows:
    """The same items, compacted and with a structure where that is due; files of it go to ``folder``."""
    if rows.deleted.sum() > _STALE * len(rows.deleted):
        rows = _compacted(rows)
    kind = structure_kind(manifest.kind, manifest.store, rows.n_live)
    if kind in ("exact", "hamming") or rows.n_live == 0:
        return Rows(rows.segments, rows.deleted)
    current = rows.structure
    if current is None or current.kind != kind or current.rows < (1 - _STALE) * len(rows.deleted):
        return _with_structure(rows, kind, manifest, folder, target)
    return rows


def _compacted(rows: Rows) -> Rows:
    kept = [rows.live_segment(i) for i in range(len(rows.segments))]
    segments = tuple(segment for segment in kept if segment is not None)
    return Rows(segments, np.zeros(sum(map(len, segments)), np.bool_))


def _with_structure(rows: Rows, kind: str, manifest: Manifest, folder: Path | None, target: float) -> Rows:
    home = Path(tempfile.mkdtemp(prefix="structure-", dir=folder))
    try:
        structure = build(kind, rows.segments, rows.deleted, home)
        rows = Rows(rows.segments, rows.deleted, structure)
        choose_effort(structure, rows.recall_of(manifest.kind, manifest.store), target)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    if folder is None:
        weakref.finalize(structure, shutil.rmtree, home, ignore_errors=True)
    return rows
