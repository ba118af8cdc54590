"""An index on disk: what the folder holds, one writer at a time, and commits that a kill cannot tear.

``index.json`` (the manifest) names everything that counts, with sizes and hashes. A commit writes new
files under new names, then replaces the manifest in one step; what a killed writer leaves behind is not
named by the manifest, so readers never see it, and the next commit removes it.
"""

import hashlib
import json
import os
import re
import shutil
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from sentenc.errors import IndexFormatError, IndexLockedError
from sentenc.io.atomic import replacing_file, sync_file, sync_folder
from sentenc.io.disk_full import naming_full_disk, save_array

FORMAT_VERSION = 1
MANIFEST, LOCK = "index.json", "lock"
# Everything that an index folder holds, or that a killed writer leaves in one.
_OURS = re.compile(r"index\.json|lock|(segment|structure|calibration|deleted)-.*|\.index\.json\..*\.tmp")
_KEYS = {
    "format_version", "sentenc_version", "generation", "dim", "metric", "kind", "store", "encoder", "next_id",
    "segments", "deleted", "calibration", "structure", "files", "notes",
}  # fmt: skip


@dataclass
class Manifest:
    """What ``index.json`` says.

    Attributes:
        generation: Rises by one with every commit.
        dim, metric, kind, store: The index's settings.
        encoder: ``{"model": name or None, "fingerprint": hash}``, or None for an index of vectors alone.
        next_id: The next id that counts up.
        segments: ``{"name", "rows", "first_id"}`` each, in the order of rows.
        deleted, calibration: File names, or None.
        structure: The description of the search structure with its folder's ``name``, or None.
        files: ``{path: {"bytes", "sha256"}}`` of every other file.
        notes: Whatever the index's owner keeps with it, JSON.
    """

    dim: int
    metric: str
    kind: str
    store: str
    generation: int = 0
    encoder: dict[str, Any] | None = None
    next_id: int = 0
    segments: list[dict[str, Any]] = field(default_factory=list)
    deleted: str | None = None
    calibration: str | None = None
    structure: dict[str, Any] | None = None
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index folder.

    Raises:
        IndexFormatError: There is none, or not one of this version.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise IndexFormatError(f"{folder} is not an index: {MANIFEST} cannot be read ({error})") from error
    except ValueError as error:
        raise IndexFormatError(f"{path} is not JSON: {error}") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise IndexFormatError(f"{path} has format_version {version}, expected {FORMAT_VERSION}")
    if set(content) != _KEYS:
        missing, unexpected = sorted(_KEYS - set(content)), sorted(set(content) - _KEYS)
        raise IndexFormatError(f"{path} has keys missing: {missing}, unexpected: {unexpected}")
    del content["format_version"], content["sentenc_version"]
    return Manifest(**content)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replaces the manifest in one step, durably: the commit."""
    from sentenc._version import __version__

    content = {"format_version": FORMAT_VERSION, "sentenc_version": __version__, **vars(manifest)}
    with replacing_file(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    sync_folder(folder)


def is_index(folder: Path) -> bool:
    """Whether a folder holds an index, and nothing else."""
    return (folder / MANIFEST).is_file() and all(_OURS.fullmatch(path.name) for path in folder.iterdir())


def describe_files(folder: Path, *names: str) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files, given by their paths within the folder, folders with all they hold."""
    found = {}
    for name in names:
        path = folder / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            with open(file, "rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            entry = {"bytes": file.stat().st_size, "sha256": digest}
            found[file.relative_to(folder).as_posix()] = entry
    return found


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Raises IndexFormatError if a file is missing or has another size than the manifest says."""
    for name, entry in manifest.files.items():
        try:
            size = (folder / name).stat().st_size
        except OSError as error:
            raise IndexFormatError(f"{folder / name} cannot be read: {error}") from error
        if size != entry["bytes"]:
            raise IndexFormatError(
                f"{folder / name} has {size} bytes, expected {entry['bytes']}: truncated or changed"
            )


def check_hashes(folder: Path, manifest: Manifest) -> None:
    """Raises IndexFormatError if a file's content is not what the manifest says."""
    check_sizes(folder, manifest)
    for name, entry in manifest.files.items():
        if describe_files(folder, name)[name]["sha256"] != entry["sha256"]:
            raise IndexFormatError(
                f"{folder / name} does not have the sha256 that {MANIFEST} states: damaged or changed"
            )


def remove_unnamed(folder: Path, manifest: Manifest) -> None:
    """Deletes what no commit names: the remains of older generations and of killed writers. Nothing else."""
    keep = {MANIFEST, LOCK, *(name.split("/")[0] for name in manifest.files)}
    for path in folder.iterdir():
        if path.name in keep or not _OURS.fullmatch(path.name):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Writes a ``.npy`` file, on disk for certain when this returns."""
    with naming_full_disk(path), open(path, "wb") as file:
        save_array(file, array)
    sync_file(path)


def sync_tree(folder: Path) -> None:
    """Makes certain that a folder, and all in it, is on disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            sync_file(path)
    sync_folder(folder)


class WriteLock:
    """The right to write to an index folder: one holder at a time, gone with its process.

    Args:
        folder: The index.
        manifest: What its last commit must be, if not any.

    ``release()`` lets others write.

    Raises:
        IndexLockedError: Another writer holds the right, or has committed since.
    """

    def __init__(self, folder: Path, manifest: Manifest | None = None) -> None:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        # Closing the file lets go of it; that happens at the latest when nobody has the lock object any more.
        self.release = weakref.finalize(self, os.close, handle)
        try:
            _lock(handle)
        except OSError as error:
            self.release()
            raise IndexLockedError(
                f"{folder} is being written to by another process or object: try again when it is done"
            ) from error
        # Whoever replaces the index need not be able to read it.
        if manifest is not None:
            self._check(folder, manifest)

    def _check(self, folder: Path, manifest: Manifest) -> None:
        try:
            found = read_manifest(folder)
        except IndexFormatError:
            self.release()
            raise
        # The hashes, too: an index that took this one's place may have the same number.
        if (found.generation, found.files) != (manifest.generation, manifest.files):
            self.release()
            raise IndexLockedError(
                f"{folder} was written to since it was opened (commit {found.generation}, expected "
                f"{manifest.generation}): open it again"
            )


def _exclusive_lock() -> Callable[[int], None]:
    try:
        import fcntl
    except ImportError:
        import msvcrt

        return lambda handle: msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    return lambda handle: fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


_lock = _exclusive_lock()
