"""What makes an index quick again after many changes: compaction, and a new structure."""

import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np

from sentenc.retrieval.ann import build, choose_effort, structure_kind
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.snapshot import Rows

# A structure is built anew, and deleted rows are thrown out, when so large a share has changed.
_STALE = 0.1
# Of fewer items a structure has nothing to learn from, and saves nothing.
_LEAST = 256


def optimized(rows: Rows, manifest: Manifest, folder: Path | None, target: float) -> Rows:
    """The same items, compacted and with a structure where that is due; files of it go to ``folder``."""
    if rows.deleted.sum() > _STALE * len(rows.deleted):
        rows = _compacted(rows)
    kind = structure_kind(manifest.kind, manifest.store, rows.n_live)
    if kind in ("exact", "hamming") or rows.n_live < _LEAST:
        return rows if rows.structure is None else Rows(rows.segments, rows.deleted)
    current = rows.structure
    if current is None or current.kind != kind or current.rows < (1 - _STALE) * len(rows.deleted):
        return _with_structure(rows, kind, manifest, folder, target)
    return rows


def _compacted(rows: Rows) -> Rows:
    segments, deleted = [], []
    for segment, start in zip(rows.segments, rows.starts.tolist(), strict=True):
        gone = rows.deleted[start : start + len(segment)]
        if gone.sum() > _STALE * len(segment):
            # What is left comes into memory, until it is saved.
            segment = segment.only(np.flatnonzero(~gone))
            gone = np.zeros(len(segment), np.bool_)
        if len(segment):
            segments.append(segment)
        deleted.append(gone)
    return Rows(tuple(segments), np.concatenate(deleted))


def _with_structure(rows: Rows, kind: str, manifest: Manifest, folder: Path | None, target: float) -> Rows:
    home = Path(tempfile.mkdtemp(prefix="structure-", dir=folder))
    # Temporary folders are for their owner alone; this one will be part of an index.
    home.chmod(0o755)
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
