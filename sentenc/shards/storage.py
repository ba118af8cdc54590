"""The folder of the output: on this machine, or on an object store."""

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from sentenc.errors import ShardError
from sentenc.io.atomic import TEMPORARY, replacing_file
from sentenc.io.locks import FileLock
from sentenc.io.remote import is_remote, remote_errors, remote_file_system

_LOCK = ".sentenc.lock"
# The names that replacing_file and tempfile make. Other hidden files may belong to other programs.
_COPY = ".copy."
_TEMPORARIES = re.compile(r"\.(copy|_manifest\.json|.+\.parquet)\.[a-z0-9_]+" + re.escape(TEMPORARY))


class Folder(Protocol):
    """A folder in which files appear only when they are complete. It can be pickled."""

    def names(self) -> set[str]:
        """Returns the names of the files in the folder, which is made if it does not exist."""

    def path_of(self, name: str) -> str:
        """Returns the path or address of a file."""

    def writing(self, name: str) -> Any:
        """Returns a context manager that yields a temporary path, whose file becomes ``name`` at its end."""

    def read(self, name: str) -> bytes:
        """Returns the content of a file."""

    def temporary(self) -> Any:
        """Returns a context manager that yields a new folder on this machine, and removes it."""

    def locked(self) -> Any:
        """Returns a context manager that keeps other runs out, and removes temporary files at both ends."""


def open_folder(path: str | os.PathLike[str]) -> Folder:
    """Returns a folder by its path or address.

    Raises:
        ShardError: The path is a file.
    """
    name = os.fspath(path)
    if is_remote(name):
        return RemoteFolder(name.rstrip("/"))
    return LocalFolder(Path(name).expanduser().absolute())


class LocalFolder:
    """A folder of this machine. A file is written under another name in it, and renamed."""

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_dir():
            raise ShardError(f"{path} is a file, expected a folder")
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def names(self) -> set[str]:
        """Returns the names of the files in the folder, which is made if it does not exist."""
        self._path.mkdir(parents=True, exist_ok=True)
        return {entry.name for entry in os.scandir(self._path)}

    def path_of(self, name: str) -> str:
        """Returns the path of a file."""
        return str(self._path / name)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yields a temporary path, whose file becomes ``name`` at the end of the block unless it raises."""
        # After a loss of power, the next run finds a damaged file and writes it again: no need to wait for the disk.
        with replacing_file(self._path / name, sync=False) as temporary:
            yield temporary

    def read(self, name: str) -> bytes:
        """Returns the content of a file."""
        return (self._path / name).read_bytes()

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """Yields a new folder in the folder, and removes it."""
        with tempfile.TemporaryDirectory(prefix=_COPY, suffix=TEMPORARY, dir=self._path) as name:
            yield Path(name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other runs out of the folder, and removes temporary files at both ends.

        Raises:
            ShardError: Another run is writing to the folder.
        """
        self._path.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(self._path / _LOCK)
        except BlockingIOError as error:
            raise ShardError(f"another run is writing to {self}: wait for its end") from error
        try:
            _remove_temporaries(self._path)
            yield
        finally:
            _remove_temporaries(self._path)
            lock.release()


class RemoteFolder:
    """A folder of an object store. A file is written on this machine first; its upload makes it appear."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __str__(self) -> str:
        return self._address

    def names(self) -> set[str]:
        """Returns the names of the files in the folder."""
        with remote_errors(self._address, ShardError):
            file_system, inside = remote_file_system(self._address)
            file_system.invalidate_cache()
            try:
                return {name.rpartition("/")[2] for name in file_system.ls(inside, detail=False)}
            except FileNotFoundError:
                return set()

    def path_of(self, name: str) -> str:
        """Returns the address of a file."""
        return f"{self._address}/{name}"

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yields a path on this machine, whose file is uploaded as ``name`` at the end of the block."""
        with self.temporary() as folder:
            path = folder / name
            path.touch()
            yield path
            with remote_errors(self.path_of(name), ShardError):
                file_system, inside = remote_file_system(self.path_of(name))
                file_system.put_file(str(path), inside)

    def read(self, name: str) -> bytes:
        """Returns the content of a file."""
        with remote_errors(self.path_of(name), ShardError):
            file_system, inside = remote_file_system(self.path_of(name))
            return bytes(file_system.cat_file(inside))

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """Yields a new folder on this machine, and removes it."""
        with tempfile.TemporaryDirectory(prefix=_COPY, suffix=TEMPORARY, dir=self.staging()) as name:
            yield Path(name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other runs on this machine out of the folder, and removes temporary files at both ends.

        Raises:
            ShardError: Another run on this machine is writing to the folder, or something else than a folder of this
                user has the name of the folder of temporary files.
        """
        staging = self.staging()
        _make_private(staging)
        try:
            lock = FileLock(staging / _LOCK)
        except BlockingIOError as error:
            raise ShardError(f"another run is writing to {self}: wait for its end") from error
        try:
            _remove_temporaries(staging)
            yield
        finally:
            _remove_temporaries(staging)
            # Windows deletes no open file.
            with suppress(OSError):
                os.unlink(staging / _LOCK)
                staging.rmdir()
            lock.release()

    def staging(self) -> Path:
        """Returns the folder of temporary files, which is the same for the next run of the same command."""
        digest = hashlib.sha256(self._address.encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"sentenc-{digest}"


def _make_private(folder: Path) -> None:
    # Other users know the name of the folder, and one of them may have made it, or a link with its name.
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    state = os.lstat(folder)
    if not stat.S_ISDIR(state.st_mode):
        kind = "a link" if stat.S_ISLNK(state.st_mode) else "a file"
        raise ShardError(f"{folder} is {kind}, expected a folder: delete it, or set TMPDIR to another folder")
    if hasattr(os, "getuid") and state.st_uid != os.getuid():
        raise ShardError(
            f"{folder} belongs to the user {state.st_uid}, expected {os.getuid()}: set TMPDIR to another folder"
        )


def _remove_temporaries(folder: Path) -> None:
    for entry in list(os.scandir(folder)):
        if not _TEMPORARIES.fullmatch(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
