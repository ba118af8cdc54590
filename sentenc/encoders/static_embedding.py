"""Words alone as a ``StaticEmbedding`` of sentence-transformers, and the reverse.

A CSE of words alone averages rows with a weight for each token: sum_i a_i x_i / sum_i a_i. A ``StaticEmbedding`` is
the mean of rows, (1 / n) sum_i y_i. With y = a x, both have the same direction, so every cosine is the same.
"""

import json
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from sentenc.encoders.cse.config import CSEConfig
from sentenc.encoders.cse.encoder import CSE
from sentenc.encoders.cse.tables import quantized_rows
from sentenc.errors import CheckpointError, NotStaticError
from sentenc.tokenization.tokenizer import Tokenizer

# The factors of rows in the files of model2vec and sentence-transformers.
_FACTORS = "weights"
_PRIVATE_USE = 0xE000
# StaticEmbedding has no limit.
_MAX_TOKENS = 2**31 - 1


def has_static_form(encoder: Any) -> TypeGuard[CSE]:
    """Returns whether a ``StaticEmbedding``, and a matrix after it, can have the directions of an encoder's vectors.

    The encoder is a CSE of words alone. Its bias, if it has one, is not projected, and all tokens weigh the same.
    """
    if not isinstance(encoder, CSE):
        return False
    config = encoder.config
    if not config.word_path or config.widths or config.average_dim:
        return False
    return not config.bias or (
        config.output_dim is None and bool(np.ptp(encoder.weight("token_weights")) == 0)
    )


def write_static(folder: Path, encoder: CSE) -> None:
    """Writes a ``StaticEmbedding`` whose vectors have the directions of a CSE's, before its projection.

    sentence-transformers knows the factors of int8 rows since version 6. If the CSE leaves out unknown words, their
    row is zero, which shortens the mean and does not turn it. n times the vector of a CSE with a bias is the sum of
    its rows and the bias, so the bias is another row, of a token that the tokenizer puts before every text.

    Args:
        folder: A folder that does not exist.
        encoder: A CSE of which :func:`has_static_form` is true.
    """
    from safetensors.numpy import save_file

    rows, scale = encoder.stored_weight("embeddings")
    first = len(rows)
    factors = np.exp(encoder.weight("token_weights") - encoder.weight("token_weights").max())
    if encoder.config.unknown == "skip" and encoder.tokenizer.unknown_id is not None:
        factors[encoder.tokenizer.unknown_id] = 0.0
    bias = encoder.weight("bias")[None] if encoder.config.bias else np.zeros((0, rows.shape[1]), np.float32)
    if scale is None:
        rows = np.concatenate([encoder.weight("embeddings") * factors[:, None], bias]).astype(np.float32)
        tensors, added = {"embedding.weight": rows}, len(bias)
    else:
        bias_rows, bias_scale = _in_int8(bias)
        factors = np.concatenate([factors * scale, bias_scale]).astype(np.float32)
        tensors = {"embeddings": np.concatenate([rows, bias_rows]), _FACTORS: factors}
        added = len(bias_rows)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    spec = _with_tokens_before(encoder.tokenizer.spec, range(first, first + added))
    (folder / "tokenizer.json").write_text(spec, encoding="utf-8")


def _in_int8(bias: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    # Returns int8 rows and their scales whose sum is the bias: each row is what the rows before it leave.
    rows: list[npt.NDArray[np.int8]] = [np.zeros((0, bias.shape[1]), np.int8)]
    scales = [np.zeros(0, np.float32)]
    for _ in range(3 * len(bias)):
        row, scale = quantized_rows(bias)
        rows.append(row)
        scales.append(scale)
        bias = bias - row * scale[:, None]
    return np.concatenate(rows), np.concatenate(scales)


def _with_tokens_before(spec: str, ids: range) -> str:
    # Adds tokens to a tokenizer.json, and puts each of them before every text.
    if not ids:
        return spec
    config = json.loads(spec)
    # Characters of private use; BERT's normalizer removes them from texts.
    words = [chr(_PRIVATE_USE + i) for i in range(len(ids))]
    config["model"]["vocab"] |= dict(zip(words, ids, strict=True))
    steps = [config["normalizer"]] if config.get("normalizer") else []
    steps.append({"type": "Prepend", "prepend": "".join(f"{word} " for word in words)})
    config["normalizer"] = {"type": "Sequence", "normalizers": steps}
    return json.dumps(config, ensure_ascii=False, separators=(",", ":"))


def static_embedding_as_cse(
    tensors: dict[str, npt.NDArray[Any]],
    spec: str,
    projection: npt.NDArray[np.float32] | None = None,
    *,
    source: Path,
    threads: int | None = None,
) -> CSE:
    """Creates a CSE of words alone from the content of a ``StaticEmbedding``.

    Its vectors are those of the ``StaticEmbedding`` to 1e-5, with two exceptions: a text without a known token has
    the zero vector, and the name of a special token in a text is not that token.

    Args:
        tensors: ``embedding.weight`` (V, d); or, as in model2vec, ``embeddings`` (m, d), and optionally the row of
            each token as ``mapping`` (V,) and the factor of each token as ``weights`` (V,).
        spec: The content of its ``tokenizer.json``.
        projection: A matrix (d, D) that is applied to the mean, or None.
        source: The folder, for messages.
        threads: The number of threads that encode.

    Raises:
        NotStaticError: The tokenizer is of a kind that a CSE does not have.
        CheckpointError: A tensor is missing or has the wrong shape.
    """
    rows = _rows(tensors, source)
    try:
        tokenizer = Tokenizer(spec, skip_unknown=True)
        if tokenizer.unknown_id is not None:
            tokenizer = Tokenizer(spec, skip_unknown=False)
    except CheckpointError as error:
        raise NotStaticError(f"{source}: {error}") from error
    if tokenizer.vocab_size > len(rows):
        raise CheckpointError(
            f"{source} has ids up to {tokenizer.vocab_size - 1} in tokenizer.json, expected ids below the "
            f"number of rows, {len(rows)}"
        )
    config = CSEConfig(
        vocab_size=len(rows), embedding_dim=rows.shape[1], widths=(), max_tokens=_MAX_TOKENS,
        output_dim=None if projection is None else projection.shape[1],
        unknown="skip" if tokenizer.skip_unknown else "row",
    )  # fmt: skip
    weights = {"embeddings": rows, "token_weights": np.zeros(len(rows), np.float32)}
    if projection is not None:
        weights["projection"] = projection
    return CSE(config, weights, tokenizer, tables="float32", threads=threads)


def _rows(tensors: dict[str, npt.NDArray[Any]], source: Path) -> npt.NDArray[np.float32]:
    if "embedding.weight" in tensors:
        rows = tensors["embedding.weight"].astype(np.float32)
    elif "embeddings" in tensors:
        rows = tensors["embeddings"].astype(np.float32)
        if (mapping := tensors.get("mapping")) is not None:
            rows = rows[mapping.astype(np.int64)]
        if (factors := tensors.get(_FACTORS)) is not None:
            rows = rows * factors.astype(np.float32)[:, None]
    else:
        raise CheckpointError(
            f"{source} has the weights {', '.join(sorted(tensors)) or 'none'}, "
            "expected embedding.weight or embeddings"
        )
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise CheckpointError(f"{source} has embeddings of shape {rows.shape}, expected finite rows (V, d)")
    return np.ascontiguousarray(rows, np.float32)
