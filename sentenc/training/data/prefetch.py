"""Prefetches the items of an iterator in a thread: reads and tokenizes while the model computes."""

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
# Seconds after which a waiting thread checks whether the iterator was closed.
_SECONDS_BETWEEN_CHECKS = 0.2


class Prefetched(Generic[T]):
    """The items of an iterator, in order, of which up to ``ahead`` are computed in advance.

    An exception of the iterator is raised in the place of the item that it prevented. The thread ends with
    the iterator, or with :meth:`close`.

    Args:
        items: The iterator. Only the thread may use it from now on.
        ahead: Largest number of items that wait.
    """

    def __init__(self, items: Iterator[T], ahead: int) -> None:
        self._queue: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(ahead)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(items,), daemon=True)
        self._thread.start()

    def __iter__(self) -> "Prefetched[T]":
        return self

    def __next__(self) -> T:
        """Returns the next item.

        Raises:
            StopIteration: The iterator has ended, or this one was closed.
            BaseException: The iterator raised this exception.
        """
        if self._closed.is_set():
            raise StopIteration
        item, error = self._queue.get()
        if error is not None:
            self._closed.set()
            raise error
        return item  # type: ignore[return-value]

    def close(self) -> None:
        """Stops the thread and waits for its end."""
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
                self._queue.put(entry, timeout=_SECONDS_BETWEEN_CHECKS)
            except queue.Full:
                continue
            return True
        return False
