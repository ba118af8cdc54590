"""An on-disk cache of vectors, keyed by text: a slow encoder computes each distinct text once.

Training caches a teacher's unit vectors, task distillation caches logits, and evaluation caches the vectors
of the encoder that it measures.
"""

import json
import os
import re
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sentenc.errors import CacheError, MissingVectorError
from sentenc.io.atomic import create_text, replacing_file
from sentenc.io.disk_full import save_array
from sentenc.io.progress import Bar
from sentenc.key_index import KeyIndex

# The vectors (n, dim) of n texts, or parts of them: positions of m texts and their vectors (m, dim).
EncodedTexts = npt.NDArray[Any] | Iterator[tuple[Sequence[int], npt.NDArray[Any]]]
EncodeTexts = Callable[[list[str]], EncodedTexts]

# A killed run loses the vectors of at most one shard, and one that ends with an exception those of one call.
_TEXTS_PER_SHARD = 8192
# The texts that are encoded between two updates of the progress bar.
_TEXTS_PER_CALL = 1024
_KEY_BYTES = 16
_MANIFEST = "cache.json"
_VECTOR_FILE = re.compile(r"vectors-[0-9a-f]{32}\.npy")


class EmbeddingCache:
    """A growing set of vectors by one encoder, each stored under a digest of its text.

    The folder contains ``cache.json`` with the encoder's fingerprint, and a pair of files for each shard of
    up to 8,192 texts: ``vectors-ID.npy`` (n, dim), and ``keys-ID.npy`` (n, 16) uint8 with the BLAKE2b digest
    of each text in UTF-8. ID is a digest of the keys. Every file is written atomically, and a shard's vectors
    are written last: a shard without vectors does not count. Several processes may therefore fill a cache at
    the same time; each sees the shards that were there when it opened the folder, and its own.

    Vectors in the folder are mapped into memory, not read.

    Args:
        folder: The cache's folder, created if necessary. None keeps the vectors in memory only.
        fingerprint: Identifies the encoder and every setting that its vectors depend on. None opens a folder
            for reading, whichever encoder filled it.
        dtype: The type in which the vectors are stored, "float16" or "float32".
        shards: The shards to open, as :meth:`shard_names` returned them. None opens all. A shard never changes, so
            a reader can keep to the vectors that it began with while other processes add some.
        on_damage: "raise" an error for a shard that cannot be read, or "skip" it with a warning. The texts of
            a skipped shard have no vectors until they are computed again.

    Attributes:
        dim: Length of the vectors; None while there are none.

    Raises:
        CacheError: The folder was filled by another encoder, or one of its files is damaged.
    """

    def __init__(
        self,
        folder: str | Path | None,
        fingerprint: str | None = None,
        *,
        dtype: Literal["float16", "float32"] = "float32",
        shards: Collection[str] | None = None,
        on_damage: Literal["raise", "skip"] = "raise",
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.dim: int | None = None
        self._fingerprint = fingerprint
        self._dtype = np.dtype(dtype)
        self._on_damage = on_damage
        self._index = KeyIndex()
        self._shards: list[npt.NDArray[Any]] = []
        self._names: list[str] = []
        # The row at which each shard begins, and the number of all rows.
        self._bounds = [0]
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._open_folder(self.folder, shards)

    def __len__(self) -> int:
        """The number of texts that have a vector."""
        return len(self._index)

    def shard_names(self) -> list[str]:
        """Returns the names of the files with vectors that the cache has opened or written, in alphabetical order."""
        return sorted(self._names)

    def stored_fingerprint(self) -> str | None:
        """Returns the fingerprint of the encoder that filled the folder; None if nothing has been stored.

        Raises:
            CacheError: The file with the fingerprint is damaged.
        """
        if self.folder is None or not (self.folder / _MANIFEST).exists():
            return None
        return _read_fingerprint(self.folder / _MANIFEST)

    def has(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Returns for each of n texts whether it has a vector: (n,) bool."""
        return self._index.find(_keys(texts)) >= 0

    def lookup(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns the vectors of n texts: (n, dim) float32, as precise as they are stored.

        Raises:
            MissingVectorError: A text has no vector; the message quotes the first such text.
        """
        rows = self._index.find(_keys(texts))
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            raise MissingVectorError(
                f"{self.folder or 'the cache'} lacks the vectors of {len(missing)} of {len(texts)} texts, "
                f"first texts[{missing[0]}] = {_quoted(texts[missing[0]])}: fill the cache with them, or "
                "leave them out"
            )
        vectors = np.empty((len(texts), self.dim or 0), np.float32)
        order = np.argsort(rows)
        limits = np.searchsorted(rows[order], self._bounds)
        for shard, begin, a, b in zip(self._shards, self._bounds, limits, limits[1:], strict=False):
            if a < b:
                places = order[a:b]
                vectors[places] = shard[rows[places] - begin]
        return vectors

    def fill(
        self,
        texts: Iterable[str],
        encode: EncodeTexts,
        *,
        max_minutes: float | None = None,
        bar: Bar | None = None,
        source: str = "the encoder",
    ) -> int:
        """Computes the vectors of those texts that have none yet, and stores them shard by shard.

        A call that was stopped is resumed by the same call: at most one shard is computed again after a
        crash, and at most 1,024 texts after an exception. Within a shard the texts are encoded in order of
        their length, so that batches need little padding.

        Args:
            texts: Any number of texts, read as a stream. Repeated texts are computed once.
            encode: Returns the vectors (n, dim) of up to 1,024 texts, or yields parts of them: the positions
                of m texts and their vectors (m, dim). Parts that were yielded before an exception are stored.
            max_minutes: Stop after the shard during which this time runs out. None for no limit.
            bar: Advanced by one for each text, whether it is computed or not.
            source: The name of the encoder in error messages.

        Returns:
            The number of vectors that were added.

        Raises:
            TypeError: ``texts`` is a single str.
            ValueError: The cache was opened without a fingerprint, or the encoder returned an array of
                another shape or a value that is not finite.
            CacheError: Another encoder has begun to fill the folder since it was opened.
        """
        self._check_writable()
        if isinstance(texts, str):
            raise TypeError("texts is str, expected an iterable of str")
        deadline = time.monotonic() + (np.inf if max_minutes is None else 60 * max_minutes)
        size_before = len(self)
        pending: dict[bytes, str] = {}
        for block in _blocks(iter(texts), _TEXTS_PER_CALL):
            keys = _keys(block)
            new = {bytes(keys[i]): block[i] for i in np.flatnonzero(self._index.find(keys) < 0)}
            _advance(bar, len(block) - len(new.keys() - pending.keys()))
            pending.update(new)
            while len(pending) >= _TEXTS_PER_SHARD:
                self._add_shard(dict(islice(pending.items(), _TEXTS_PER_SHARD)), encode, bar, source)
                pending = dict(islice(pending.items(), _TEXTS_PER_SHARD, None))
                if time.monotonic() >= deadline:
                    return len(self) - size_before
        if pending:
            self._add_shard(pending, encode, bar, source)
        return len(self) - size_before

    def add(self, texts: list[str], vectors: npt.NDArray[Any], *, source: str = "the encoder") -> int:
        """Stores the vectors (n, dim) of those of n texts that have none yet, as one shard.

        Returns:
            The number of vectors that were added. Of equal texts, the first one counts.

        Raises:
            ValueError: The cache was opened without a fingerprint, or the array has another shape or a value
                that is not finite.
            CacheError: Another encoder has begun to fill the folder since it was opened.
        """
        self._check_writable()
        checked = _checked(vectors, texts, self.dim, source)
        keys = _keys(texts)
        unknown = np.flatnonzero(self._index.find(keys) < 0)
        _, firsts = np.unique(keys[unknown], axis=0, return_index=True)
        new = unknown[np.sort(firsts)]
        if len(new):
            self.dim = checked.shape[1]
            self._store(keys[new].tobytes(), checked[new].astype(self._dtype))
        return len(new)

    def _check_writable(self) -> None:
        if self.folder is None:
            return
        if self._fingerprint is None:
            raise ValueError(
                f"{self.folder} was opened for reading: pass the encoder's fingerprint to fill it"
            )
        if (self.folder / _MANIFEST).exists():
            self._check_manifest(self.folder / _MANIFEST, self._fingerprint)

    def _add_shard(self, texts: dict[bytes, str], encode: EncodeTexts, bar: Bar | None, source: str) -> None:
        items = sorted(texts.items(), key=lambda item: len(item[1]))
        # Keys and vectors are one item: an exception between them must not separate them.
        parts: list[tuple[bytes, npt.NDArray[Any]]] = []
        try:
            for start in range(0, len(items), _TEXTS_PER_CALL):
                call = items[start : start + _TEXTS_PER_CALL]
                for rows, vectors in _parts(encode([text for _, text in call]), len(call)):
                    part = [call[row][1] for row in rows]
                    checked = _checked(vectors, part, self.dim, source).astype(self._dtype)
                    parts.append((b"".join([call[row][0] for row in rows]), checked))
                    self.dim = checked.shape[1]
                    _advance(bar, len(part))
        finally:
            # If the encoder fails or the user stops it, what it has computed so far is kept.
            if parts:
                keys, vectors_of_parts = zip(*parts, strict=True)
                self._store(b"".join(keys), np.concatenate(vectors_of_parts))

    def _store(self, joined_keys: bytes, vectors: npt.NDArray[Any]) -> None:
        keys = np.frombuffer(joined_keys, np.uint8).reshape(-1, _KEY_BYTES)
        if self.folder is None:
            self._insert(keys, vectors)
            return
        self._claim(self.folder)
        path = self.folder / f"vectors-{blake2b(keys.tobytes(), digest_size=_KEY_BYTES).hexdigest()}.npy"
        for target, array in ((_key_file(path), keys), (path, vectors)):
            with replacing_file(target) as temporary, open(temporary, "wb") as file:
                save_array(file, array)
        self._insert(*self._read_shard(path))
        self._names.append(path.name)

    def _insert(self, keys: npt.NDArray[np.uint8], vectors: npt.NDArray[Any]) -> None:
        self._index.add(keys, self._bounds[-1])
        self._shards.append(vectors)
        self._bounds.append(self._bounds[-1] + len(vectors))

    def _open_folder(self, folder: Path, shards: Collection[str] | None) -> None:
        names = os.listdir(folder) if shards is None else shards
        paths = sorted(folder / name for name in names if _VECTOR_FILE.fullmatch(name))
        if self._fingerprint is not None and (paths or (folder / _MANIFEST).exists()):
            self._check_manifest(folder / _MANIFEST, self._fingerprint)
        keys = []
        for path in paths:
            try:
                shard_keys, vectors = self._read_shard(path)
            except CacheError as error:
                if self._on_damage == "raise":
                    raise
                warnings.warn(f"{error}; the vectors in it are computed again when needed", stacklevel=4)
                continue
            keys.append(shard_keys)
            self._names.append(path.name)
            self._shards.append(vectors)
            self._bounds.append(self._bounds[-1] + len(vectors))
        if keys:
            self._index.add(np.concatenate(keys), 0)

    def _check_manifest(self, path: Path, fingerprint: str) -> None:
        stored = _read_fingerprint(path)
        if stored != fingerprint:
            raise CacheError(
                f"{path.parent} contains the vectors of another encoder: its fingerprint is {stored}, "
                f"expected {fingerprint}. Choose another folder, or delete this one"
            )

    def _claim(self, folder: Path) -> None:
        # Of several encoders that opened an empty folder, the first one to store vectors owns it.
        path = folder / _MANIFEST
        if not path.exists():
            create_text(path, json.dumps({"fingerprint": self._fingerprint, "dim": self.dim}) + "\n")
        self._check_manifest(path, str(self._fingerprint))

    def _read_shard(self, path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
        # Returns the keys (n, 16), and the vectors (n, dim) mapped into memory.
        key_path = _key_file(path)
        try:
            vectors, keys = np.load(path, mmap_mode="r"), np.load(key_path)
        except (OSError, ValueError, EOFError) as error:
            raise CacheError(f"{path} or {key_path.name} cannot be read: {error}") from error
        dim = vectors.shape[-1] if self.dim is None else self.dim
        expected = ((len(keys), dim), self._dtype, (len(vectors), _KEY_BYTES), np.uint8)
        if (vectors.shape, vectors.dtype, keys.shape, keys.dtype) != expected:
            raise CacheError(
                f"{path} is {vectors.shape} {vectors.dtype} and {key_path.name} is {keys.shape} "
                f"{keys.dtype}, expected (n, {dim}) {self._dtype} and (n, {_KEY_BYTES}) uint8"
            )
        self.dim = dim
        return keys, np.asarray(vectors)


def _parts(result: EncodedTexts, n_texts: int) -> Iterator[tuple[Sequence[int], npt.NDArray[Any]]]:
    # The positions and the vectors of each part of a result, which often has only one.
    if isinstance(result, Iterator):
        yield from result
    else:
        yield range(n_texts), np.asarray(result)


def _read_fingerprint(path: Path) -> str:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
    except FileNotFoundError as error:
        raise CacheError(
            f"{path} is missing, so the encoder of the vectors in the folder is unknown: delete the folder"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CacheError(
            f"{path} is damaged, expected JSON with a fingerprint ({error!r}): delete the folder"
        ) from error
    return str(stored)


def _checked(vectors: npt.NDArray[Any], texts: list[str], dim: int | None, source: str) -> npt.NDArray[Any]:
    if vectors.ndim != 2 or len(vectors) != len(texts) or dim not in (None, vectors.shape[1]):
        raise ValueError(
            f"{source} returned shape {vectors.shape} for {len(texts)} texts, expected "
            f"({len(texts)}, {dim or 'dim'})"
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{source} returned NaN or infinity for {len(bad)} of {len(texts)} texts, first "
            f"{_quoted(texts[bad[0]])}"
        )
    return vectors


def _keys(texts: Sequence[str]) -> npt.NDArray[np.uint8]:
    # A lone surrogate is a legal str but not legal UTF-8; it gets the bytes that it would have.
    digests = [
        blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest() for text in texts
    ]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, _KEY_BYTES)


def _key_file(path: Path) -> Path:
    return path.with_name(path.name.replace("vectors", "keys"))


def _blocks(texts: Iterator[str], size: int) -> Iterator[list[str]]:
    while block := list(islice(texts, size)):
        yield block


def _advance(bar: Bar | None, steps: int) -> None:
    if bar is not None:
        bar.update(steps)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
