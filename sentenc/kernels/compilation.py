"""A word to the user before the kernels are compiled, which happens once on every machine."""

import logging
from pathlib import Path
from typing import Any

_logger = logging.getLogger("sentenc")


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
