"""Ctrl-C and a scheduler's SIGTERM as a wish that is granted at the next good moment."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether somebody wants the work to stop.

    Attributes:
        is_wanted: Becomes True with the first signal.
    """

    def __init__(self) -> None:
        self.is_wanted = False

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self.is_wanted:
            raise KeyboardInterrupt("interrupted twice")
        self.is_wanted = True


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Notes SIGINT and SIGTERM instead of letting them break in; a second one breaks in all the same.

    Only a main thread can do this; in any other nothing is noted.
    """
    found = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = {number: signal.signal(number, found._note) for number in _SIGNALS}
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
