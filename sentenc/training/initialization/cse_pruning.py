"""A smaller CSE out of a larger one, to be trained on: the start of a tiny model."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.cse.encoder import CSE
from sentenc.tokenization.tokenizer import Tokenizer

Weights = dict[str, npt.NDArray[np.float32]]


def shrunk(
    encoder: CSE,
    *,
    embedding_dim: int | None = None,
    num_filters: int | None = None,
    average_dim: int | None = None,
    vocabulary: tuple[Tokenizer, npt.NDArray[np.int64]] | None = None,
) -> CSE:
    """A CSE with fewer dimensions, filters or tokens; what is not given stays.

    Of the sentence vector and of the plain average the first components are kept: finished models have them in the
    order of their principal axes. Of the filters of a width those are kept that add most to the vector, measured by
    the product of the norms of what goes in and of what comes out.

    Args:
        encoder: Without a projection (``output_dim``).
        embedding_dim: At most its own.
        num_filters: At most its own.
        average_dim: At most its own.
        vocabulary: What :func:`~sentenc.training.data.vocabulary.prune_vocabulary` gave: a tokenizer, and the row of each
            of its tokens.

    Raises:
        ValueError: A size is larger than the encoder's, or it has a projection.
    """
    old = encoder.config
    if old.output_dim is not None:
        raise ValueError(f"the model has output_dim={old.output_dim}, expected one without a projection")
    asked = {"embedding_dim": embedding_dim, "num_filters": num_filters, "average_dim": average_dim}
    sizes: dict[str, Any] = {
        name: getattr(old, name) if size is None else size for name, size in asked.items()
    }
    for name, size in sizes.items():
        if size > getattr(old, name):
            raise ValueError(f"{name} is {size}, expected at most the model's {getattr(old, name)}")
    weights: Weights = {name: encoder.weight(name) for name in old.shapes()}
    tokenizer, rows = (encoder.tokenizer, slice(None)) if vocabulary is None else vocabulary
    d, a = sizes["embedding_dim"], sizes["average_dim"]
    found: Weights = {"embeddings": weights["embeddings"][rows, :d]}
    if old.word_path:
        found["token_weights"] = weights["token_weights"][rows]
    if a:
        found["average"] = weights["average"][rows, :a]
    for h in old.widths:
        kept = _strongest(weights, h, sizes["num_filters"])
        found[f"filters.{h}"] = weights[f"filters.{h}"][:, :d, kept]
        found[f"biases.{h}"] = weights[f"biases.{h}"][kept]
        if f"output.{h}" in weights:
            found[f"output.{h}"] = weights[f"output.{h}"][kept, :d]
    config = replace(old, vocab_size=tokenizer.vocab_size, **sizes)
    return CSE(config, found, tokenizer, tables=encoder.tables, threads=encoder.threads)


def _strongest(weights: Weights, width: int, count: int) -> npt.NDArray[np.int64]:
    # Numbers of the filters to keep, rising.
    strength = np.sqrt((weights[f"filters.{width}"] ** 2).sum((0, 1)))
    if f"output.{width}" in weights:
        strength = strength * np.sqrt((weights[f"output.{width}"] ** 2).sum(1))
    return np.sort(np.argsort(-strength, kind="stable")[:count])
