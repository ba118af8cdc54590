"""Words alone as a ``StaticEmbedding`` of sentence-transformers.

A CSE of words alone averages rows with a weight for each token: sum_i a_i x_i / sum_i a_i. A ``StaticEmbedding`` is
the mean of rows, (1 / n) sum_i y_i. With y = a x, both have the same direction, so every cosine is the same.
"""

import json
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from sentenc.encoders.cse.encoder import CSE
from sentenc.encoders.cse.tables import quantized_rows

# The factors of rows in the files of model2vec and sentence-transformers.
_FACTORS = "weights"
_PRIVATE_USE = 0xE000


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
