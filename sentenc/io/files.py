"""Opens, sizes, identifies and lists files by their path or address (extra ``remote`` for addresses)."""

import glob
import hashlib
import os
from collections import deque
from pathlib import Path
from typing import Any, BinaryIO

from sentenc.errors import TextFileError
from sentenc.io.remote import is_remote, remote_errors, remote_file_system, remote_version

_BYTES_PER_END = 1 << 20


def open_file(name: str) -> BinaryIO:
    """Opens a file for reading bytes. A remote one is read in blocks of some megabytes, not downloaded.

    Raises:
        MissingExtraError: The file is remote, and fsspec or its package for the protocol is not installed.
        TextFileError: The remote file does not exist or cannot be opened, or the protocol is unknown.
        OSError: The local file cannot be opened.
    """
    if not is_remote(name):
        return open(name, "rb")
    with remote_errors(name):
        file_system, inside = remote_file_system(name)
        file: BinaryIO = file_system.open(inside, "rb")
    return file


def file_size(name: str) -> int:
    """Returns the number of bytes of a file. The errors are those of :func:`open_file`."""
    return _size(name, _info(name)) if is_remote(name) else os.path.getsize(name)


def file_identity(name: str) -> list[Any]:
    """Returns JSON values that change with the content: base name, size, and a hash of both ends.

    A remote file has the version that its file system states, instead of the hash: this needs no reading.
    The errors are those of :func:`open_file`.
    """
    if is_remote(name):
        info = _info(name)
        version = remote_version(info)
        if version:
            return [base_name(name), _size(name, info), version]
    return [base_name(name), file_size(name), _ends(name)]


def _size(name: str, info: dict[str, Any]) -> int:
    if info.get("size") is None:
        raise TextFileError(f"{name}: the server does not state the size of the file")
    return int(info["size"])


def base_name(name: str) -> str:
    """Returns the name of a file without its folders."""
    return name.rstrip("/").rpartition("/")[2] if is_remote(name) else os.path.basename(name)


def is_folder(name: str) -> bool:
    """Returns whether a path or address is that of a folder. The errors are those of :func:`open_file`."""
    if not is_remote(name):
        return os.path.isdir(os.path.expanduser(name))
    if name.startswith(("http://", "https://")):
        # fsspec would download the file and look for links in it.
        return name.endswith("/")
    with remote_errors(name):
        file_system, inside = remote_file_system(name)
        return bool(file_system.isdir(inside))


def matching_files(name: str) -> list[str]:
    """Returns the file of this name, or the sorted files that a glob matches. ``**`` matches nested folders.

    Raises:
        TextFileError: There is no such file, or it is a folder. The other errors are those of :func:`open_file`.
    """
    # A "?" may begin the options of an address of HTTP.
    has_magic = glob.has_magic(name) and not name.startswith(("http://", "https://"))
    path = os.path.expanduser(name)
    if not (is_remote(name) and has_magic) and is_folder(name):
        raise TextFileError(f"{name} is a folder, expected a file or a glob such as {name.rstrip('/')}/*")
    if not is_remote(name) and os.path.exists(path):
        return [path]
    if is_remote(name):
        matches = _remote_matches(name, has_magic)
    else:
        matches = sorted(match for match in glob.glob(path, recursive=True) if os.path.isfile(match))
    if not matches:
        raise TextFileError(f"{name}: no {'file matches' if has_magic else 'such file'}")
    return matches


def files_below(folder: str | os.PathLike[str]) -> list[Path]:
    """Returns the sorted files in a folder of this machine and below it, also in folders that are linked from it.

    A folder that is reached in several ways counts once.

    Raises:
        OSError: A folder cannot be read.
    """
    files: list[str] = []
    seen: set[str] = set()
    # Links are followed last, so that a folder has its own name, and a link to it adds nothing.
    waiting = deque([os.fspath(folder)])
    while waiting:
        for path, names, own in os.walk(waiting.popleft(), onerror=_raise):
            real = os.path.realpath(path)
            if real in seen:
                names.clear()
                continue
            seen.add(real)
            files += [os.path.join(path, name) for name in own]
            inside = (os.path.join(path, name) for name in sorted(names))
            waiting += [name for name in inside if os.path.islink(name)]
    return sorted(Path(file) for file in files if os.path.isfile(file))


def _raise(error: OSError) -> None:
    raise error


def _remote_matches(name: str, has_magic: bool) -> list[str]:
    with remote_errors(name):
        file_system, inside = remote_file_system(name)
        if not has_magic:
            return [name] if file_system.exists(inside) else []
        known = file_system.glob(inside, detail=True)
    scheme = name[: name.index("://") + 3]
    paths = sorted(path for path, info in known.items() if info["type"] == "file")
    return [path if is_remote(path) else scheme + path for path in paths]


def _info(name: str) -> dict[str, Any]:
    with remote_errors(name):
        file_system, inside = remote_file_system(name)
        return dict(file_system.info(inside))


def _ends(name: str) -> str:
    digest = hashlib.sha256()
    size = file_size(name)
    with open_file(name) as file:
        digest.update(file.read(_BYTES_PER_END))
        file.seek(max(0, size - _BYTES_PER_END))
        digest.update(file.read(_BYTES_PER_END))
    return digest.hexdigest()
