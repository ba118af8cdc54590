"""Which examples of a file are held out to report on."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def split(labels: Sequence[Any], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Rows to fit to and rows to report on, each in order.

    Every label gives its share: the rows are put in the order of their labels (scores in the order of their
    values), those of one label at random, and held out at even distances. So labels with two or three
    examples are held out about as often as others, and the total is right. A label never goes without an
    example to be fitted to: a label's only example is not held out.

    Args:
        labels: A label of each row, a list of labels, or a score.
        fraction: Share of the rows to hold out, from 0 to below 1.
        seed: Of the random order.
    """
    rng = np.random.default_rng(seed)
    keys = [_key(label) for label in labels]
    position = {key: i for i, key in enumerate(sorted(set(keys)))}
    order = np.lexsort((rng.random(len(keys)), np.array([position[key] for key in keys], int)))
    marks = np.floor(np.arange(len(keys) + 1) * fraction + rng.random())
    held_out = np.zeros(len(keys), bool)
    held_out[order] = np.diff(marks) > 0
    kept = {key for key, held in zip(keys, held_out, strict=True) if not held}
    alone = [key not in kept and not isinstance(key, float) for key in keys]
    held_out[alone] = False
    return np.nonzero(~held_out)[0].tolist(), np.nonzero(held_out)[0].tolist()


def in_both(train: Sequence[Any], test: Sequence[Any]) -> int:
    """How many of the texts to report on are fitted to as well."""
    known = set(train)
    return sum(text in known for text in test)


def _key(label: Any) -> Any:
    return label if isinstance(label, float) else repr(label)
