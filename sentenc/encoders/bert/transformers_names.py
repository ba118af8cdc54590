"""The names that transformers has for the settings and weights of models that compute like a BERT.

A DistilBERT (Sanh et al., 2019) is a BERT without token types. An MPNet (Song et al., NeurIPS 2020) has none either, but a
bias for each distance of two tokens. sentenc names the weights of all as ``transformers.BertModel`` does.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.bert.config import DISTANCE_GROUPS, TOKEN_TYPES, BertConfig

_POSITIONS = "embeddings.position_embeddings.weight"
# The positions of an MPNet begin after that of its padding, which is 1. No word has the rows before.
_MPNET_OFFSET = 2
# A DistilBERT gets as many token types as a BERT, whose embeddings are zero, so that pairs can be classified.
_TYPES = 2
# Parts of names, and their counterparts in a BERT.
_WEIGHTS = {
    # The original names of BERT's layer norms.
    "bert": {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
    "distilbert": {
        "transformer.layer.": "encoder.layer.",
        ".attention.q_lin.": ".attention.self.query.",
        ".attention.k_lin.": ".attention.self.key.",
        ".attention.v_lin.": ".attention.self.value.",
        ".attention.out_lin.": ".attention.output.dense.",
        ".sa_layer_norm.": ".attention.output.LayerNorm.",
        ".ffn.lin1.": ".intermediate.dense.",
        ".ffn.lin2.": ".output.dense.",
        ".output_layer_norm.": ".output.LayerNorm.",
    },
    "mpnet": {
        ".attention.attn.q.": ".attention.self.query.",
        ".attention.attn.k.": ".attention.self.key.",
        ".attention.attn.v.": ".attention.self.value.",
        ".attention.attn.o.": ".attention.output.dense.",
        ".attention.LayerNorm.": ".attention.output.LayerNorm.",
    },
}
_DISTILBERT_SETTINGS = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
}
# Weights that are not part of the encoder: heads of pretraining, and TinyBERT's projection of hidden states.
_HEADS = (
    "pooler.", "cls.", "classifier.", "fit_dense", "qa_outputs.", "embeddings.position_ids", "lm_head.",
    "vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "pre_classifier.",
)  # fmt: skip
MODEL_TYPES = tuple(_WEIGHTS)


def bert_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the ``config.json`` of a model with the names and values of :class:`BertConfig`.

    Args:
        config: The content of the file. Published TinyBERT checkpoints have no ``model_type``.
    """
    values, kind = dict(config), config.get("model_type", "bert")
    if kind == "distilbert":
        values |= {ours: config[theirs] for ours, theirs in _DISTILBERT_SETTINGS.items() if theirs in config}
        # transformers has this number in its code.
        values |= {"type_vocab_size": _TYPES, "layer_norm_eps": 1e-12}
    if kind == "mpnet":
        values |= {
            "max_position_embeddings": config.get("max_position_embeddings", 512) - _MPNET_OFFSET,
            "type_vocab_size": 0,
        }
    return values | {"model_type": "mpnet" if kind == "mpnet" else "bert"}


def bert_weights(tensors: Mapping[str, npt.NDArray[Any]], kind: str) -> dict[str, npt.NDArray[Any]]:
    """Returns the weights of a model, without its heads, with the names of a BERT.

    Args:
        tensors: The weights by name, of the model alone or of one with a head.
        kind: Its ``model_type``.
    """
    prefix = f"{kind}." if any(name.startswith(f"{kind}.") for name in tensors) else ""
    weights = {}
    for name, value in tensors.items():
        inner = name.removeprefix(prefix)
        if not name.startswith(prefix) or inner.startswith(_HEADS):
            continue
        for old, new in _WEIGHTS[kind].items():
            inner = inner.replace(old, new)
        weights[inner] = value
    if kind == "mpnet" and _POSITIONS in weights:
        weights[_POSITIONS] = weights[_POSITIONS][_MPNET_OFFSET:]
    if kind == "distilbert" and _POSITIONS in weights:
        weights[TOKEN_TYPES] = np.zeros((_TYPES, weights[_POSITIONS].shape[1]), np.float32)
    return weights


def transformers_weights(
    weights: Mapping[str, npt.NDArray[np.float32]], config: BertConfig
) -> dict[str, npt.NDArray[np.float32]]:
    """Returns weights with the names of ``transformers.BertModel`` or ``MPNetModel``, whichever ``config`` is.

    Args:
        weights: Weights of ``config.shapes()``.
        config: The model's shape.
    """
    if not config.is_mpnet:
        return dict(weights)
    renamed = {}
    for name, value in weights.items():
        for theirs, ours in _WEIGHTS["mpnet"].items():
            name = name.replace(ours, theirs)
        renamed[name] = value
    # The padding has the second of the added rows, and attention leaves it out.
    renamed[_POSITIONS] = np.concatenate(
        [np.zeros((_MPNET_OFFSET, config.hidden_size), np.float32), renamed[_POSITIONS]]
    )
    return renamed


def transformers_settings(config: BertConfig) -> dict[str, Any]:
    """Returns the architecture and shape of a model as in the ``config.json`` of transformers."""
    names = [
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
        "hidden_act", "max_position_embeddings", "type_vocab_size", "layer_norm_eps",
    ]  # fmt: skip
    values = {name: getattr(config, name) for name in names}
    if not config.is_mpnet:
        return {"architectures": ["BertModel"], "model_type": "bert", **values}
    del values["type_vocab_size"]
    values["max_position_embeddings"] += _MPNET_OFFSET
    values["relative_attention_num_buckets"] = DISTANCE_GROUPS
    return {"architectures": ["MPNetModel"], "model_type": "mpnet", **values}
