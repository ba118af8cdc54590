"""Turns SIGINT and SIGTERM into a stop request that the trainer honors at the next safe point."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """A request to stop, made by a signal.

    Attributes:
        is_made: False until the first signal arrives.
    """

    def __init__(self) -> None:
        self.is_made = False

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        if self.is_made:
            raise KeyboardInterrupt("interrupted twice")
        self.is_made = True


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Records the first SIGINT or SIGTERM instead of interrupting; the second one interrupts.

    Only a main thread can handle signals: in any other thread the request is never made.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    handlers = {number: signal.signal(number, request._receive) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
