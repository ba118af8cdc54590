"""Encodes sentences and compares them. Needs only the package: no network, no GPU, no PyTorch."""

import sentenc

sentences = [
    "A man is playing a guitar.",
    "Someone plays an instrument.",
    "The stock market fell sharply.",
    "Share prices dropped on Monday.",
]

encoder = sentenc.load("cse-en")
vectors = encoder.encode(sentences)
print(f"{vectors.shape[0]} vectors of {vectors.shape[1]} dimensions, {vectors.dtype}")
for cosines, sentence in zip(encoder.similarity(vectors, vectors), sentences, strict=True):
    print(" ".join(f"{cosine:6.3f}" for cosine in cosines), " ", sentence)
