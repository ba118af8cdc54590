"""A teacher that is loaded when it is first needed."""

from collections.abc import Callable

from sentenc.training.teachers.base import Teacher


class LazyTeacher:
    """Loads a teacher at the first call, and returns the same one until it is released.

    Args:
        load: Loads the teacher.
    """

    def __init__(self, load: Callable[[], Teacher]) -> None:
        self._load = load
        self._teacher: Teacher | None = None

    def __call__(self) -> Teacher:
        """Returns the teacher."""
        if self._teacher is None:
            self._teacher = self._load()
        return self._teacher

    def release(self) -> None:
        """Drops the teacher, so that its memory can be used for the training."""
        self._teacher = None
