"""Writes a BERT sentence encoder as the folder that transformers and sentence-transformers read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.bert.config import LINEAR, BertConfig
from sentenc.encoders.bert.reading import COMPUTE, MODULES, SAFETENSORS, SETTINGS
from sentenc.encoders.bert.tokenizer_files import PAD, write_json, write_tokenizer
from sentenc.tokenization.tokenizer import Tokenizer

_POOLING_MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")


def write_bert_folder(
    folder: Path,
    config: BertConfig,
    weights: Mapping[str, npt.NDArray[np.float32]],
    tokenizer: Tokenizer,
    *,
    compute: str = "float32",
    metadata: dict[str, Any] | None = None,
    card: str | None = None,
) -> None:
    """Fills an empty folder.

    The spelling is the one that every version of sentence-transformers reads, and servers that parse
    these files themselves.

    Args:
        folder: It exists.
        config: The model's shape.
        weights: Every weight of ``config.shapes()``.
        tokenizer: Special tokens are put around texts again.
        compute: Kept for whoever loads the folder with sentenc; others take no notice.
        metadata: For ``metadata.json``, if there is any.
        card: For ``README.md``.
    """
    _save({name: value for name, value in weights.items() if name != LINEAR}, folder / SAFETENSORS)
    write_json(folder / "config.json", transformers_config(config, tokenizer) | _stated(compute))
    write_tokenizer(folder, tokenizer, config.max_tokens)
    write_modules(
        folder,
        config.hidden_size,
        config.max_tokens,
        config.normalize,
        weights[LINEAR] if config.linear else None,
    )
    if metadata:
        write_json(folder / "metadata.json", metadata)
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")


def write_modules(
    folder: Path, dim: int, max_tokens: int, normalize: bool, linear: npt.NDArray[np.float32] | None
) -> None:
    """Writes what sentence-transformers does with a transformer's hidden states: mean, unit length, a matrix.

    Args:
        folder: The transformer's.
        dim: Length of the vectors.
        max_tokens: Where texts are cut, special tokens included.
        normalize: Whether the mean is scaled to unit length.
        linear: A matrix (dim, dim), (out, in), that comes after that, or None.
    """
    write_json(folder / SETTINGS, {"max_seq_length": max_tokens, "do_lower_case": False})
    kinds = ["Transformer", "Pooling"]
    kinds += ["Normalize"] * normalize + ["Dense"] * (linear is not None)
    paths = [f"{index}_{kind}" if index else "" for index, kind in enumerate(kinds)]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    write_json(folder / MODULES, modules)
    for path in paths[1:]:
        (folder / path).mkdir()
    modes = {f"pooling_mode_{mode}": mode == "mean_tokens" for mode in _POOLING_MODES}
    write_json(folder / paths[1] / "config.json", {"word_embedding_dimension": dim, **modes})
    if linear is not None:
        settings = {
            "in_features": dim, "out_features": dim, "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }  # fmt: skip
        write_json(folder / paths[-1] / "config.json", settings)
        _save({"linear.weight": linear}, folder / paths[-1] / SAFETENSORS)


def transformers_config(config: BertConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """The ``config.json`` of a ``transformers.BertModel``."""
    shape = {
        name: getattr(config, name)
        for name in (
            "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
            "hidden_act", "max_position_embeddings", "type_vocab_size", "layer_norm_eps",
        )
    }  # fmt: skip
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        **shape,
        "attention_probs_dropout_prob": 0.1,
        "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "pad_token_id": tokenizer.vocabulary[PAD],
        "position_embedding_type": "absolute",
        "torch_dtype": "float32",
    }


def _stated(compute: str) -> dict[str, str]:
    return {} if compute == "float32" else {COMPUTE: compute}


def _save(weights: Mapping[str, npt.NDArray[np.float32]], path: Path) -> None:
    from safetensors.numpy import save_file

    tensors = {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}
    # transformers refuses a file that does not say so.
    save_file(tensors, path, metadata={"format": "pt"})
