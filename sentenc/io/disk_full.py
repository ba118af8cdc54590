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

# No space on the device, a file above the limit of sizes, a full quota (which not every system has).
_FULL: list[int] = [getattr(errno, name) for name in ("ENOSPC", "EFBIG", "EDQUOT") if hasattr(errno, name)]


@contextmanager
def naming_full_disk(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Adds a path to the errors of a full disk that the block raises.

    Errors of writing to an open file contain no path. Libraries in C++ and Rust raise errors of their own types.

    Args:
        path: The file or folder that is written.
        temporary: Where it is written first; ``path`` takes the place of this path and of those below it.

    Raises:
        OSError: The disk or quota is full, or the file is too large; the error has its number and ``path``.
    """
    try:
        yield
    except Exception as error:
        number = _full_disk_number(error)
        filename = getattr(error, "filename", None)
        if number is None or (filename and not (temporary and str(filename).startswith(str(temporary)))):
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def save_array(file: IO[bytes], array: npt.NDArray[Any]) -> None:
    """Writes an array in the format ``.npy``.

    ``np.save`` writes to a real file by itself, and reports only the number of items that a full disk took. Here
    the file writes, and its error has the reason.
    """
    np.save(_Writer(file), array)


class _Writer:
    # NumPy does not see a file in it, and calls its method.

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
        # FAISS and safetensors quote the system's words.
        for number in _FULL:
            if os.strerror(number) in str(cause):
                return number
        cause = cause.__cause__ or cause.__context__
    return None
