"""An iterator that works ahead in a thread: reading and tokenizing while the model computes."""

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
# Seconds after which a waiting thread looks whether it is still wanted.
_GLANCE = 0.2


class Prefetched(Generic[T]):
    """The items of an iterator, in order, up to ``ahead`` of them made before they are asked for.

    What the iterator raises is raised at the place where its item would have come. :meth:`close` ends the
    thread; so does the end of the iterator.

    Args:
        items: Used by the thread alone from now on.
        ahead: Items that may wait.
    """

    def __init__(self, items: Iterator[T], ahead: int) -> None:
        self._queue: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(ahead)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(items,), daemon=True)
        self._thread.start()

    def __iter__(self) -> "Prefetched[T]":
        return self

    def __next__(self) -> T:
        """The next item.

        Raises:
            StopIteration: The iterator has ended, or this one was closed.
            BaseException: Whatever the iterator raised.
        """
        if self._closed.is_set():
            raise StopIteration
        item, error = self._queue.get()
        if error is not None:
            self._closed.set()
            raise error
        return item  # type: ignore[return-value]

    def close(self) -> None:
        """Ends the thread, and waits for it."""
        self._closed.set()
        self._thread.join()

    def _work(self, items: Iterator[T]) -> None:
        try:
            for item in items:
                if not self._put((item, None)):
                    return
            self._put((None, StopIteration()))
        except BaseException as error:
            self._put((None, error))

    def _put(self, entry: tuple[T | None, BaseException | None]) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(entry, timeout=_GLANCE)
            except queue.Full:
                continue
            return True
        return False
