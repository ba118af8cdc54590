"""Reads the folders of static models: model2vec, and ``StaticEmbedding``, ``WordEmbeddings`` and ``BoW``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.reading import SAFETENSORS, read_metadata
from sentenc.encoders.bert.tokenizer_files import read_json
from sentenc.encoders.cse.encoder import CSE
from sentenc.encoders.router import Modules, module_kind, read_modules
from sentenc.encoders.static.config import UNLIMITED, StaticConfig
from sentenc.encoders.static.conversion import static_as_cse
from sentenc.encoders.static.encoder import StaticEncoder
from sentenc.encoders.static.token_ids import NativeTokenIds, PackageTokenIds
from sentenc.encoders.static.weights import checked_rows, read_rows, read_tensors
from sentenc.encoders.static.words import read_bag_of_words, read_word_embeddings
from sentenc.errors import CheckpointError, NotStaticError

_CONFIG, _TOKENIZER = "config.json", "tokenizer.json"
# The number of tokens at which model2vec cuts texts if its config.json states none.
_MODEL2VEC_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class StaticFolder:
    """The content of a folder with a ``StaticEmbedding`` or a model of model2vec.

    Attributes:
        source: The folder of the weights, for messages.
        weights: The rows, as in :class:`~sentenc.encoders.static.encoder.StaticEncoder`.
        spec: The content of ``tokenizer.json``.
        normalize: Whether vectors are scaled to unit length.
        model2vec: The settings of model2vec, which leaves out unknown words; None for another library.
    """

    source: Path
    weights: dict[str, npt.NDArray[Any]]
    spec: str
    normalize: bool
    model2vec: dict[str, Any] | None

    def encoder(self, threads: int | None) -> StaticEncoder:
        """Returns the encoder.

        Raises:
            CheckpointError: A file is damaged.
            MissingExtraError: The tokenizer needs the package ``tokenizers``, which is not installed.
        """
        tokenizer = token_ids_of(self.spec)
        return StaticEncoder(self._config(tokenizer), self.weights, tokenizer, threads=threads)

    def as_cse(self, threads: int | None) -> CSE:
        """Returns a CSE whose vectors have the same directions.

        Raises:
            NotStaticError: The tokenizer is of a kind that a CSE does not have.
            CheckpointError: A file is damaged.
        """
        tokenizer = NativeTokenIds(self.spec)
        config = self._config(tokenizer)
        return static_as_cse(config, self.weights, tokenizer, source=str(self.source), threads=threads)

    def _config(self, tokenizer: NativeTokenIds | PackageTokenIds) -> StaticConfig:
        max_tokens, max_characters = _stated_truncation(self.spec, self.source), None
        if self.model2vec is not None:
            max_tokens = self.model2vec.get("max_length", _MODEL2VEC_TOKENS)
            if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
                raise CheckpointError(
                    f"{self.source / _CONFIG} has max_length {max_tokens!r}, expected a number of tokens or null"
                )
            if max_tokens is not None:
                # Texts are first cut by an estimate of their tokens, as in model2vec.
                median = int(np.median([len(token) for token in tokenizer.vocabulary()]))
                max_characters = max_tokens * median or None
        rows = self.weights["embeddings"]
        return StaticConfig(
            vocab_size=len(rows), embedding_dim=rows.shape[1],
            splitting="native" if isinstance(tokenizer, NativeTokenIds) else "tokenizers",
            normalize=self.normalize, unknown="row" if self.model2vec is None else "skip",
            max_tokens=max_tokens or UNLIMITED, max_characters=max_characters,
        )  # fmt: skip


def token_ids_of(spec: str) -> NativeTokenIds | PackageTokenIds:
    """Returns the native tokenizer if it can compute a ``tokenizer.json``, and otherwise that of ``tokenizers``.

    Raises:
        CheckpointError: The file is damaged.
        MissingExtraError: The package is needed and not installed.
    """
    try:
        return NativeTokenIds(spec)
    except NotStaticError:
        return PackageTokenIds(spec)


def is_model2vec_folder(folder: Path) -> bool:
    """Returns whether a folder contains a model of model2vec without the files of sentence-transformers."""
    paths = [folder / name for name in (_CONFIG, SAFETENSORS, _TOKENIZER)]
    if not all(path.is_file() for path in paths):
        return False
    from safetensors import SafetensorError, safe_open

    try:
        settings = json.loads(paths[0].read_text(encoding="utf-8"))
        with safe_open(paths[1], framework="numpy") as tensors:
            names = set(tensors.keys())
    except (OSError, ValueError, SafetensorError):
        return False
    is_stated = isinstance(settings, dict) and settings.get("model_type", "model2vec") == "model2vec"
    return is_stated and names <= {"embeddings", "mapping", "weights"}


def load_static(folder: Path, *, threads: int | None = None) -> Encoder | None:
    """Loads a static model of model2vec or sentence-transformers.

    A ``StaticEmbedding`` before Normalize and Dense, in this order, becomes a CSE whose vectors have the same
    directions.

    Returns:
        None if the folder contains another model.

    Raises:
        NotStaticError: A module or a file is of a kind that is not supported.
        CheckpointError: A file is missing or damaged.
        MissingExtraError: The tokenizer needs the package ``tokenizers``, which is not installed.
    """
    modules = read_modules(folder)
    kind = module_kind(modules[0]) if modules else None
    encoder: StaticEncoder | CSE
    if not modules and is_model2vec_folder(folder):
        content = read_static_folder(folder, [{"type": "sentence_transformers.StaticEmbedding", "path": ""}])
        encoder = content.encoder(threads)
    elif [module_kind(module) for module in modules] == ["StaticEmbedding", "Normalize", "Dense"]:
        encoder = read_static_folder(folder, [modules[0], modules[2]]).as_cse(threads)
    elif kind == "StaticEmbedding":
        encoder = read_static_folder(folder, modules).encoder(threads)
    elif kind == "WordEmbeddings":
        encoder = read_word_embeddings(folder, modules, threads)
    elif kind == "BoW":
        encoder = read_bag_of_words(folder, modules, threads)
    else:
        return None
    encoder.metadata = read_metadata(folder)
    return encoder


def read_static_folder(folder: Path, modules: Modules) -> StaticFolder:
    """Reads a ``StaticEmbedding``, alone or before Dense and Normalize.

    Args:
        folder: The folder of the model.
        modules: Its entries of ``modules.json``.

    Raises:
        NotStaticError: A module or a file is of another kind.
        CheckpointError: A file is missing or damaged.
    """
    kinds = [module_kind(module) for module in modules]
    if kinds[1:] not in ([], ["Normalize"], ["Dense"], ["Dense", "Normalize"]):
        raise NotStaticError(
            f"{folder} has the modules {', '.join(kinds)}, expected StaticEmbedding and optionally Dense, Normalize"
        )
    own = folder / modules[0]["path"]
    tensors = read_tensors(own)
    is_model2vec = "embeddings" in tensors and (own / _CONFIG).exists()
    settings = read_json(own / _CONFIG) if is_model2vec else None
    weights = read_rows(tensors, own)
    if "Dense" in kinds:
        # The mean of projected rows is the projected mean.
        matrix = _read_dense(folder / modules[1]["path"])
        rows = weights["embeddings"].astype(np.float32)
        if "embeddings.scale" in weights:
            rows *= weights["embeddings.scale"][:, None]
        if matrix.shape[1] != rows.shape[1]:
            raise CheckpointError(
                f"{folder / modules[1]['path']} has a matrix of shape {matrix.shape}, "
                f"expected {rows.shape[1]} columns"
            )
        weights = {"embeddings": checked_rows(rows @ matrix.T, own)}
    normalize = "Normalize" in kinds or bool((settings or {}).get("normalize"))
    return StaticFolder(
        source=own, weights=weights, spec=_read_spec(own), normalize=normalize, model2vec=settings
    )


def _read_spec(folder: Path) -> str:
    path = folder / _TOKENIZER
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _stated_truncation(spec: str, source: Path) -> int | None:
    # The number of tokens at which the tokenizer itself cuts texts, in sentence-transformers.
    stated = json.loads(spec).get("truncation")
    if stated is None:
        return None
    most = stated.get("max_length") if isinstance(stated, dict) else None
    if type(most) is not int or most < 1 or stated.get("direction", "Right") != "Right":
        raise NotStaticError(
            f"{source} has the truncation {stated!r}, expected one that keeps the first tokens"
        )
    return most


def _read_dense(folder: Path) -> npt.NDArray[np.float32]:
    settings = read_json(folder / _CONFIG)
    kind = str(settings.get("activation_function")).rsplit(".", 1)[-1]
    if settings.get("bias", True) or kind != "Identity":
        raise NotStaticError(
            f"{folder / _CONFIG} has bias {settings.get('bias', True)} and activation {kind}, "
            "expected a Dense without either"
        )
    matrix = read_tensors(folder).get("linear.weight")
    if matrix is None or matrix.ndim != 2:
        raise CheckpointError(f"{folder / SAFETENSORS} has no matrix linear.weight, expected that of a Dense")
    return matrix.astype(np.float32)
