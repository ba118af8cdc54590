"""Progress bars, drawn on standard error if it is a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Bar(Protocol):
    """A progress bar."""

    def update(self, n_steps: int) -> None:
        """Advances the bar by ``n_steps``."""


class _NoBar:
    def update(self, n_steps: int) -> None:
        """Does nothing."""


@contextmanager
def progress_bar(total: int | None, label: str, show: bool) -> Iterator[Bar]:
    """Yields a bar with rate and remaining time, or one that does nothing if ``show`` is False.

    Nothing is drawn if standard error is not a terminal, so that logs and pipes stay clean.
    """
    if not show or not is_drawn():
        yield _NoBar()
        return
    import click

    with click.progressbar(length=total or 0, label=label, file=sys.stderr, show_pos=True) as bar:
        yield bar


def is_drawn() -> bool:
    """Returns whether bars are drawn: whether standard error is a terminal."""
    return sys.stderr.isatty()


def resize(bar: Bar, n_steps: int) -> None:
    """Adds a number of steps, which may be negative, to the total of a bar, if it is drawn."""
    if hasattr(bar, "length"):
        bar.length += n_steps


def relabel(bar: Bar, label: str) -> None:
    """Changes the label of a bar, if it is drawn."""
    if hasattr(bar, "label"):
        bar.label = label
