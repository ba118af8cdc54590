"""Texts and comparisons for tests of BERT encoders."""

import numpy as np

TEXTS = [
    "a man is playing the guitar",
    "someone plays an instrument!",
    "",
    "dog",
    "the stock market fell " * 7,
    "Crème, NAÏVE straße",
    "東京 is new",
    "hello   world\t\n",
    "not good at all",
    "☃",
    "☃ dog",
    "dog un\u0301playing",
]
# The texts with a known token.
KNOWN = [text for text in TEXTS if text not in ("", "☃")]
CLOSE = {"rtol": 0, "atol": 1e-5}


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cosine of each row of ``a`` with the same row of ``b``."""
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
