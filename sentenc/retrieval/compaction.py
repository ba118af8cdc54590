"""Index compaction and ANN rebuilds, which make an index fast again after many changes."""

import shutil
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np

from sentenc.io.atomic import open_to_others
from sentenc.retrieval.ann import build, choose_effort, search_kind
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.snapshot import Snapshot

#: The recall at 10 that an ANN index is built for.
DEFAULT_RECALL = 0.95
# An ANN index is rebuilt, and deleted rows are removed, if a greater share of the rows has changed.
_MAX_CHANGED_SHARE = 0.1
# With fewer rows there is too little to train an ANN index on, and exact search is fast.
_MIN_ANN_ROWS = 256


def optimized(snapshot: Snapshot, manifest: Manifest, folder: Path | None, target_recall: float) -> Snapshot:
    """Returns the same items, compacted and with a new ANN index if either is due.

    Args:
        snapshot: The items.
        manifest: Settings of the index.
        folder: Folder in which the files of a new ANN index are written; None for a temporary one.
        target_recall: Recall at 10 that decides on the effort of a new ANN index.
    """
    if snapshot.deleted.sum() > _MAX_CHANGED_SHARE * len(snapshot.deleted):
        snapshot = _compacted(snapshot)
    return with_due_ann(snapshot, manifest, folder, target_recall)


def with_due_ann(
    snapshot: Snapshot, manifest: Manifest, folder: Path | None, target_recall: float
) -> Snapshot:
    """Returns the same rows with a new ANN index if one is due; the arguments are those of :func:`optimized`."""
    kind = search_kind(manifest.kind, manifest.store, snapshot.n_live)
    if kind in ("exact", "hamming") or snapshot.n_live < _MIN_ANN_ROWS:
        return snapshot if snapshot.ann is None else replace(snapshot, ann=None)
    ann, n_rows = snapshot.ann, len(snapshot.deleted)
    if ann is None or ann.kind != kind or ann.rows < (1 - _MAX_CHANGED_SHARE) * n_rows:
        return _with_ann(snapshot, kind, manifest, folder, target_recall)
    return snapshot


def _compacted(snapshot: Snapshot) -> Snapshot:
    segments, deleted = [], []
    for segment, start in zip(snapshot.segments, snapshot.starts.tolist(), strict=True):
        is_deleted = snapshot.deleted[start : start + len(segment)]
        if is_deleted.sum() > _MAX_CHANGED_SHARE * len(segment):
            # The remaining rows are in memory until they are saved.
            segment = segment.only(np.flatnonzero(~is_deleted))
            is_deleted = np.zeros(len(segment), np.bool_)
        if len(segment):
            segments.append(segment)
        deleted.append(is_deleted)
    rest = replace(snapshot, segments=tuple(segments), deleted=np.concatenate(deleted), ann=None)
    # Stored moments do not tell how many rows were subtracted from them.
    return rest.with_new_moments()


def _with_ann(
    snapshot: Snapshot, kind: str, manifest: Manifest, folder: Path | None, target_recall: float
) -> Snapshot:
    ann_folder = Path(tempfile.mkdtemp(prefix="structure-", dir=folder))
    # Only their owner can read temporary folders, and this one becomes part of an index.
    open_to_others(ann_folder)
    try:
        ann = build(kind, snapshot.segments, snapshot.deleted, ann_folder)
        snapshot = replace(snapshot, ann=ann)
        choose_effort(ann, snapshot.recall_of(manifest.kind, manifest.store), target_recall)
    except BaseException:
        shutil.rmtree(ann_folder, ignore_errors=True)
        raise
    if folder is None:
        weakref.finalize(ann, shutil.rmtree, ann_folder, ignore_errors=True)
    return snapshot
