"""Compiles and caches numba kernels, and notifies the user before the first compilation."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

_logger = logging.getLogger("sentenc")


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Returns a function compiled by numba, without the GIL, and cached on disk if a folder is writable."""
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
        return numba.njit(nogil=True, **options)(function)


def note_compilation(kernel: Any) -> None:
    """Logs a warning if a kernel is not compiled on this machine yet, to explain the wait."""
    if kernel.signatures:
        return
    # Each cached kernel has an index file that is named after its module and itself.
    module = kernel.py_func.__module__.rpartition(".")[2]
    folder = getattr(kernel.stats, "cache_path", None)
    if folder is None or not any(Path(folder).glob(f"{module}.{kernel.py_func.__name__}-*.nbi")):
        _logger.warning(
            "compiling sentenc's kernels for this machine; this happens once and takes several seconds"
        )
