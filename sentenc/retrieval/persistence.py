"""Reads and writes index folders: the segments that a save writes, and the commit."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sentenc.errors import IndexFormatError
from sentenc.io.atomic import replacing_folder, sync_folder
from sentenc.retrieval.ann import AnnIndex
from sentenc.retrieval.manifest import (
    MANIFEST,
    Manifest,
    WriteLock,
    check_sizes,
    describe_files,
    is_index,
    read_manifest,
    remove_unnamed,
    sync_tree,
    write_array,
    write_manifest,
)
from sentenc.retrieval.quantization import Quantizer, fit_quantizer, load_quantizer, plain
from sentenc.retrieval.segments import Segment, merged
from sentenc.retrieval.snapshot import Snapshot

# Bytes of codes in a segment at most, and rows; smaller ones are merged. Fewer and larger segments would
# take more memory to write, more and smaller ones more open files.
_SEGMENT_BYTES = 1 << 27
_SEGMENT_ROWS = 1 << 12, 1 << 19
_CALIBRATION_SAMPLE = 65_536
# With fewer vectors the range of later ones cannot be predicted; until then they are stored in float32.
_CALIBRATION_LEAST = 1000


def read(folder: Path) -> tuple[Manifest, Snapshot]:
    """Reads the last commit in a folder, memory-mapped.

    Raises:
        IndexFormatError: The folder is not an index, or is incomplete.
    """
    while True:
        manifest = read_manifest(folder)
        try:
            check_sizes(folder, manifest)
            snapshot = _open(folder, manifest)
            if read_manifest(folder) == manifest:
                return manifest, snapshot
        except (IndexFormatError, OSError, ValueError) as error:
            # A writer that commits while we read deletes what its commit replaces: then there is a newer one.
            if read_manifest(folder) == manifest:
                raise (
                    error
                    if isinstance(error, IndexFormatError)
                    else IndexFormatError(f"{folder} cannot be read: {error}")
                ) from error


def create(folder: Path, manifest: Manifest, snapshot: Snapshot) -> tuple[Manifest, Snapshot]:
    """Writes a whole index to a new folder, or in place of an existing index.

    Raises:
        IndexFormatError: The folder contains other files.
        IndexLockedError: Another writer is writing to the existing index.
    """
    replaces = folder.is_dir() and any(folder.iterdir())
    if replaces and not is_index(folder):
        raise IndexFormatError(
            f"{folder} exists and is not an index alone: choose another place, or empty it"
        )
    lock = WriteLock(folder) if replaces else None
    try:
        unsaved = tuple(replace(segment, name=None) for segment in snapshot.segments)
        everything = replace(snapshot, segments=unsaved)
        with replacing_folder(folder, MANIFEST, IndexFormatError, "an index") as staging:
            blank = replace(manifest, generation=_generation(folder), files={}, calibration=None)
            commit(staging, blank, everything)
    finally:
        if lock is not None:
            lock.release()
    return read(folder)


def _open(folder: Path, manifest: Manifest) -> Snapshot:
    calibration = None if manifest.calibration is None else np.load(folder / manifest.calibration)
    quantizer = load_quantizer(manifest.store, manifest.dim, calibration)
    segments = tuple(
        Segment.read(folder / entry["name"], quantizer, entry["first_id"]) for entry in manifest.segments
    )
    total = sum(map(len, segments))
    deleted = np.zeros(total, np.bool_)
    if manifest.deleted is not None:
        deleted = np.unpackbits(np.load(folder / manifest.deleted), count=total).astype(np.bool_)
    ann = None
    if manifest.structure is not None:
        ann = AnnIndex.read(folder / manifest.structure["name"], manifest.structure)
    return Snapshot(segments, deleted, ann)


def commit(folder: Path, manifest: Manifest, snapshot: Snapshot) -> tuple[Manifest, Snapshot]:
    """Commits changes to the folder that contains the saved part of ``snapshot``; the caller holds the lock."""
    # An earlier commit of this object may have been written before it failed.
    generation = max(manifest.generation, _generation(folder)) + 1
    quantizer = _quantizer(manifest, snapshot)
    new = replace(manifest, generation=generation, segments=[], files={}, deleted=None)
    if not any(_stays(segment, quantizer) for segment in snapshot.segments):
        new.calibration = None
    segments = []
    for number, group in enumerate(_groups(snapshot.segments, quantizer)):
        segment = group[0]
        if len(group) > 1 or not _stays(segment, quantizer):
            name = f"segment-{generation:06d}-{number:04d}"
            whole = merged([part.in_codes_of(quantizer) for part in group])
            # A commit that failed or was killed may have left something by this name.
            shutil.rmtree(folder / name, ignore_errors=True)
            whole.write(folder / name)
            segment = Segment.read(folder / name, quantizer, whole.first_id)
        segments.append(segment)
        new.segments.append({"name": segment.name, "rows": len(segment), "first_id": segment.first_id})
        _take_over(folder, manifest, new, str(segment.name))
    if snapshot.deleted.any():
        new.deleted = f"deleted-{generation:06d}.npy"
        write_array(folder / new.deleted, np.packbits(snapshot.deleted))
        _take_over(folder, manifest, new, new.deleted)
    if new.calibration is None:
        new.calibration = _write_calibration(folder, quantizer, generation)
    if new.calibration is not None:
        _take_over(folder, manifest, new, new.calibration)
    ann = _put_ann(folder, manifest, new, snapshot.ann)
    sync_folder(folder)
    write_manifest(folder, new)
    remove_unnamed(folder, new)
    return new, Snapshot(tuple(segments), snapshot.deleted, ann)


def _groups(segments: Sequence[Segment], quantizer: Quantizer) -> list[list[Segment]]:
    # Saved segments stay as they are; new ones are written together; the smaller a new one, the smaller
    # the saved one before it must be to be written again with it: few segments, and little work.
    low, high = _SEGMENT_ROWS
    width = quantizer.transform(np.zeros((1, quantizer.dim), np.float32)).nbytes
    most = min(max(_SEGMENT_BYTES // width, low), high)
    groups: list[list[Segment]] = []
    for segment in segments:
        new = not _stays(segment, quantizer)
        if (
            groups
            and new
            and not _stays(groups[-1][-1], quantizer)
            and _total(groups[-1]) + len(segment) <= most
        ):
            groups[-1].append(segment)
        else:
            groups.append([segment])
    while (
        len(groups) > 1
        and not _stays(groups[-1][-1], quantizer)
        and _total(groups[-2]) < 2 * _total(groups[-1])
        and _total(groups[-2]) + _total(groups[-1]) <= most
    ):
        groups[-2:] = [groups[-2] + groups[-1]]
    return groups


def _stays(segment: Segment, quantizer: Quantizer) -> bool:
    return segment.name is not None and segment.quantizer.same_as(quantizer)


def _total(group: Sequence[Segment]) -> int:
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
    total = len(snapshot.deleted)
    if manifest.store in ("float32", "float16") or total < _CALIBRATION_LEAST:
        return plain(manifest.dim, manifest.store)
    chosen = np.random.default_rng(1).choice(total, min(total, _CALIBRATION_SAMPLE), replace=False)
    return fit_quantizer(manifest.store, snapshot.vectors(np.sort(chosen)))


def _write_calibration(folder: Path, quantizer: Quantizer, generation: int) -> str | None:
    if quantizer.name not in ("int8", "binary"):
        return None
    name = f"calibration-{generation:06d}.npy"
    write_array(folder / name, quantizer.to_array())
    return name


def _put_ann(folder: Path, old: Manifest, new: Manifest, ann: AnnIndex | None) -> AnnIndex | None:
    new.structure = None
    if ann is None or not ann.folder.is_dir():
        # Another writer's commit has removed it: what is mapped can still be searched, but not copied.
        return None
    if ann.folder.parent != folder:
        home = folder / f"structure-{new.generation:06d}"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(ann.folder, home)
        ann = AnnIndex.read(home, ann.describe())
    sync_tree(ann.folder)
    described: dict[str, Any] = {"name": ann.folder.name, **ann.describe()}
    new.structure = described
    _take_over(folder, old, new, ann.folder.name)
    return ann


def _take_over(folder: Path, old: Manifest, new: Manifest, name: str) -> None:
    # Hashes of what an older commit wrote are known; nothing that is named is ever written again.
    known = {path: entry for path, entry in old.files.items() if path.split("/")[0] == name}
    new.files |= known or describe_files(folder, name)
