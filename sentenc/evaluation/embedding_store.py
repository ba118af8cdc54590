"""Texts to vectors for the harness: anything that encodes, each text once, kept on disk if asked."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.io.atomic import replacing_file
from sentenc.io.progress import Bar

Features = npt.NDArray[np.float32]
# Texts that are encoded between two moves of the progress bar, and blocks that make a file.
_BLOCK = 2048
_BLOCKS_PER_FILE = 8


class Embedder(Protocol):
    """What the harness needs of an encoder.

    Attributes:
        name: For tables and file names.
        fingerprint: Changes when the vectors do; None when nobody can tell.
        settings: Everything besides the fingerprint that the vectors depend on.
    """

    name: str
    fingerprint: str | None
    settings: dict[str, Any]

    def encode(self, texts: list[str]) -> Features:
        """Returns shape (n, dim), float32."""


class _EncoderEmbedder:
    def __init__(
        self, encoder: Encoder, name: str | None, batch_size: int, normalize: bool, truncate: int | None
    ) -> None:
        self.name = name or str(getattr(encoder, "name", None) or type(encoder).__name__)
        self.fingerprint: str | None = encoder.fingerprint()
        self.settings: dict[str, Any] = {"normalize_embeddings": normalize, "truncate_dim": truncate}
        self._encoder = encoder
        self._batch_size = batch_size

    def encode(self, texts: list[str]) -> Features:
        # A text that is cut is the encoder's limit, not the user's mistake: nothing to warn of here.
        vectors: Features = self._encoder.encode(
            texts, batch_size=self._batch_size, on_overflow="ignore", **self.settings
        )
        return vectors


class _FunctionEmbedder:
    def __init__(self, function: Callable[[list[str]], Any], name: str | None) -> None:
        self.name = name or str(getattr(function, "__name__", None) or type(function).__name__)
        self.fingerprint: str | None = None
        self.settings: dict[str, Any] = {}
        self._function = function

    def encode(self, texts: list[str]) -> Features:
        return np.asarray(self._function(texts), np.float32)


def as_embedder(
    encoder: Any,
    *,
    name: str | None = None,
    batch_size: int = 64,
    normalize_embeddings: bool = False,
    truncate_dim: int | None = None,
) -> Embedder:
    """Adapts an :class:`~sentenc.Encoder`, a sentence-transformers model or a plain function.

    Raises:
        TypeError: It is none of these.
        ValueError: ``normalize_embeddings`` or ``truncate_dim`` was asked of a plain function.
    """
    # By name, so that judging anything else does not import torch.
    if any(kind.__name__ == "SentenceTransformer" for kind in type(encoder).__mro__):
        from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder

        encoder = SentenceTransformerEncoder(encoder, name)
    if isinstance(encoder, Encoder):
        return _EncoderEmbedder(encoder, name, batch_size, normalize_embeddings, truncate_dim)
    if not callable(encoder):
        kind = type(encoder).__name__
        raise TypeError(
            f"encoder is {kind}, expected an Encoder, a SentenceTransformer or a function of a list of str"
        )
    if normalize_embeddings or truncate_dim is not None:
        raise ValueError(
            "normalize_embeddings and truncate_dim need an encoder; a function returns what it returns"
        )
    return _FunctionEmbedder(encoder, name)


class EmbeddingStore:
    """Encodes each distinct text once, in this run and, with a folder, in all runs.

    On disk there is one folder per fingerprint and settings, with one file per batch of new texts: a
    structured array of 16-byte text digests and float32 vectors, written whole or not at all.

    Args:
        embedder: What encodes.
        folder: Where to keep vectors; None keeps them in memory only. A plain function has no
            fingerprint, so its vectors are never kept on disk.
    """

    def __init__(self, embedder: Embedder, folder: str | os.PathLike[str] | None = None) -> None:
        self._embedder = embedder
        self._folder: Path | None = None
        self._row: dict[bytes, tuple[int, int]] = {}
        self._blocks: list[Features] = []
        if folder is not None and embedder.fingerprint is not None:
            key = json.dumps([embedder.fingerprint, embedder.settings], sort_keys=True)
            self._folder = Path(folder, hashlib.sha256(key.encode()).hexdigest()[:32])
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(self._folder.glob("*.npy")):
                self._load(path)

    def count_missing(self, texts: Sequence[str]) -> int:
        """How many distinct texts would have to be encoded."""
        return len({key for key in map(_digest, texts) if key not in self._row})

    def vectors(self, texts: Sequence[str], bar: Bar | None = None) -> Features:
        """Returns the vectors of ``texts``, shape (n, dim), float32.

        Args:
            texts: One or more texts.
            bar: Moved by one for every text that is encoded.

        Raises:
            ValueError: The encoder returned another shape, or NaN or infinity; with the text.
        """
        keys = [_digest(text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._row}
        self._encode(list(missing), list(missing.values()), bar)
        at = [self._row[key] for key in keys]
        out = np.empty((len(at), self._blocks[0].shape[1]), np.float32)
        blocks = np.array([block for block, _ in at])
        rows = np.array([row for _, row in at])
        for block in np.unique(blocks):
            out[blocks == block] = self._blocks[block][rows[blocks == block]]
        return out

    def _encode(self, keys: list[bytes], texts: list[str], bar: Bar | None) -> None:
        # A file now and then, so that an interrupted run of a slow encoder loses little.
        for first in range(0, len(texts), _BLOCK * _BLOCKS_PER_FILE):
            last = min(first + _BLOCK * _BLOCKS_PER_FILE, len(texts))
            pieces = []
            for start in range(first, last, _BLOCK):
                block = texts[start : min(start + _BLOCK, last)]
                pieces.append(_checked(self._embedder.encode(block), block, self._embedder.name))
                if bar is not None:
                    bar.update(len(block))
            vectors = np.concatenate(pieces)
            if self._folder is not None:
                _write(self._folder, keys[first:last], vectors)
            self._add(keys[first:last], vectors)

    def _add(self, keys: Sequence[bytes], vectors: Features) -> None:
        self._row.update((key, (len(self._blocks), row)) for row, key in enumerate(keys))
        self._blocks.append(vectors)

    def _load(self, path: Path) -> None:
        try:
            records = np.load(path, mmap_mode="r", allow_pickle=False)
            keys = records["key"].tobytes()
            self._add([keys[at : at + 16] for at in range(0, len(keys), 16)], records["vector"])
        except (OSError, ValueError, IndexError) as error:
            warnings.warn(f"{path}: not a readable embedding cache ({error}); encoding again", stacklevel=2)


def _digest(text: str) -> bytes:
    # surrogatepass: a lone surrogate is a legal str, if not legal UTF-8.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _checked(vectors: Features, texts: list[str], name: str) -> Features:
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise ValueError(
            f"{name} returned shape {vectors.shape} for {len(texts)} texts, expected ({len(texts)}, dim)"
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise ValueError(
            f"{name} returned NaN or infinity for {len(bad)} texts, the first being {texts[bad[0]]!r}"
        )
    return vectors


def _write(folder: Path, keys: Sequence[bytes], vectors: Features) -> None:
    records = np.empty(len(keys), [("key", "V16"), ("vector", "<f4", vectors.shape[1:])])
    records["key"] = np.frombuffer(b"".join(keys), "V16")
    records["vector"] = vectors
    name = hashlib.blake2b(b"".join(keys), digest_size=16).hexdigest()
    with replacing_file(folder / f"{name}.npy") as staging, open(staging, "wb") as file:
        np.save(file, records, allow_pickle=False)
