"""Creates and saves the library's matplotlib figures."""

import os
import warnings
from pathlib import Path
from typing import Any

from sentenc.errors import MissingExtraError

# The palette of Okabe and Ito, which color-blind readers can distinguish as well.
BLUE = "#0072B2"
ORANGE = "#D55E00"
GREEN = "#009E73"
PINK = "#CC79A7"
YELLOW = "#E69F00"
SKY = "#56B4E9"
BLACK = "#000000"


def new_figure(width: float, height: float, *, extra: str, feature: str) -> Any:
    """Returns an empty matplotlib figure.

    Args:
        width: Width in inches.
        height: Height in inches.
        extra: The extra of the package that installs matplotlib, for the error message.
        feature: The feature that needs matplotlib, for the error message.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(extra, "matplotlib", feature) from error
    # Figure instead of pyplot: a library must not change the user's current figure or back end.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Writes a figure in the format of the path's suffix; creates its folder if needed."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # A character that the font lacks becomes a box. A warning for each of them would not help.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(path, dpi=150)
