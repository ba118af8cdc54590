"""Files and folders that are whole or not there: what a killed run leaves is the older one."""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sentenc.io.disk_full import naming_full_disk


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Gives a temporary file beside ``path`` to write to; it takes its place when all went well."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with naming_full_disk(path, temporary):
            yield temporary
            sync_file(temporary)
        # mkstemp's files are for the owner alone; ours are what any new file would be.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically; creates its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def replacing_folder(folder: Path, marker: str, refusal: type[Exception], kind: str) -> Iterator[Path]:
    """Gives an empty folder to fill; what is in it takes the place of ``folder`` when all went well.

    Args:
        folder: The target. If it exists it must be empty or hold the file ``marker``.
        marker: What a folder of this kind holds, so that no other folder is ever replaced.
        refusal: What to raise otherwise.
        kind: What such a folder is called in the message.
    """
    # Of a link it is the folder behind it that is replaced.
    folder = folder.expanduser().resolve()
    if folder.exists() and (
        not folder.is_dir() or (any(folder.iterdir()) and not (folder / marker).exists())
    ):
        raise refusal(f"{folder} exists and is not {kind}: choose another place, or delete it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        staging.chmod(0o755)
        with naming_full_disk(folder, staging):
            yield staging
            for path in staging.rglob("*"):
                _settle(path)
        if folder.exists():
            _exchange(staging, folder)
        else:
            staging.rename(folder)
        # The new one is certain to be there before the old one goes.
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _exchange(new: Path, old: Path) -> None:
    # Swaps two folders in one step where the system can (Linux); elsewhere in two, the first of which
    # moves the old one aside, so that it is never deleted before the new one is in place.
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


def _settle(path: Path) -> None:
    # On disk before it takes the old one's place; readable by others, which safetensors' files are not.
    if path.is_file():
        path.chmod(0o644)
        sync_file(path)


def sync_file(path: Path) -> None:
    """Makes certain that a file's content is on disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes certain that the names in a folder are on disk, where a folder can be opened."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
