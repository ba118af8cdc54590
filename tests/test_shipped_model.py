"""cse-en as it ships: sensible, pinned, small."""

from pathlib import Path

import numpy as np
import pytest

import sentenc
from sentenc.registry import find


@pytest.fixture(scope="module")
def encoder():
    return sentenc.load("cse-en")


def test_likes_what_is_alike(encoder):
    pairs = [
        ("A man is playing a guitar.", "Someone plays an instrument.", "The stock market fell."),
        ("How do I reset my password?", "I forgot my login credentials", "The recipe needs two eggs"),
        ("The cat sleeps on the sofa", "A kitten is napping on the couch", "Parliament passed the budget"),
    ]
    for text, near, far in pairs:
        similar = encoder.similarity(encoder.encode(text), encoder.encode([near, far]))[0]
        assert similar[0] > similar[1] + 0.2, text


def test_ngrams_count(encoder):
    a, b = encoder.encode(["the dog bit the man in the park", "the man bit the dog in the park"])
    words = encoder.word_path().encode(["the dog bit the man in the park", "the man bit the dog in the park"])
    np.testing.assert_allclose(words[0], words[1], atol=1e-5)
    assert np.abs(a - b).max() > 1e-3


def test_folder_is_small_and_described():
    folder = find("cse-en")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12e6
    assert "STS-B" in (folder / "README.md").read_text(encoding="utf-8")
    metadata = sentenc.load("cse-en").metadata
    assert {"summary", "sources", "scores", "command"} <= set(metadata)


def test_files_stay_in_the_package(encoder):
    assert Path(sentenc.__file__).parent in find("cse-en").parents
    assert (encoder.dim, encoder.similarity_dim) == (480, 256)
