"""Errors of a full disk, with the path that was written."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import SentencError

# No space on the device, a file above the size limit, a full quota (EDQUOT does not exist on every system).
_FULL: list[int] = [getattr(errno, name) for name in ("ENOSPC", "EFBIG", "EDQUOT") if hasattr(errno, name)]


@contextmanager
def naming_full_disk(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Adds a path to the errors of a full disk that the block raises.

    Errors of writing to an open file have no path, and libraries in C++ and Rust raise errors of other types.

    Args:
        path: The file or folder that is written.
        temporary: The path that is written first. Errors that name it, or a path in it, then name ``path``.

    Raises:
        OSError: The disk or quota is full, or the file is too large; with the error number and ``path``.
    """
    try:
        yield
    except Exception as error:
        number = _full_disk_number(error)
        filename = getattr(error, "filename", None)
        if number is None or (filename and not (temporary and str(filename).startswith(str(temporary)))):
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def is_full_disk(error: BaseException) -> bool:
    """Returns whether an error states that the disk or quota is full, or the file is too large."""
    return _full_disk_number(error) is not None


def save_array(file: IO[bytes], array: npt.NDArray[Any]) -> None:
    """Writes an array in the format ``.npy``.

    If the disk is full, ``np.save`` of a real file reports only a number of items. Here Python writes the
    file, so that the error contains the reason.
    """
    np.save(_Writer(file), array)


class _Writer:
    # NumPy does not recognize it as a file, and calls its method.

    def __init__(self, file: IO[bytes]) -> None:
        self.write = file.write


def _full_disk_number(error: BaseException) -> int | None:
    if isinstance(error, SentencError):
        return None
    # PyTorch raises an error of its own after that of the file.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return cause.errno
        # FAISS and safetensors quote the message of the system.
        for number in _FULL:
            if os.strerror(number) in str(cause):
                return number
        cause = cause.__cause__ or cause.__context__
    return None
