"""Decides when a worker that has ended is replaced."""

# A worker that has lived for this long was no failure of the start, so the next one starts at once.
_STABLE_SECONDS = 30.0
_FIRST_DELAY = 0.5
#: The longest delay in seconds.
LONGEST_DELAY = 10.0
_MOST_FAILED_STARTS = 5


class Restarts:
    """The delays before workers are started again, which grow while workers end soon after their start.

    Attributes:
        any: Whether a worker has ended.
        failed_starts: Number of workers that ended before they were ready, since a worker was last ready.
    """

    def __init__(self) -> None:
        self.any = False
        self.failed_starts = 0
        self._ended_soon = 0

    def became_ready(self) -> None:
        """Notes that a worker is ready."""
        self.failed_starts = 0

    def delay(self, was_ready: bool, seconds: float) -> float | None:
        """Returns the seconds until the replacement of a worker starts; None to give up.

        Args:
            was_ready: Whether the worker was ready before it ended.
            seconds: The time from its start to its end.
        """
        self.any = True
        if not was_ready:
            self.failed_starts += 1
            if self.failed_starts == _MOST_FAILED_STARTS:
                return None
        if was_ready and seconds >= _STABLE_SECONDS:
            self._ended_soon = 0
            return 0.0
        self._ended_soon += 1
        return float(min(_FIRST_DELAY * 2 ** (self._ended_soon - 1), LONGEST_DELAY))
