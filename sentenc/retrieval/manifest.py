"""The manifest of an index folder, its files, and the lock of its writer.

The manifest ``index.json`` lists all files of the index with their sizes and hashes. A commit writes new
files with new names, and then replaces the manifest atomically. Readers ignore files that the manifest does
not list, such as those of a killed writer, and the next commit removes them.
"""

import hashlib
import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from sentenc.errors import IndexFormatError, IndexLockedError
from sentenc.io.atomic import replacing_file, sync_file, sync_folder
from sentenc.io.disk_full import naming_full_disk, save_array
from sentenc.io.locks import FileLock
from sentenc.retrieval.manifest_checks import KEYS_ADDED, check_content

FORMAT_VERSION = max(KEYS_ADDED)
METRICS = ("cosine", "dot")
MANIFEST, LOCK = "index.json", "lock"
#: The first part of the name of a folder of vectors that are being computed.
REENCODING = "reencode-"
# All files and folders of an index, including those that a killed writer leaves.
_INDEX_FILES = re.compile(
    r"index\.json|lock|(segment|structure|calibration|deleted|moments|reencode)-.*|\.index\.json\..*\.tmp"
)


@dataclass
class Manifest:
    """The content of ``index.json``.

    Attributes:
        dim: Number of dimensions of the stored vectors.
        metric: ``"cosine"`` or ``"dot"``.
        kind: How the index is searched; see :class:`~sentenc.Index`.
        store: Type of the stored vectors.
        generation: Number of the commit; each commit adds one.
        encoder: ``{"model": name or None, "fingerprint": hash, "space": identifier}``, and the ``"options"`` by
            which it is loaded, if there are any; None for an index of vectors alone. Older indexes have no space.
        next_id: The next id that is assigned to an item without one.
        segments: ``{"name", "rows", "first_id"}`` of each segment, in the order of rows.
        deleted: Name of the file of the deleted rows, or None.
        calibration: Name of the file of the quantizer's calibration, or None.
        structure: Description of the ANN index, with the ``name`` of its folder, or None.
        files: ``{path: {"bytes", "sha256"}}`` of every other file.
        notes: JSON values of the index's owner.
        words: ``{"language", "stemmer", "alpha"}``: the language and version of the stemmer of the texts,
            and the weight of the vectors in hybrid search; None if texts are not searched by words.
        moments: Name of the file of the moments of the vectors; None if texts are not searched by words.
        chunking: ``{"tokens", "overlap"}`` of the passages of added texts; None if they are not divided.
        reranker: ``{"model": name or None, "fingerprint": hash}`` of the stored vectors of a reranker, and its
            ``"options"`` if there are any; or None.
        query_encoder: ``{"model": name or None, "fingerprint": hash, "space": identifier}`` of the encoder of
            queries, its ``"options"`` if there are any, and the number of ``"items"`` when it was set; None if the
            encoder of the items encodes them.
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
    words: dict[str, Any] | None = None
    moments: str | None = None
    chunking: dict[str, Any] | None = None
    reranker: dict[str, Any] | None = None
    query_encoder: dict[str, Any] | None = None


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of an index folder.

    Raises:
        IndexFormatError: The manifest is missing or damaged, or has another format version.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        if not folder.exists():
            raise IndexFormatError(f"there is no folder {folder}, expected an index") from error
        raise IndexFormatError(f"{folder} is not an index: {MANIFEST} cannot be read ({error})") from error
    except ValueError as error:
        raise IndexFormatError(f"{path} is not JSON: {error}") from error
    check_content(content, str(path))
    del content["format_version"], content["sentenc_version"]
    return Manifest(**content)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replaces the manifest atomically and durably, which completes a commit."""
    from sentenc._version import __version__

    content = {"format_version": FORMAT_VERSION, "sentenc_version": __version__, **vars(manifest)}
    with replacing_file(folder / MANIFEST) as temporary:
        # Characters other than ASCII are escaped: UTF-8 does not have lone surrogates.
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    sync_folder(folder)


def check_notes(notes: Any) -> None:
    """Raises TypeError or ValueError unless the notes of an index are JSON; the message has the reason."""
    try:
        json.dumps(notes, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"notes is not JSON: {error}") from error


