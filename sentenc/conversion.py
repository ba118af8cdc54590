"""Converts static models of other libraries to CSEs."""

import os
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from sentenc.encoders.base import Encoder
from sentenc.encoders.cse.encoder import CSE
from sentenc.encoders.cse.tables import quantized_rows
from sentenc.encoders.golden import GOLDEN_TEXTS
from sentenc.encoders.static.conversion import static_as_cse
from sentenc.encoders.static.encoder import StaticEncoder
from sentenc.registry import load
from sentenc.validation import check_choice

Rows = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        encoder: The CSE.
        changes: What differs from the static model, a sentence each; empty if nothing does.
    """

    encoder: CSE
    changes: list[str]


def convert(model: Encoder | str | os.PathLike[str], *, rows: Rows = "float32") -> Conversion:
    """Converts a static model to a CSE of words alone, which can be trained, averaged and put into pairs.

    Both encoders have one space: their vectors have the same directions, with float16 and int8 rows nearly.

    >>> sentenc.convert("potion-base-8M", rows="int8").encoder.save("potion-cse")

    Args:
        model: A static model, or an argument of :func:`sentenc.load`.
        rows: The type in which the rows are stored. Rows that are int8 already stay as they are.

    Raises:
        NotStaticError: The tokenizer or the pooling is of a kind that a CSE does not have.
        ModelNotFoundError: There is no model of this name.
        TypeError: The model is of another kind.
        ValueError: ``rows`` is unknown.
    """
    check_choice("rows", rows, get_args(Rows))
    encoder = model if isinstance(model, Encoder) else load(model)
    name = "the model" if isinstance(model, Encoder) else os.fspath(model)
    if not isinstance(encoder, StaticEncoder):
        raise TypeError(
            f"{name} is a {type(encoder).__name__}, expected a static model, such as one of model2vec"
        )
    plain = static_as_cse(
        encoder.config, encoder.weights, encoder.tokenizer, source=name, threads=encoder.threads
    )
    converted = plain if plain.tables == "int8" else _with_rows(plain, rows)
    converted.metadata = {**encoder.metadata, "space": encoder.space}
    return Conversion(converted, _changes(encoder, plain, converted))


def _with_rows(encoder: CSE, rows: Rows) -> CSE:
    embeddings = encoder.weight("embeddings")
    weights: dict[str, Any] = {"token_weights": encoder.weight("token_weights")}
    if rows == "int8":
        weights["embeddings"], weights["embeddings.scale"] = quantized_rows(embeddings)
    else:
        weights["embeddings"] = embeddings.astype(rows)
    return CSE(
        encoder.config, weights, encoder.tokenizer, tables="int8" if rows == "int8" else "float32",
        threads=encoder.threads,
    )  # fmt: skip


def _changes(encoder: StaticEncoder, plain: CSE, converted: CSE) -> list[str]:
    config, changes = encoder.config, []
    if config.normalize:
        changes.append("Vectors are not scaled to unit length: pass normalize_embeddings=True.")
    stored = converted.stored_weight("embeddings")[0].dtype
    if stored != plain.stored_weight("embeddings")[0].dtype:
        texts = GOLDEN_TEXTS[:-1]
        vectors = [one.encode(texts, on_overflow="ignore") for one in (plain, converted)]
        lowest = np.diag(plain.similarity(*vectors)).min()
        changes.append(
            f"Rows are {stored}: the lowest cosine of the two vectors of a text is {lowest:.5f}, "
            f"in {len(texts)} texts."
        )
    if config.max_characters is not None:
        changes.append(
            f"Texts are cut at {config.max_tokens} tokens alone, and not at {config.max_characters} characters."
        )
    if plain.config.unknown == "row":
        changes.append(
            "A text of unknown words alone has the row of the unknown token, and not the zero vector."
        )
    elif encoder.tokenizer.unknown_id is not None:
        changes.append("Unknown words do not count as tokens at which a text is cut.")
    if encoder.has_added_tokens:
        changes.append("The name of a special token in a text, such as [SEP], is text and not this token.")
    return changes
