"""Turns SIGINT and SIGTERM into a stop request that the trainer honors at the next safe point."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType

# A scheduler may signal each process of a job, and torchrun then signals its workers again. A person who
# presses Ctrl-C again has read the terminal in between.
_SECONDS_BEFORE_SECOND = 2.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """A request to stop, made by a signal.

    Attributes:
        is_made: False until the first signal arrives.
    """

    def __init__(self) -> None:
        self.is_made = False

        self._since = 0.0

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if not self.is_made:
            self.is_made, self._since = True, monotonic()
        elif number == signal.SIGINT and monotonic() - self._since > _SECONDS_BEFORE_SECOND:
            raise KeyboardInterrupt("interrupted twice")


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Records SIGINT and SIGTERM instead of interrupting.

    A SIGINT more than two seconds after the first signal interrupts: a second Ctrl-C. Any other further signal is
    ignored, because schedulers and torchrun send a process several ones.

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
