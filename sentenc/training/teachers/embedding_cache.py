"""A teacher's vectors of texts, on disk, keyed by text: the slow half of distillation, done once."""

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.errors import CacheError, MissingVectorError
from sentenc.io.atomic import replacing_file
from sentenc.io.progress import Bar, progress_bar

# Texts in a file. A stopped run loses the file it is at, no more.
SHARD = 8192
# Texts between two moves of the progress bar.
_PIECE = 1024
_KEY_BYTES = 16
_VECTORS = re.compile(r"vectors-(\d{5,})\.npy")


class EmbeddingCache:
    """Unit vectors of texts by one teacher, in a folder that grows.

    The folder holds ``vectors-NNNNN.npy`` (n, t) float16 beside ``keys-NNNNN.npy`` (n, 16) uint8, the
    BLAKE2b digest of each text in UTF-8, and ``teacher.json`` with the teacher's fingerprint and t. A
    shard counts once its vectors are there; they are written last. One process may add at a time.

    Args:
        folder: Made if it is not there.
        teacher: Who fills it; None to read only, whoever filled it.

    Raises:
        CacheError: The folder is another teacher's, or a file in it is damaged; the message says which.
    """

    def __init__(self, folder: Path, teacher: Encoder | None) -> None:
        self.folder, self.teacher = Path(folder), teacher
        self._fingerprint = "" if teacher is None else teacher.fingerprint()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.dim: int | None = None if teacher is None else teacher.dim
        self._shards: list[npt.NDArray[Any]] = []
        self._starts = [0]
        # The index: halves of the digests as numbers, sorted by the first, and the row of each.
        self._first = self._second = np.zeros(0, np.uint64)
        self._rows = np.zeros(0, np.int64)
        self._next = 0
        found = sorted(
            (int(match[1]), path)
            for path in self.folder.iterdir()
            if (match := _VECTORS.fullmatch(path.name)) is not None
        )
        self._check_teacher(bool(found))
        keys = [self._open(path) for _, path in found]
        if found:
            self._next = found[-1][0] + 1
            self._insert(np.concatenate(keys), 0)

    def __len__(self) -> int:
        """Texts that have a vector."""
        return len(self._rows)

    def has(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which of n texts have a vector: (n,) bool."""
        return self._find(_keys(texts)) >= 0

    def lookup(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """The vectors of n texts: (n, t) float32, of unit length to float16's precision.

        Raises:
            MissingVectorError: A text has none; the message has the first such.
        """
        rows = self._find(_keys(texts))
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            raise MissingVectorError(
                f"{self.folder} has no vectors of {len(missing)} of {len(texts)} texts, the first of them "
                f"(index {missing[0]}) {_quoted(texts[missing[0]])}: add them first, or keep texts that it has"
            )
        out = np.empty((len(texts), self.dim or 0), np.float32)
        order = np.argsort(rows)
        bounds = np.searchsorted(rows[order], self._starts)
        for shard, start, a, b in zip(self._shards, self._starts, bounds, bounds[1:], strict=False):
            if a < b:
                places = order[a:b]
                out[places] = shard[rows[places] - start]
        return out

    def add(self, texts: Iterable[str], minutes: float | None = None, progress: bool = True) -> int:
        """Computes the vectors of those texts that have none yet, shard by shard.

        Args:
            texts: Any number of texts; repeated ones are computed once.
            minutes: Stop after the shard during which this time runs out; None for no limit.
            progress: Draw a bar of the texts gone through.

        Returns:
            How many vectors were added.

        Raises:
            TypeError: ``texts`` is a single str.
            ValueError: There is no teacher, or it gave a vector that is not finite.
        """
        teacher = self.teacher
        if teacher is None:
            raise ValueError(f"{self.folder} was opened without a teacher, expected one to add vectors")
        if isinstance(texts, str):
            raise TypeError("texts is str, expected an iterable of str")
        ends = time.monotonic() + (np.inf if minutes is None else 60 * minutes)
        before, total = len(self), len(texts) if isinstance(texts, Sized) else None
        pending: dict[bytes, str] = {}
        with progress_bar(total, "teacher vectors", progress) as bar:
            for block in _blocks(iter(texts), _PIECE):
                found = self._find(keys := _keys(block)) >= 0
                new = {bytes(keys[i]): block[i] for i in np.flatnonzero(~found)}
                repeats = len(block) - len(new.keys() - pending.keys())
                bar.update(repeats)
                pending.update(new)
                while len(pending) >= SHARD:
                    self._add_shard(teacher, dict(islice(pending.items(), SHARD)), bar)
                    pending = dict(islice(pending.items(), SHARD, None))
                    if time.monotonic() >= ends:
                        return len(self) - before
            if pending:
                self._add_shard(teacher, pending, bar)
        return len(self) - before

    def _add_shard(self, teacher: Encoder, texts: dict[bytes, str], bar: Bar) -> None:
        # Texts of similar length side by side cost a transformer the least padding.
        items = sorted(texts.items(), key=lambda item: len(item[1]))
        pieces = []
        for start in range(0, len(items), _PIECE):
            piece = [text for _, text in items[start : start + _PIECE]]
            pieces.append(_unit_vectors(teacher, piece))
            bar.update(len(piece))
        keys = np.frombuffer(b"".join(key for key, _ in items), np.uint8).reshape(-1, _KEY_BYTES)
        self._describe(teacher)
        path = self.folder / f"vectors-{self._next:05d}.npy"
        for target, array in ((_keys_beside(path), keys), (path, np.concatenate(pieces))):
            with replacing_file(target) as temporary, open(temporary, "wb") as file:
                np.save(file, array)
        self._next += 1
        start = self._starts[-1]
        self._insert(self._open(path), start)

    def _check_teacher(self, filled: bool) -> None:
        path = self.folder / "teacher.json"
        if self.teacher is None or (not filled and not path.exists()):
            return
        if not path.exists():
            raise CacheError(f"{path} is missing, expected it to tell whose vectors are in the folder")
        try:
            known = json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
        except (ValueError, KeyError, TypeError) as error:
            raise CacheError(f"{path} is damaged, expected JSON with a fingerprint: {error!r}") from error
        if known != self._fingerprint:
            raise CacheError(
                f"{self.folder} holds vectors of another teacher: fingerprint {known}, expected "
                f"{self._fingerprint}; choose another folder, or delete this one"
            )

    def _describe(self, teacher: Encoder) -> None:
        path = self.folder / "teacher.json"
        if not path.exists():
            about = {"fingerprint": self._fingerprint, "dim": teacher.dim}
            with replacing_file(path) as temporary:
                temporary.write_text(json.dumps(about) + "\n", encoding="utf-8")

    def _open(self, path: Path) -> npt.NDArray[np.uint8]:
        # Maps a shard's vectors into memory; returns its keys.
        keys_path = _keys_beside(path)
        try:
            vectors, keys = np.load(path, mmap_mode="r"), np.load(keys_path)
        except (OSError, ValueError, EOFError) as error:
            raise CacheError(f"{path} or {keys_path.name} cannot be read: {error}") from error
        dim = vectors.shape[-1] if self.dim is None else self.dim
        expected = ((len(keys), dim), np.float16, (len(vectors), _KEY_BYTES), np.uint8)
        if (vectors.shape, vectors.dtype, keys.shape, keys.dtype) != expected:
            raise CacheError(
                f"{path} is {vectors.shape} {vectors.dtype} and {keys_path.name} {keys.shape} {keys.dtype}, "
                f"expected (n, {dim}) float16 and (n, {_KEY_BYTES}) uint8"
            )
        self.dim = dim
        self._shards.append(np.asarray(vectors))
        self._starts.append(self._starts[-1] + len(vectors))
        found: npt.NDArray[np.uint8] = keys
        return found

    def _insert(self, keys: npt.NDArray[np.uint8], start: int) -> None:
        # Merging costs one pass over the index; sorting all of it again after each shard would not do.
        first, second = _halves(keys)
        order = np.argsort(first, kind="stable")
        places = np.searchsorted(self._first, first[order])
        self._first = np.insert(self._first, places, first[order])
        self._second = np.insert(self._second, places, second[order])
        self._rows = np.insert(self._rows, places, start + order)

    def _find(self, keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        # The row of each key, -1 where there is none.
        first, second = _halves(keys)
        places = np.searchsorted(self._first, first)
        rows = np.full(len(keys), -1, np.int64)
        open_ = np.arange(len(keys))
        # One round, unless digests share their first half: in theory, or among many billions.
        while len(open_):
            open_ = open_[places[open_] < len(self._first)]
            open_ = open_[self._first[places[open_]] == first[open_]]
            same = self._second[places[open_]] == second[open_]
            rows[open_[same]] = self._rows[places[open_[same]]]
            open_ = open_[~same]
            places[open_] += 1
        return rows


def _unit_vectors(teacher: Encoder, texts: list[str]) -> npt.NDArray[np.float16]:
    vectors = teacher.encode(texts, normalize_embeddings=True, on_overflow="ignore")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ValueError(f"the teacher's vector of {_quoted(texts[bad[0]])} has values that are not finite")
    halves: npt.NDArray[np.float16] = vectors.astype(np.float16)
    return halves


def _keys(texts: Sequence[str]) -> npt.NDArray[np.uint8]:
    # A lone surrogate has no UTF-8; it gets the bytes that it would have.
    digests = [
        blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest() for text in texts
    ]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, _KEY_BYTES)


def _keys_beside(path: Path) -> Path:
    return path.with_name(path.name.replace("vectors", "keys"))


def _halves(keys: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    halves = np.ascontiguousarray(keys).view(np.uint64).reshape(-1, 2)
    return halves[:, 0].copy(), halves[:, 1].copy()


def _blocks(texts: Iterator[str], size: int) -> Iterator[list[str]]:
    while block := list(islice(texts, size)):
        yield block


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
