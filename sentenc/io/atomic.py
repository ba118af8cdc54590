"""Atomic writes: a file or folder is replaced completely or not at all, even if the process is killed."""

import ctypes
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sentenc.forking import lock_before_fork
from sentenc.io.disk_full import naming_full_disk

#: The end of the names of temporary files. They begin with a dot.
TEMPORARY = ".tmp"
_changing_umask = lock_before_fork()


@contextmanager
def replacing_file(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yields a temporary file in the folder of ``path``, which replaces ``path`` unless the block raises.

    Args:
        path: The file. If it is a link, the file to which it points is replaced.
        sync: Flush the content to disk first (fsync). Without it, a loss of power may leave a damaged file.

    Raises:
        OSError: ``path`` is a folder, a device or a pipe, which no file should replace; or it cannot be written.
    """
    if path.is_symlink():
        path = path.resolve()
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device or pipe"
        raise OSError(errno.EINVAL, f"the output is {kind}, expected a file", str(path))
    with _temporary_file(path) as temporary:
        with naming_full_disk(path, temporary):
            yield temporary
            if sync:
                sync_file(temporary)
        open_to_others(temporary)
        temporary.replace(path)


@contextmanager
def _temporary_file(path: Path) -> Iterator[Path]:
    # Yields an empty file in the folder of a path, which is deleted unless the block has moved it.
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=TEMPORARY, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def open_to_others(path: Path) -> None:
    """Gives a file or folder the permissions of any new one. Only its owner can read one of ``tempfile``."""
    _open_to_others(path, _umask())


def _open_to_others(path: Path, umask: int) -> None:
    if not path.is_dir():
        path.chmod(0o666 & ~umask)
        return
    # This bit passes the group of a folder on to its content, and a new folder has it from the one above.
    group = path.stat().st_mode & stat.S_ISGID
    path.chmod((0o777 & ~umask) | group)


def _umask() -> int:
    # os.umask can only read the umask by changing it, and other threads may make files at that moment.
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    except (OSError, StopIteration, ValueError, IndexError):
        with _changing_umask:
            # Such files are better closed to others than open to all.
            umask = os.umask(0o077)
            os.umask(umask)
        return umask


def create_text(path: Path, text: str) -> bool:
    """Writes a UTF-8 text file with its whole content at once, unless there is a file at this path.

    Returns:
        Whether the file was written. Of several processes that write it at the same time, only one does.
    """
    with _temporary_file(path) as temporary:
        with naming_full_disk(path, temporary):
            temporary.write_text(text, encoding="utf-8", newline="\n")
            sync_file(temporary)
        open_to_others(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except (OSError, AttributeError):
            # A file system or a system without hard links. Two processes may then both write.
            if path.exists():
                return False
            temporary.replace(path)
        return True


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically, and creates its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def replacing_folder(folder: Path, marker: str, error_type: type[Exception], kind: str) -> Iterator[Path]:
    """Yields an empty temporary folder, which replaces ``folder`` unless the block raises.

    The folder and its content get the permissions of any new folder and file, as the umask states them.

    Args:
        folder: The folder to write. If it exists, it must be empty or contain the file ``marker``.
        marker: Name of a file that every folder of this kind contains, so that no other folder is replaced.
        error_type: Type of the error if ``folder`` exists and must not be replaced.
        kind: Name of this kind of folder, for the message.

    Raises:
        error_type: ``folder`` is a file, or contains other files and no ``marker``.
        OSError: The folder cannot be written; a full disk is reported with the path of ``folder``.
    """
    # If the path is a link, the folder to which it points is replaced.
    folder = folder.expanduser().resolve()
    check_replaceable(folder, marker, error_type, kind)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        open_to_others(staging)
        with naming_full_disk(folder, staging):
            yield staging
            umask = _umask()
            for path in list(staging.rglob("*")):
                _finish(path, umask)
        if folder.exists():
            _exchange(staging, folder)
        else:
            staging.rename(folder)
        # The new folder is on disk before the old one is deleted.
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_replaceable(folder: Path, marker: str, error_type: type[Exception], kind: str) -> None:
    """Checks that :func:`replacing_folder`, which has the same arguments, may write a folder.

    Raises:
        error_type: ``folder`` is a file, or contains other files and no ``marker``.
    """
    folder = folder.expanduser()
    if folder.exists() and (
        not folder.is_dir() or (any(folder.iterdir()) and not (folder / marker).exists())
    ):
        raise error_type(f"{folder} exists and is not {kind}: choose another folder, or delete it")


def _exchange(new: Path, old: Path) -> None:
    # Exchanges two folders: in one step on Linux, and in two steps elsewhere. The old folder is moved aside
    # first, so that it is not deleted before the new one is in its place.
    at_cwd, flag_exchange = -100, 2
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
        if renameat2(at_cwd, os.fsencode(new), at_cwd, os.fsencode(old), flag_exchange) == 0:
            return
    except (OSError, AttributeError):
        pass
    aside = Path(tempfile.mkdtemp(prefix=f".{old.name}.old.", dir=old.parent))
    old.rename(aside / old.name)
    new.rename(old)
    shutil.rmtree(aside)


def _finish(path: Path, umask: int) -> None:
    # Only their owner can read files that safetensors writes. Content is on disk before a file is replaced.
    if path.is_file():
        _open_to_others(path, umask)
        sync_file(path)
    elif path.is_dir():
        _open_to_others(path, umask)


def sync_file(path: Path) -> None:
    """Flushes the content of a file to disk (fsync)."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flushes the names in a folder to disk (fsync), except on Windows, which cannot open folders."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
