"""Progress bars: drawn on standard error, on a terminal, when asked for."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Bar(Protocol):
    """What a piece of long work reports to."""

    def update(self, n_steps: int) -> None:
        """Moves the bar on."""


class _NoBar:
    def update(self, n_steps: int) -> None:
        """Does nothing."""


@contextmanager
def progress_bar(total: int | None, label: str, show: bool) -> Iterator[Bar]:
    """A bar with rate and time left, or one that does nothing when it is not wanted.

    Nothing is drawn where standard error is not a terminal, so logs and pipes stay clean.
    """
    if not show or not sys.stderr.isatty():
        yield _NoBar()
        return
    import click

    with click.progressbar(length=total or 0, label=label, file=sys.stderr, show_pos=True) as bar:
        yield bar
