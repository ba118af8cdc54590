"""How the kernels are compiled: once on every machine, with a word to the user before it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

_logger = logging.getLogger("sentenc")


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """A function compiled by numba without the GIL, kept on disk where there is a place for it."""
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
        return numba.njit(nogil=True, **options)(function)


def note_compilation(kernel: Any) -> None:
    """Logs a warning if a kernel has no compiled form on disk yet, so that the wait explains itself."""
    if kernel.signatures:
        return
    # Each kernel that is kept has an index file named after its module and itself.
    module = kernel.py_func.__module__.rpartition(".")[2]
    folder = getattr(kernel.stats, "cache_path", None)
    if folder is None or not any(Path(folder).glob(f"{module}.{kernel.py_func.__name__}-*.nbi")):
        _logger.warning(
            "compiling sentenc's kernels for this machine; this happens once and takes some seconds"
        )
