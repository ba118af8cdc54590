"""The dev score of a run: the correlation of cosines with human scores of sentence pairs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sentenc.encoders.base import Encoder
from sentenc.errors import TextFileError
from sentenc.io.text import open_text
from sentenc.metrics import paired_cosine, pearson, spearman


def sts_score(path: Path, metric: str = "spearman") -> Callable[[Encoder], float]:
    """Reads scored sentence pairs and returns a function that scores an encoder on them.

    Args:
        path: TSV file without a header: a score and two texts on each line.
        metric: "spearman" or "pearson".

    Returns:
        A function that returns the correlation of an encoder's cosines with the scores, times 100.

    Raises:
        TextFileError: A line does not have this form (the message contains its number), or there are fewer
            than two lines.
        OSError: The file cannot be read.
    """
    gold: list[float] = []
    left: list[str] = []
    right: list[str] = []
    with open_text(str(path)) as lines:
        for number, line in enumerate(lines, 1):
            parts = line.rstrip("\r\n").split("\t")
            try:
                rating, first, second = float(parts[0]), *parts[1:]
            except ValueError as error:
                raise TextFileError(
                    f"{path}, line {number}: {line[:60]!r}, expected score<TAB>text<TAB>text: {error}"
                ) from error
            gold.append(rating)
            left.append(first)
            right.append(second)
    if len(gold) < 2:
        raise TextFileError(f"{path} has {len(gold)} pairs, expected at least 2")
    correlation = {"spearman": spearman, "pearson": pearson}[metric]
    targets = np.array(gold)

    def score(encoder: Encoder) -> float:
        # The columns that similarity compares.
        columns = encoder.similarity_dim
        a, b = (encoder.encode(texts, truncate_dim=columns, on_overflow="ignore") for texts in (left, right))
        return 100 * correlation(paired_cosine(a, b), targets)

    return score
