"""Training examples, and the interface of a source of examples."""

from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

# The texts that a loss compares: one, two (a pair) or three (a triplet).
Example = tuple[str, ...]
# The use of a text: compared with others of its kind, searched with, or searched for. Prompts depend on it.
TextRole = Literal["similarity", "query", "document"]
# Returns for each of n examples whether it is used: (n,) bool.
ExampleFilter = Callable[[list[Example]], npt.NDArray[np.bool_]]


class ExampleSource(Protocol):
    """A source of examples, such as a :class:`~sentenc.training.data.corpus.Corpus`."""

    def epoch(self, seed: int, epoch: int) -> Iterator[Example]:
        """Yields the examples of an epoch. Equal arguments yield the same examples in the same order."""
