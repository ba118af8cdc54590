"""Builds a CSE from a fitted table, with the tokenizer of its teacher."""

from typing import Any

import numpy as np

from sentenc.encoders.base import Encoder
from sentenc.encoders.cse.config import CSEConfig
from sentenc.encoders.cse.encoder import CSE
from sentenc.encoders.transformer import TransformerEncoder
from sentenc.errors import CheckpointError, MissingExtraError
from sentenc.registry import load
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.alignment.table import Table
from sentenc.training.alignment.tokens import FloatArray

_DEFAULT_MODEL = "cse-en"


def choose_tokenizer(teacher: Encoder | None) -> tuple[Tokenizer, str]:
    """Returns the tokenizer of the model, and its origin: ``"teacher"`` or the name of a model.

    The teacher's own is used if it is WordPiece or whole words. Every other teacher, and none, has that of
    cse-en.

    Raises:
        ValueError: The model named cse-en is no CSE.
    """
    own = None if teacher is None else _tokenizer_spec(teacher)
    if own is not None:
        try:
            return Tokenizer(own), "teacher"
        except CheckpointError:
            pass  # another kind of tokenizer
    default = load(_DEFAULT_MODEL)
    if not isinstance(default, CSE):
        raise ValueError(f"{_DEFAULT_MODEL} is {type(default).__name__}, expected a CSE")
    return default.tokenizer, _DEFAULT_MODEL


def build_model(
    table: Table, tokenizer: Tokenizer, metadata: dict[str, Any], axes: FloatArray | None = None
) -> CSE:
    """Returns a CSE with the directions of a table: int8 rows, and the constant as bias.

    Args:
        table: Rows (V, r) and a constant (r,).
        tokenizer: A tokenizer with V ids.
        metadata: The metadata of the model.
        axes: The axes of the space that the components of the table belong to, (r, d); None for r = d.
    """
    # Only directions matter. Rows of about unit length keep the bias within the range of float16.
    scale = np.float32(1 / max(float(np.abs(table.constant).max()), float(np.abs(table.rows).max()), 1e-12))
    rows = table.rows * scale
    output_dim = None if axes is None else axes.shape[1]
    config = CSEConfig(
        vocab_size=len(rows), embedding_dim=rows.shape[1], output_dim=output_dim, widths=(), bias=True
    )
    constant = table.constant * scale
    weights = {
        "embeddings": rows,
        "token_weights": np.zeros(len(rows), np.float32),
        "bias": constant if axes is None else constant @ axes,
    }
    if axes is not None:
        weights["projection"] = axes
    return CSE(config, weights, tokenizer, metadata=metadata).compressed()


def _tokenizer_spec(teacher: Encoder) -> str | None:
    own = getattr(teacher, "tokenizer", None)
    if isinstance(own, Tokenizer):
        return own.spec
    if not isinstance(teacher, TransformerEncoder):
        return None
    try:
        return str(teacher.torch_model()[1].backend_tokenizer.to_str())
    except (ValueError, AttributeError, MissingExtraError):
        return None
