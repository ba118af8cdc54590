"""A quick check of a teacher before a long run."""

import numpy as np

from sentenc.encoders.comparison import unit_rows
from sentenc.training.teachers.base import Teacher

# Paraphrases that share words. No text resembles those of another pair.
_PAIRS = (
    ("A man is playing the guitar.", "A man plays a guitar."),
    ("The stock market fell sharply today.", "Today the stock market fell."),
    ("She cooked rice and vegetables for dinner.", "For dinner she cooked vegetables and rice."),
    ("The children are running in the park.", "Children run in a park."),
)
# Different texts have cosines above this only if weights were not loaded, or the model has collapsed.
_IDENTICAL_COSINE = 0.999


def check_teacher(teacher: Teacher) -> None:
    """Checks that a teacher encodes eight short texts plausibly.

    The vectors must be finite, equal when computed twice (no dropout), different for different texts, and
    more similar within pairs of paraphrases than between pairs.

    Raises:
        ValueError: One of these conditions does not hold; the message contains the numbers.
    """
    texts = [text for pair in _PAIRS for text in pair]
    # Normalization refuses vectors that are not finite, but does not name the teacher.
    raw = [teacher.encode(texts, normalize_embeddings=False, on_overflow="ignore") for _ in range(2)]
    if not np.isfinite(raw[0]).all():
        bad = int((~np.isfinite(raw[0]).all(1)).sum())
        raise ValueError(f"the teacher returned NaN or infinity for {bad} of {len(texts)} probe texts")
    first, second = (unit_rows(vectors, "vectors").astype(np.float64) for vectors in raw)
    difference = float(np.abs(first - second).max())
    if difference > 1e-4:
        raise ValueError(
            f"the teacher's vectors of the same texts differ by {difference:.2g} between two calls, expected "
            "no difference: check that dropout is off"
        )
    cosines = first @ first.T
    pairs = np.arange(len(texts)) // 2
    within = (pairs[:, None] == pairs) & ~np.eye(len(texts), dtype=bool)
    between = pairs[:, None] != pairs
    mean_within, mean_between = float(cosines[within].mean()), float(cosines[between].mean())
    if cosines[between].min() > _IDENTICAL_COSINE:
        raise ValueError(
            f"the teacher's vectors of unrelated texts all have cosines above {_IDENTICAL_COSINE}: it does "
            "not distinguish texts"
        )
    if not mean_within > mean_between:
        raise ValueError(
            f"the teacher's mean cosine is {mean_within:.3f} for paraphrases and {mean_between:.3f} for "
            "unrelated texts, expected a higher one for paraphrases"
        )
