"""Prunes a CSE: fewer dimensions, filters or tokens, as the initialization of a smaller student."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.cse.encoder import CSE
from sentenc.tokenization.tokenizer import Tokenizer

Weights = dict[str, npt.NDArray[np.float32]]


def prune_cse(
    encoder: CSE,
    *,
    embedding_dim: int | None = None,
    num_filters: int | None = None,
    average_dim: int | None = None,
    vocabulary: tuple[Tokenizer, npt.NDArray[np.int64]] | None = None,
) -> CSE:
    """Returns a CSE with fewer dimensions, filters or tokens; None leaves a size unchanged.

    The leading components of the sentence vector and of the plain average are kept: in finished models
    they are ordered by their principal axes. Of the filters of a width, those that contribute most are kept,
    measured by the norm of a filter times the norm of its output row.

    Args:
        encoder: A model without a projection (``output_dim``).
        embedding_dim: At most the model's.
        num_filters: At most the model's.
        average_dim: At most the model's.
        vocabulary: A smaller tokenizer with the old id of each of its tokens, as
            :func:`~sentenc.training.data.vocabulary.prune_vocabulary` returns them.

    Raises:
        ValueError: A size is larger than the model's, or the model has a projection.
    """
    old = encoder.config
    if old.output_dim is not None:
        raise ValueError(f"the model has output_dim={old.output_dim}, expected a model without a projection")
    requested = {"embedding_dim": embedding_dim, "num_filters": num_filters, "average_dim": average_dim}
    sizes: dict[str, Any] = {
        name: getattr(old, name) if size is None else size for name, size in requested.items()
    }
    for name, size in sizes.items():
        if size > getattr(old, name):
            raise ValueError(f"{name} is {size}, expected at most the model's {getattr(old, name)}")
    weights: Weights = {name: encoder.weight(name) for name in old.shapes()}
    tokenizer, tokens = (encoder.tokenizer, slice(None)) if vocabulary is None else vocabulary
    d, a = sizes["embedding_dim"], sizes["average_dim"]
    pruned: Weights = {"embeddings": weights["embeddings"][tokens, :d]}
    if old.word_path:
        pruned["token_weights"] = weights["token_weights"][tokens]
    if old.bias:
        pruned["bias"] = weights["bias"][:d]
    if a:
        pruned["average"] = weights["average"][tokens, :a]
    for h in old.widths:
        filters = _strongest_filters(weights, h, sizes["num_filters"])
        pruned[f"filters.{h}"] = weights[f"filters.{h}"][:, :d, filters]
        pruned[f"biases.{h}"] = weights[f"biases.{h}"][filters]
        if f"output.{h}" in weights:
            pruned[f"output.{h}"] = weights[f"output.{h}"][filters, :d]
    config = replace(old, vocab_size=tokenizer.vocab_size, **sizes)
    return CSE(config, pruned, tokenizer, tables=encoder.tables, threads=encoder.threads)


def _strongest_filters(weights: Weights, width: int, count: int) -> npt.NDArray[np.int64]:
    # Indices of the filters to keep, ascending.
    strength = np.sqrt((weights[f"filters.{width}"] ** 2).sum((0, 1)))
    if f"output.{width}" in weights:
        strength = strength * np.sqrt((weights[f"output.{width}"] ** 2).sum(1))
    return np.sort(np.argsort(-strength, kind="stable")[:count])
