"""Paths of object stores and other remote file systems, by the package fsspec."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from sentenc.errors import MissingExtraError, SentencError, TextFileError

# The packages of the extra that fsspec imports for a protocol.
_PACKAGES = ("s3fs", "huggingface_hub")

# Properties that change with the content of a file, the best first, as the file systems of fsspec name them.
_VERSIONS = (
    "ETag", "etag", "md5Hash", "content_md5", "blob_id", "LastModified", "last_modified", "updated", "mtime", "created",
)  # fmt: skip


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path is an address such as ``s3://bucket/name``."""
    return "://" in os.fspath(path)


def remote_file_system(path: str) -> tuple[Any, str]:
    """Returns the file system of an address, and the path in it.

    Credentials and endpoints come from the environment, or from the configuration files of fsspec and of the
    provider.

    Raises:
        MissingExtraError: fsspec, or its package for the protocol, is not installed.
        ValueError: The protocol is unknown, or needs a package that is not one of the extra.
    """
    try:
        core = import_module("fsspec.core")
    except ImportError as error:
        raise MissingExtraError("remote", "fsspec", f"reading and writing {path}") from error
    try:
        file_system, inside = core.url_to_fs(path)
    except ImportError as error:
        # The message of fsspec names the package: "Install s3fs to access S3".
        for package in _PACKAGES:
            if package in str(error):
                raise MissingExtraError("remote", package, f"reading and writing {path}") from error
        raise ValueError(f"{path}: {error}") from error
    return file_system, inside


@contextmanager
def remote_errors(name: str, kind: type[SentencError] = TextFileError) -> Iterator[None]:
    """Raises any exception of the block as one of a kind, with the address of the file.

    The exceptions of the clients of stores have no common base class. A ``MissingExtraError`` stays as it is.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except Exception as error:
        reason = str(error).removeprefix(f"{name}: ")
        raise kind(f"{name}: {type(error).__name__}: {reason}") from error


def remote_version(info: dict[str, Any]) -> str:
    """Returns a value that changes with the content of a file, or an empty one if its file system states none.

    Args:
        info: The description of the file by its file system.
    """
    return next((str(info[key]) for key in _VERSIONS if info.get(key)), "")
