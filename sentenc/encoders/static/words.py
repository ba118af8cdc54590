"""Reads the word models of sentence-transformers: ``WordEmbeddings`` before ``Pooling``, and ``BoW``."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from sentenc.encoders.bert.tokenizer_files import read_json
from sentenc.encoders.router import Modules, module_kind
from sentenc.encoders.static.config import StaticConfig
from sentenc.encoders.static.encoder import StaticEncoder
from sentenc.encoders.static.token_ids import WhitespaceTokenIds
from sentenc.encoders.static.weights import checked_rows, read_tensors
from sentenc.errors import CheckpointError, NotStaticError

_TOKENIZER_CLASS = "WhitespaceTokenizer"
_POOLINGS = {"mean": "mean", "max": "max", "mean_sqrt_len_tokens": "mean_sqrt_len"}


def read_word_embeddings(folder: Path, modules: Modules, threads: int | None) -> StaticEncoder:
    """Reads ``WordEmbeddings`` and ``Pooling``, and optionally ``Normalize``.

    Args:
        folder: The folder of the model.
        modules: Its entries of ``modules.json``.
        threads: The number of threads that encode.

    Raises:
        NotStaticError: A module, the tokenizer or the pooling is of another kind.
        CheckpointError: A file is missing or damaged.
    """
    kinds = [module_kind(module) for module in modules]
    if kinds not in (["WordEmbeddings", "Pooling"], ["WordEmbeddings", "Pooling", "Normalize"]):
        raise NotStaticError(
            f"{folder} has the modules {', '.join(kinds)}, expected WordEmbeddings, Pooling and optionally Normalize"
        )
    own = folder / modules[0]["path"]
    settings = read_json(own / "wordembedding_config.json")
    kind = str(settings.get("tokenizer_class")).rsplit(".", 1)[-1]
    if kind != _TOKENIZER_CLASS:
        raise NotStaticError(
            f"{own} has the tokenizer {kind}, expected a {_TOKENIZER_CLASS}: sentenc has no other one for words"
        )
    rows = read_tensors(own).get("emb_layer.weight")
    if rows is None or rows.ndim != 2:
        raise CheckpointError(f"{own} has no weight emb_layer.weight, expected the rows of words (V, d)")
    try:
        config = StaticConfig(
            vocab_size=len(rows), embedding_dim=rows.shape[1], splitting="whitespace",
            pooling=_POOLINGS[_pooling(folder / modules[1]["path"] / "config.json")],  # type: ignore[arg-type]
            normalize="Normalize" in kinds, max_tokens=settings["max_seq_length"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{own}: wordembedding_config.json: {error}") from error
    weights = {"embeddings": checked_rows(rows.astype(np.float32), own)}
    spec = json.dumps(read_json(own / "whitespacetokenizer_config.json"), ensure_ascii=False)
    return StaticEncoder(config, weights, WhitespaceTokenIds(spec), threads=threads)


def read_bag_of_words(folder: Path, modules: Modules, threads: int | None) -> StaticEncoder:
    """Reads ``BoW``, and optionally ``Normalize``.

    Args:
        folder: The folder of the model.
        modules: Its entries of ``modules.json``.
        threads: The number of threads that encode.

    Raises:
        NotStaticError: A module is of another kind.
        CheckpointError: A file is missing or damaged.
    """
    kinds = [module_kind(module) for module in modules]
    if kinds not in (["BoW"], ["BoW", "Normalize"]):
        raise NotStaticError(
            f"{folder} has the modules {', '.join(kinds)}, expected BoW and optionally Normalize"
        )
    path = folder / modules[0]["path"] / "config.json"
    settings = read_json(path)
    words, stated = settings.get("vocab"), settings.get("word_weights", {})
    if not isinstance(words, list) or not words or not isinstance(stated, dict):
        raise CheckpointError(f"{path} has no vocab or word_weights, expected those of BoW")
    words = list(dict.fromkeys(words))
    default = settings.get("unknown_word_weight", 1)
    try:
        weights = np.array([stated.get(w, stated.get(w.lower(), default)) for w in words], np.float32)
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} has words or weights of another type: {error}") from error
    config = StaticConfig(
        vocab_size=len(words), embedding_dim=len(words), splitting="whitespace", normalize="Normalize" in kinds,
        pooling="count" if settings.get("cumulative_term_frequency", True) else "presence",
    )  # fmt: skip
    spec = json.dumps({"vocab": words, "stop_words": [], "do_lower_case": False}, ensure_ascii=False)
    return StaticEncoder(config, {"weights": weights}, WhitespaceTokenIds(spec), threads=threads)


def _pooling(path: Path) -> str:
    settings: dict[str, Any] = read_json(path)
    # sentence-transformers writes booleans until version 5.3, and names since then.
    named = settings.get("pooling_mode")
    modes = [named] if isinstance(named, str) else list(named or [])
    prefix = "pooling_mode_"
    for name, is_on in settings.items():
        if name.startswith(prefix) and is_on:
            mode = name.removeprefix(prefix)
            modes.append(mode if mode in _POOLINGS else mode.removesuffix("_tokens"))
    if len(modes) != 1 or modes[0] not in _POOLINGS or settings.get("include_prompt") is False:
        raise NotStaticError(
            f"{path} pools by {', '.join(map(str, modes)) or 'nothing'}, expected one of {', '.join(_POOLINGS)}, "
            "with prompts"
        )
    return str(modes[0])
