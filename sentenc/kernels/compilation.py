"""A word to the user when the kernels are compiled, which happens once on every machine."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_logger = logging.getLogger("sentenc")
# Loading compiled kernels takes a few tenths of a second, compiling them several seconds.
_PATIENCE = 1.5


@contextmanager
def compilation_note() -> Iterator[None]:
    """Logs a warning if what happens inside takes long: then it is the compiler."""
    note = "compiling sentenc's kernels for this machine; this happens once and takes some seconds"
    timer = threading.Timer(_PATIENCE, _logger.warning, (note,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
