"""Encodes more text than fits into memory, from an iterable straight into a file on disk."""

import tempfile
from pathlib import Path

import numpy as np

import sentenc


def lines():
    for number in range(50_000):
        yield f"Sentence number {number} of a long stream."


encoder = sentenc.load("cse-en")
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "vectors.npy"
    vectors = np.lib.format.open_memmap(path, "w+", np.float16, (50_000, encoder.dim))
    start = 0
    for block in encoder.encode_iter(lines(), normalize_embeddings=True, dtype="float16"):
        vectors[start : start + len(block)] = block
        start += len(block)
    vectors.flush()
    print(f"{start} vectors, {path.stat().st_size / 1e6:.1f} MB on disk")
    del vectors
