"""The cells of the ablation benchmark: one model each."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from sentenc import CSEConfig


@dataclass(frozen=True)
class Cell:
    """A model of the grid.

    Attributes:
        form: "untrained" and "average" have only words, "paper" only n-grams, "residual" both.
        widths: The widths of the n-grams.
        phi: The non-linearity of the n-grams.
        scramble: The fraction of training pairs whose words are shuffled.
    """

    form: str
    widths: tuple[int, ...] = ()
    phi: str = "identity"
    scramble: float = 0.5

    @property
    def row(self) -> str:
        """The name that cells share if they differ only in phi and scramble."""
        widths = "{" + ", ".join(map(str, self.widths)) + "}"
        names = {
            "untrained": "word average, untrained",
            "average": "word average",
            "paper": f"paper {widths}",
        }
        return names.get(self.form, f"word average + {widths}")

    @property
    def name(self) -> str:
        """The name of the cell, which is unique."""
        if not self.widths:
            return self.row
        return f"{self.row}, {self.phi}" + ("" if self.scramble else ", not scrambled")

    def config(self, vocab_size: int, dim: int) -> CSEConfig:
        """Returns the configuration of the model, with ``dim`` n-gram features in total."""
        shared = {
            "embedding_dim": dim,
            "widths": self.widths,
            "phi": self.phi,
            "num_filters": dim // max(1, len(self.widths)),
        }
        if self.form == "paper":
            return CSEConfig.paper(vocab_size, **shared)
        return CSEConfig(vocab_size=vocab_size, combine="residual", pooling="mean", unknown="row", **shared)


def grid() -> list[Cell]:
    """Returns all cells, the most informative ones first."""
    forms, widest = ("paper", "residual"), (1, 2, 3)
    narrower = {"paper": [(1,), (1, 2)], "residual": [(2, 3), (2,), (1,)]}
    phis = ("identity", "relu")
    return [
        Cell("untrained"),
        Cell("average"),
        *(Cell(form, widest, phi) for form in forms for phi in phis),
        *(Cell(form, widest, "relu", scramble=0.0) for form in forms),
        *(Cell(form, widths, phi) for form in forms for widths in narrower[form] for phi in phis),
        # Linear n-grams hardly depend on the word order. These cells show that scrambling costs nothing.
        *(Cell(form, widest, "identity", scramble=0.0) for form in forms),
    ]


def in_order(names: Container[str]) -> list[Cell]:
    """Returns the cells of these names, sorted by form, widths, scrambling and phi."""
    forms = ["untrained", "average", "paper", "residual"]

    def position(cell: Cell) -> tuple[Any, ...]:
        return forms.index(cell.form), len(cell.widths), cell.widths, -cell.scramble, cell.phi

    return sorted((cell for cell in grid() if cell.name in names), key=position)
