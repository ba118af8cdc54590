"""Golden vectors: the reference vectors that a model folder stores."""

from typing import Any

from sentenc.encoders.base import Encoder

GOLDEN_TEXTS = [
    "A man is playing a guitar.",
    "The stock market fell sharply after the announcement.",
    "not good at all, not even close!",
    "Crème brûlée, naïve façade & Ærø: 3.14 €",
    "東京 is the capital of 日本",
    "antidisestablishmentarianism",
    "word " * 200,
    "",
]


def golden_vectors(encoder: Encoder) -> dict[str, Any]:
    """Returns the golden texts and the encoder's vectors of them, as a model folder stores them."""
    vectors = encoder.encode(GOLDEN_TEXTS, on_overflow="ignore")
    return {"texts": GOLDEN_TEXTS, "embeddings": [[round(float(x), 7) for x in row] for row in vectors]}
