"""Writes a BERT sentence encoder as a folder that transformers and sentence-transformers can read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.bert.config import LINEAR, BertConfig, Pooling
from sentenc.encoders.bert.reading import COMPUTE, METADATA, MODULES, PROMPTS, SAFETENSORS, SETTINGS
from sentenc.encoders.bert.tokenizer_files import special_tokens, write_json, write_tokenizer
from sentenc.encoders.bert.transformers_names import transformers_settings, transformers_weights
from sentenc.encoders.roles import stated_prompts
from sentenc.tokenization.tokenizer import Tokenizer

_ALL_POOLING_MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
_POOLING_MODES = {"mean": "mean_tokens", "cls": "cls_token"}


def write_bert_folder(
    folder: Path,
    config: BertConfig,
    weights: Mapping[str, npt.NDArray[np.float32]],
    tokenizer: Tokenizer,
    *,
    compute: str = "float32",
    metadata: Mapping[str, Any] | None = None,
    card: str | None = None,
) -> None:
    """Writes the files of a model folder.

    All versions of sentence-transformers can read them, and so can servers that parse the files themselves.

    Args:
        folder: An existing, empty folder.
        config: The model's shape.
        weights: Every weight of ``config.shapes()``.
        tokenizer: The tokenizer. The written files put special tokens around texts.
        compute: The type in which sentenc multiplies matrices. Other libraries ignore it.
        metadata: Name, sources, scores and prompts, if there are any.
        card: The content of ``README.md``, if there is any.
    """
    transformer = {name: value for name, value in weights.items() if name != LINEAR}
    _save(transformers_weights(transformer, config), folder / SAFETENSORS)
    write_json(folder / "config.json", transformers_config(config, tokenizer) | _compute_entry(compute))
    write_tokenizer(folder, tokenizer, config.max_tokens, config.model_type)
    write_modules(
        folder,
        config.hidden_size,
        config.max_tokens,
        config.normalize,
        weights[LINEAR] if config.linear else None,
        config.pooling,
    )
    write_metadata(folder, metadata or {})
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")


def write_modules(
    folder: Path,
    dim: int,
    max_tokens: int,
    normalize: bool,
    linear: npt.NDArray[np.float32] | None,
    pooling: Pooling = "mean",
) -> None:
    """Writes the modules that sentence-transformers applies to hidden states: pooling, unit length, a matrix.

    Args:
        folder: The folder of the transformer.
        dim: The number of components of a vector.
        max_tokens: The number of tokens at which texts are cut, special tokens included.
        normalize: Whether the pooled vector is scaled to unit length.
        linear: A matrix (dim, dim), (out, in), that follows, or None.
        pooling: ``"mean"`` of all hidden states, or ``"cls"``, the first one.
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
    modes = {f"pooling_mode_{mode}": mode == _POOLING_MODES[pooling] for mode in _ALL_POOLING_MODES}
    write_json(folder / paths[1] / "config.json", {"word_embedding_dimension": dim, **modes})
    if linear is not None:
        settings = {
            "in_features": dim, "out_features": dim, "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }  # fmt: skip
        write_json(folder / paths[-1] / "config.json", settings)
        _save({"linear.weight": linear}, folder / paths[-1] / SAFETENSORS)


def write_metadata(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Writes the metadata of a model, if there are any.

    The prompts are stored where sentence-transformers reads them, and everything else in ``metadata.json``.

    Args:
        folder: The folder of the model.
        metadata: Name, sources and scores, and ``prompts`` and ``space`` if there are any.
    """
    if prompts := stated_prompts(metadata):
        settings = {"prompts": dict(prompts), "default_prompt_name": None, "similarity_fn_name": "cosine"}
        write_json(folder / PROMPTS, settings)
    if rest := {key: value for key, value in metadata.items() if key != "prompts"}:
        write_json(folder / METADATA, rest)


def transformers_config(config: BertConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """Returns the ``config.json`` of a ``transformers.BertModel`` or ``MPNetModel``."""
    return {
        **transformers_settings(config),
        "attention_probs_dropout_prob": 0.1,
        "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "pad_token_id": tokenizer.vocabulary[special_tokens(config.model_type).pad],
        "position_embedding_type": "absolute",
        "torch_dtype": "float32",
    }


def _compute_entry(compute: str) -> dict[str, str]:
    return {} if compute == "float32" else {COMPUTE: compute}


def _save(weights: Mapping[str, npt.NDArray[np.float32]], path: Path) -> None:
    from safetensors.numpy import save_file

    tensors = {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}
    # transformers refuses a file without this entry.
    save_file(tensors, path, metadata={"format": "pt"})
