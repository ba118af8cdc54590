"""A lock on a file, which the system releases when the process ends."""

import errno
import os
import weakref
from collections.abc import Callable
from pathlib import Path

from sentenc.forking import after_fork


class FileLock:
    """An exclusive lock on a file, which is made if it does not exist.

    A forked child does not have the lock, and does not keep it if its parent is killed.

    Attributes:
        release: Call it to unlock the file.

    Args:
        path: The file.

    Raises:
        BlockingIOError: Another process or object has locked the file.
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        # The file is closed at the latest when the lock object is garbage-collected.
        self.release = weakref.finalize(self, _unlock, handle, os.getpid())
        # A forked child closes its copy of the file, because the copy would keep the lock of a killed parent.
        after_fork(self, FileLock._close_copy)
        try:
            _lock(handle)
        except OSError as error:
            self.release()
            message = "locked by another process or object"
            raise BlockingIOError(errno.EWOULDBLOCK, message, str(path)) from error

    def _close_copy(self) -> None:
        self.release()


def _unlock(handle: int, owner: int) -> None:
    # A forked child has a copy of the file, which the lock belongs to as well. So the owner unlocks explicitly,
    # and the child only closes its copy.
    if os.getpid() == owner:
        _release(handle)
    os.close(handle)


def _lock_functions() -> tuple[Callable[[int], None], Callable[[int], None]]:
    # Returns a function that locks an open file or raises OSError, and one that unlocks it.
    try:
        import fcntl
    except ImportError:
        import msvcrt

        # Closing the file unlocks it.
        return lambda handle: msvcrt.locking(handle, msvcrt.LK_NBLCK, 1), lambda _: None  # type: ignore[attr-defined]
    return (
        lambda handle: fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB),
        lambda handle: fcntl.flock(handle, fcntl.LOCK_UN),
    )


_lock, _release = _lock_functions()