def is_index(folder: Path) -> bool:
    """Returns whether a folder contains an index and nothing else."""
    return (folder / MANIFEST).is_file() and all(
        _INDEX_FILES.fullmatch(path.name) for path in folder.iterdir()
    )


def describe_files(folder: Path, *names: str) -> dict[str, dict[str, Any]]:
    """Returns the size and SHA-256 of files by their paths within the folder.

    Args:
        folder: The index folder.
        names: Files, or folders whose files are all described.
    """
    entries = {}
    for name in names:
        path = folder / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            with open(file, "rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            path_in_folder = file.relative_to(folder).as_posix()
            entries[path_in_folder] = {"bytes": file.stat().st_size, "sha256": digest}
    return entries


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Raises IndexFormatError if a file is missing or does not have the size that the manifest states."""
    for name, entry in manifest.files.items():
        try:
            size = (folder / name).stat().st_size
        except OSError as error:
            raise IndexFormatError(f"{folder / name} cannot be read: {error}") from error
        if size != entry["bytes"]:
            raise IndexFormatError(
                f"{folder / name} has {size} bytes, expected {entry['bytes']}: it is truncated or changed"
            )


def verify(folder: Path) -> None:
    """Checks the files of the latest commit; raises IndexFormatError if one of them has changed."""
    while True:
        manifest = read_manifest(folder)
        try:
            check_hashes(folder, manifest)
            return
        except IndexFormatError:
            # A writer may have committed meanwhile, and deleted the old files. The new commit is then checked.
            if read_manifest(folder) == manifest:
                raise


def check_hashes(folder: Path, manifest: Manifest) -> None:
    """Raises IndexFormatError if a file does not have the size and SHA-256 that the manifest states."""
    check_sizes(folder, manifest)
    for name, entry in manifest.files.items():
        try:
            digest = describe_files(folder, name)[name]["sha256"]
        except OSError as error:
            raise IndexFormatError(f"{folder / name} cannot be read: {error}") from error
        if digest != entry["sha256"]:
            raise IndexFormatError(
                f"{folder / name} does not have the sha256 that {MANIFEST} states: it is damaged or changed"
            )


def remove_unnamed(folder: Path, manifest: Manifest) -> None:
    """Deletes the files of an index that the manifest does not list.

    They remain from older commits and from killed writers. Files that are not those of an index are kept.
    """
    keep = {MANIFEST, LOCK, *(name.split("/")[0] for name in manifest.files)}
    for path in folder.iterdir():
        if path.name in keep or not _INDEX_FILES.fullmatch(path.name):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Writes a ``.npy`` file durably (with fsync)."""
    with naming_full_disk(path), open(path, "wb") as file:
        save_array(file, array)
    sync_file(path)


def sync_tree(folder: Path) -> None:
    """Flushes a folder and all files in it to disk (fsync)."""
    for path in folder.rglob("*"):
        if path.is_file():
            sync_file(path)
    sync_folder(folder)


class WriteLock(FileLock):
    """A lock on an index folder for its only writer; the system releases it when the process ends.

    Args:
        folder: The index folder.
        manifest: The manifest that must still be the current one; None accepts any.

    Raises:
        IndexLockedError: Another writer has locked the folder, or has committed since ``manifest`` was read.
    """

    def __init__(self, folder: Path, manifest: Manifest | None = None) -> None:
        try:
            super().__init__(folder / LOCK)
        except BlockingIOError as error:
            raise IndexLockedError(
                f"{folder} is being written to by another process or object: try again later"
            ) from error
        # A damaged index can be replaced, so its manifest is not read then.
        if manifest is not None:
            self._check(folder, manifest)

    def _check(self, folder: Path, manifest: Manifest) -> None:
        try:
            current = read_manifest(folder)
        except IndexFormatError:
            self.release()
            raise
        # An index that replaced this one may have the same generation, so the hashes are compared as well.
        if (current.generation, current.files) != (manifest.generation, manifest.files):
            self.release()
            raise IndexLockedError(
                f"{folder} was written to since it was opened (commit {current.generation}, expected "
                f"{manifest.generation}): open it again"
            )
