"""Reads and writes index folders: the segments that a save writes, and the commit."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sentenc.errors import IndexFormatError
from sentenc.io.atomic import replacing_folder, sync_folder
from sentenc.retrieval.ann import KINDS, AnnIndex
from sentenc.retrieval.manifest import (
    MANIFEST,
    METRICS,
    Manifest,
    WriteLock,
    check_notes,
    check_sizes,
    describe_files,
    is_index,
    read_manifest,
    remove_unnamed,
    sync_tree,
    write_array,
    write_manifest,
)
from sentenc.retrieval.moments import Moments
from sentenc.retrieval.quantization import STORES, FloatArray, Quantizer, fit_quantizer, load_quantizer, plain
from sentenc.retrieval.segments import Segment, merged
from sentenc.retrieval.snapshot import Snapshot

# A segment has at most this many bytes of codes, and a maximum number of rows within these limits. Larger
# segments would need more memory while they are written, smaller ones more open files.
_MAX_SEGMENT_BYTES = 1 << 27
_MAX_SEGMENT_ROWS_FROM_TO = 1 << 12, 1 << 19
_MAX_CALIBRATION_VECTORS = 65_536
# Fewer vectors do not predict the range of later ones. Until there are this many, float32 is stored.
_MIN_CALIBRATION_VECTORS = 1000


def read(folder: Path) -> tuple[Manifest, Snapshot]:
    """Reads the latest commit in a folder, memory-mapped.

    Raises:
        IndexFormatError: The folder is not an index, or is damaged.
    """
    while True:
        manifest = read_manifest(folder)
        try:
            check_sizes(folder, manifest)
            snapshot = _open(folder, manifest)
            if read_manifest(folder) == manifest:
                return manifest, snapshot
        except (IndexFormatError, OSError, ValueError) as error:
            # A writer may have committed meanwhile, and deleted the old files. The new commit is then read.
            if read_manifest(folder) != manifest:
                continue
            if isinstance(error, IndexFormatError):
                raise
            raise IndexFormatError(f"{folder} cannot be read: {error}") from error


def create(folder: Path, manifest: Manifest, snapshot: Snapshot) -> tuple[Manifest, Snapshot]:
    """Writes a whole index to a new folder, or in place of an existing index.

    Raises:
        IndexFormatError: The folder contains other files.
        IndexLockedError: Another writer is writing to the existing index.
    """
    replaces = folder.is_dir() and any(folder.iterdir())
    if replaces and not is_index(folder):
        raise IndexFormatError(
            f"{folder} contains files that are not those of an index: choose another folder, or empty it"
        )
    lock = WriteLock(folder) if replaces else None
    try:
        unsaved = tuple(replace(segment, name=None) for segment in snapshot.segments)
        with replacing_folder(folder, MANIFEST, IndexFormatError, "an index") as staging:
            new = replace(manifest, generation=_generation(folder), files={}, calibration=None)
            commit(staging, new, replace(snapshot, segments=unsaved))
    finally:
        if lock is not None:
            lock.release()
    return read(folder)


def _open(folder: Path, manifest: Manifest) -> Snapshot:
    place = folder / MANIFEST
    for key, choices in (("metric", METRICS), ("kind", KINDS), ("store", STORES)):
        if getattr(manifest, key) not in choices:
            raise IndexFormatError(
                f"{place}: {key} is {getattr(manifest, key)!r}, expected one of {', '.join(choices)}"
            )
    calibration = None if manifest.calibration is None else np.load(folder / manifest.calibration)
    quantizer = load_quantizer(manifest.store, manifest.dim, calibration)
    files: dict[str, set[str]] = {}
    for path in manifest.files:
        name, _, file = path.partition("/")
        files.setdefault(name, set()).add(file)
    segments = tuple(
        Segment.read(folder / entry["name"], quantizer, entry["first_id"], files[entry["name"]])
        for entry in manifest.segments
    )
    zero = np.zeros((1, quantizer.dim), np.float32)
    codes = quantizer.transform(zero) if quantizer.dim == manifest.dim else zero[:, :0]
    for entry, segment in zip(manifest.segments, segments, strict=True):
        if (segment.codes.shape[1:], segment.codes.dtype) != (codes.shape[1:], codes.dtype):
            raise IndexFormatError(
                f"{place}: dim is {manifest.dim} and store {manifest.store!r}, but {entry['name']} has codes of "
                f"shape {segment.codes.shape} and type {segment.codes.dtype}"
            )
        if len(segment) != entry["rows"]:
            raise IndexFormatError(
                f"{place}: rows of {entry['name']} is {entry['rows']}, expected {len(segment)}"
            )
    total = sum(map(len, segments))
    deleted = np.zeros(total, np.bool_)
    if manifest.deleted is not None:
        deleted = np.unpackbits(np.load(folder / manifest.deleted), count=total).astype(np.bool_)
    ann = None
    if manifest.structure is not None:
        ann = AnnIndex.read(folder / manifest.structure["name"], manifest.structure)
    moments = None if manifest.moments is None else Moments(np.load(folder / manifest.moments))
    if moments is not None and moments.sums.shape != (manifest.dim + 1,) * 2:
        raise IndexFormatError(
            f"{place}: dim is {manifest.dim}, but {manifest.moments} has the shape {moments.sums.shape}"
        )
    return Snapshot(segments, deleted, ann, moments, (manifest.reranker or {}).get("fingerprint"))


def commit(folder: Path, manifest: Manifest, snapshot: Snapshot) -> tuple[Manifest, Snapshot]:
    """Commits changes to the folder of the saved segments of ``snapshot``; the caller holds the lock.

    Raises:
        TypeError: The notes contain something that JSON does not have.
        ValueError: The notes contain NaN or infinity, or themselves.
    """
    check_notes(manifest.notes)
    # An earlier commit may have failed after it had replaced the manifest.
    generation = max(manifest.generation, _generation(folder)) + 1
    quantizer = _quantizer(manifest, snapshot)
    new = replace(manifest, generation=generation, segments=[], files={}, deleted=None)
    if not any(_is_saved(segment, quantizer) for segment in snapshot.segments):
        new.calibration = None
    segments = []
    for number, group in enumerate(_groups(snapshot.segments, quantizer)):
        segment = group[0]
        if len(group) > 1 or not _is_saved(segment, quantizer):
            name = f"segment-{generation:06d}-{number:04d}"
            in_memory = merged([part.in_codes_of(quantizer) for part in group])
            # A commit that failed or was killed may have left a folder with this name.
            shutil.rmtree(folder / name, ignore_errors=True)
            in_memory.write(folder / name)
            written = {path.name for path in (folder / name).iterdir()}
            segment = Segment.read(folder / name, quantizer, in_memory.first_id, written)
        segments.append(segment)
        new.segments.append({"name": segment.name, "rows": len(segment), "first_id": segment.first_id})
        _list_files(folder, manifest, new, str(segment.name))
    if snapshot.deleted.any():
        new.deleted = f"deleted-{generation:06d}.npy"
        write_array(folder / new.deleted, np.packbits(snapshot.deleted))
        _list_files(folder, manifest, new, new.deleted)
    if new.calibration is None:
        new.calibration = _write_calibration(folder, quantizer, generation)
    if new.calibration is not None:
        _list_files(folder, manifest, new, new.calibration)
    ann = _write_ann(folder, manifest, new, snapshot.ann)
    moments = _write_moments(folder, new, snapshot, quantizer)
    sync_folder(folder)
    write_manifest(folder, new)
    remove_unnamed(folder, new)
    return new, replace(snapshot, segments=tuple(segments), ann=ann, moments=moments)


def _groups(segments: Sequence[Segment], quantizer: Quantizer) -> list[list[Segment]]:
    # Returns groups of consecutive segments, each to become one segment. New segments are merged with each
    # other, and with saved ones of less than twice their rows. This keeps segments and rewritten rows few.
    low, high = _MAX_SEGMENT_ROWS_FROM_TO
    bytes_per_row = quantizer.transform(np.zeros((1, quantizer.dim), np.float32)).nbytes
    max_rows = min(max(_MAX_SEGMENT_BYTES // bytes_per_row, low), high)
    groups: list[list[Segment]] = []
    for segment in segments:
        if (
            groups
            and not _is_saved(segment, quantizer)
            and not _is_saved(groups[-1][-1], quantizer)
            and _n_rows(groups[-1]) + len(segment) <= max_rows
        ):
            groups[-1].append(segment)
        else:
            groups.append([segment])
    while (
        len(groups) > 1
        and not _is_saved(groups[-1][-1], quantizer)
        and _n_rows(groups[-2]) < 2 * _n_rows(groups[-1])
        and _n_rows(groups[-2]) + _n_rows(groups[-1]) <= max_rows
    ):
        groups[-2:] = [groups[-2] + groups[-1]]
    return groups


def _is_saved(segment: Segment, quantizer: Quantizer) -> bool:
    return segment.name is not None and segment.quantizer.same_as(quantizer)


def _n_rows(group: Sequence[Segment]) -> int:
    return sum(map(len, group))


def _generation(folder: Path) -> int:
    try:
        return read_manifest(folder).generation
    except IndexFormatError:
        return 0


def _quantizer(manifest: Manifest, snapshot: Snapshot) -> Quantizer:
    for segment in snapshot.segments:
        if segment.quantizer.name == manifest.store:
            return segment.quantizer
    live = np.flatnonzero(~snapshot.deleted)
    if manifest.store in ("float32", "float16") or len(live) < _MIN_CALIBRATION_VECTORS:
        return plain(manifest.dim, manifest.store)
    rows = np.random.default_rng(1).choice(live, min(len(live), _MAX_CALIBRATION_VECTORS), replace=False)
    return fit_quantizer(manifest.store, snapshot.vectors(np.sort(rows)))


def _write_calibration(folder: Path, quantizer: Quantizer, generation: int) -> str | None:
    if quantizer.name not in ("int8", "binary"):
        return None
    name = f"calibration-{generation:06d}.npy"
    write_array(folder / name, quantizer.to_array())
    return name


def _write_ann(folder: Path, old: Manifest, new: Manifest, ann: AnnIndex | None) -> AnnIndex | None:
    new.structure = None
    if ann is None or not ann.folder.is_dir():
        # If another writer's commit has removed its files, they can still be searched, but not copied.
        return None
    if ann.folder.parent != folder:
        ann_folder = folder / f"structure-{new.generation:06d}"
        shutil.rmtree(ann_folder, ignore_errors=True)
        shutil.copytree(ann.folder, ann_folder)
        ann = AnnIndex.read(ann_folder, ann.describe())
    sync_tree(ann.folder)
    new.structure = {"name": ann.folder.name, **ann.describe()}
    _list_files(folder, old, new, ann.folder.name)
    return ann


def _write_moments(folder: Path, new: Manifest, snapshot: Snapshot, quantizer: Quantizer) -> Moments | None:
    new.moments = None
    moments = snapshot.moments
    if moments is None:
        return None
    for segment, start in zip(snapshot.segments, snapshot.starts.tolist(), strict=True):
        if segment.quantizer.same_as(quantizer):
            continue
        # The moments are those of the stored vectors, which other codes change.
        live = np.flatnonzero(~snapshot.deleted[start : start + len(segment)])

        def before(block: slice, segment: Segment = segment, live: Any = live) -> FloatArray:
            return segment.vectors(live[block])

        def after(block: slice, before: Any = before) -> FloatArray:
            return quantizer.inverse_transform(quantizer.transform(before(block)))

        moments = moments.minus(Moments.of(before, len(live), new.dim))
        moments = moments.plus(Moments.of(after, len(live), new.dim))
    new.moments = f"moments-{new.generation:06d}.npy"
    write_array(folder / new.moments, moments.sums)
    new.files |= describe_files(folder, new.moments)
    return moments


def _list_files(folder: Path, old: Manifest, new: Manifest, name: str) -> None:
    # Listed files never change, so the hashes of an older commit are still valid.
    known = {path: entry for path, entry in old.files.items() if path.split("/")[0] == name}
    new.files |= known or describe_files(folder, name)
