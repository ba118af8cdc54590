"""The frame of every picture that the library draws."""

import os
import warnings
from pathlib import Path
from typing import Any

from sentenc.errors import MissingExtraError

# Okabe and Ito's palette, told apart by color-blind readers too.
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
)  # fmt: skip


def new_figure(width: float, height: float, *, extra: str, feature: str) -> Any:
    """An empty matplotlib figure, in inches.

    Raises:
        MissingExtraError: matplotlib is not installed; it names the extra and what needs it.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(extra, "matplotlib", feature) from error
    # Figure, not pyplot: a library must not touch the user's current figure or back end.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Writes a figure; the path's suffix decides the format."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # A box for each character that the font lacks; a line on the screen for each would help nobody.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(path, dpi=150)
