"""The models that ship: sensible, pinned, small."""

from pathlib import Path

import numpy as np
import pytest

import sentenc
from sentenc.registry import find

SIZES = {"cse-en": (480, 256, 12e6), "cse-en-tiny": (272, 160, 3e6)}


@pytest.fixture(scope="module", params=SIZES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def encoder(name):
    return sentenc.load(name)


def test_these_ship():
    assert sentenc.available_models() == sorted(SIZES)


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


def test_folder_is_small_and_described(name, encoder):
    folder = find(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) < SIZES[name][2]
    assert "STS-B" in (folder / "README.md").read_text(encoding="utf-8")
    assert {"summary", "sources", "scores", "command"} <= set(encoder.metadata)
    assert encoder.metadata["name"] == name


def test_files_stay_in_the_package(name, encoder):
    assert Path(sentenc.__file__).parent in find(name).parents
    assert (encoder.dim, encoder.similarity_dim) == SIZES[name][:2]
