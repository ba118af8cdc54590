"""A look at a teacher before much time is spent on it."""

import numpy as np

from sentenc.encoders.base import Encoder

# Pairs that mean the same, and share words; every text is unlike those of the other pairs.
_PAIRS = (
    ("A man is playing the guitar.", "A man plays a guitar."),
    ("The stock market fell sharply today.", "Today the stock market fell."),
    ("She cooked rice and vegetables for dinner.", "For dinner she cooked vegetables and rice."),
    ("The children are running in the park.", "Children run in a park."),
)
# Cosine at which different texts count as one: weights that were never loaded, or a collapsed model.
_SAME = 0.999


def check_teacher(teacher: Encoder) -> None:
    """Refuses a teacher that cannot be one.

    Its vectors of eight short texts must be finite, the same when they are asked for again (no dropout),
    different for different texts, and nearer within pairs of the same meaning and words than between pairs.

    Raises:
        ValueError: One of these does not hold; the message has the numbers.
    """
    texts = [text for pair in _PAIRS for text in pair]
    first = teacher.encode(texts, normalize_embeddings=True).astype(np.float64)
    if not np.isfinite(first).all():
        bad = int((~np.isfinite(first).all(1)).sum())
        raise ValueError(f"the teacher's vectors of {bad} of {len(texts)} probe texts are not finite")
    off = float(np.abs(first - teacher.encode(texts, normalize_embeddings=True)).max())
    if off > 1e-4:
        raise ValueError(
            f"the teacher's vectors of the same texts differ by {off:.2g}, expected none: dropout?"
        )
    cosines = first @ first.T
    pairs = np.arange(len(texts)) // 2
    within = (pairs[:, None] == pairs) & ~np.eye(len(texts), dtype=bool)
    between = pairs[:, None] != pairs
    near, far = float(cosines[within].mean()), float(cosines[between].mean())
    if cosines[between].min() > _SAME:
        raise ValueError(
            f"the teacher's vectors of unlike texts all have cosines above {_SAME}: it tells nothing apart"
        )
    if not near > far:
        raise ValueError(
            f"the teacher's vectors of like texts have a mean cosine of {near:.3f}, of unlike ones {far:.3f}, "
            "expected the first to be higher"
        )
