"""Converts static models to CSEs of words alone, which can be trained, merged and exported."""

import numpy as np

from sentenc.encoders.cse.config import CSEConfig
from sentenc.encoders.cse.encoder import CSE, Tables
from sentenc.encoders.static.config import StaticConfig
from sentenc.encoders.static.token_ids import NativeTokenIds
from sentenc.encoders.weights import Weights
from sentenc.errors import NotStaticError
from sentenc.tokenization.tokenizer import Tokenizer


def static_as_cse(
    config: StaticConfig, weights: Weights, tokenizer: object, *, source: str, threads: int | None = None
) -> CSE:
    """Creates a CSE of words alone from the content of a static model.

    Its vectors are those of the static model before Normalize, with two exceptions: the name of a special token in
    a text is not that token, and a text is not cut by its number of characters.

    Args:
        config: The model's shape.
        weights: Its weights.
        tokenizer: Its tokenizer.
        source: The model, for messages.
        threads: The number of threads that encode.

    Raises:
        NotStaticError: A CSE has no tokenizer or no pooling of this kind; the message has the reason.
    """
    if not isinstance(tokenizer, NativeTokenIds):
        raise NotStaticError(
            f"{source} has a tokenizer that is neither WordPiece nor splits texts at spaces and punctuation, "
            "expected one of these: a CSE has no other tokenizer"
        )
    if config.pooling != "mean":
        raise NotStaticError(
            f"{source} has the pooling {config.pooling}, expected the mean, which a CSE computes"
        )
    skip = config.unknown == "skip" or tokenizer.unknown_id is None
    shape = CSEConfig(
        vocab_size=config.vocab_size, embedding_dim=config.embedding_dim, widths=(),
        max_tokens=config.max_tokens, unknown="skip" if skip else "row",
    )  # fmt: skip
    rows = {name: np.ascontiguousarray(value) for name, value in weights.items()}
    tables: Tables = "int8" if "embeddings.scale" in rows else "float32"
    own = tokenizer.tokenizer
    return CSE(
        shape, rows | {"token_weights": np.zeros(config.vocab_size, np.float32)},
        own if own.skip_unknown == skip else Tokenizer(own.spec, skip_unknown=skip), tables=tables,
        threads=threads,
    )  # fmt: skip
