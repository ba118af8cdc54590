"""Reads files of word vectors: word2vec, GloVe, fastText and gensim."""

import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import MissingExtraError, TextFileError
from sentenc.io.compression import DECOMPRESSION_ERRORS, open_binary
from sentenc.io.text import open_text

# Suffixes of gensim's own files; any other file is read as word2vec, GloVe or fastText.
_GENSIM = (".kv", ".model", ".wv")
# The number with which a binary model of fastText begins.
_FASTTEXT = (793712314).to_bytes(4, "little")
# A file is binary if a control character that text does not contain occurs among its first bytes.
_HEAD_BYTES = 1 << 16
_CONTROL_CHARACTERS = bytes([*range(9), *range(14, 32)])


@dataclass(frozen=True)
class WordVectors:
    """Vectors of V distinct words.

    Attributes:
        words: The V words.
        vectors: Shape (V, d), float32.
        counts: The frequency of each word, (V,) int64, or None if it is unknown.

    Raises:
        ValueError: The sizes differ, a word is repeated, or a vector is not finite.
    """

    words: list[str]
    vectors: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Checks shapes and values."""
        n = len(self.words)
        if self.vectors.ndim != 2 or len(self.vectors) != n or n == 0:
            raise ValueError(
                f"vectors has shape {self.vectors.shape}, expected ({n}, d) with at least one word"
            )
        if self.counts is not None and self.counts.shape != (n,):
            raise ValueError(f"counts has shape {self.counts.shape}, expected ({n},)")
        if len(set(self.words)) != n:
            raise ValueError(f"{n - len(set(self.words))} words are repeated, expected distinct words")
        bad = np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))
        if len(bad):
            raise ValueError(f"the vector of {self.words[bad[0]]!r} has a value that is not finite")


def load_word_vectors(path: str | os.PathLike[str], limit: int | None = None) -> WordVectors:
    """Reads word vectors.

    Args:
        path: A word2vec file (text or binary), a GloVe file (text, with or without a first line with the
            two sizes), a binary model of fastText, whose words alone are read, or a file of gensim (``.kv``,
            ``.model``, ``.wv``). Files of gensim are pickles, which can run code, so load only files that you
            trust. word2vec and GloVe files may be compressed as texts may.
        limit: Read at most this number of words. The most frequent words come first in most files.

    Returns:
        The vectors. Of a repeated word the first vector is kept. Only files of gensim have counts.

    Raises:
        MissingExtraError: The file is of gensim or fastText, and gensim is not installed.
        TextFileError: The file is damaged, or ends before the number of words that it states. The message
            contains the line, or the number of the word.
        OSError: The file cannot be opened.
    """
    path = Path(path)
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}, expected 1 or more")
    if path.suffix in _GENSIM:
        return _read_gensim(path, limit, _load_saved)
    try:
        with open_binary(str(path)) as file:
            header = file.readline(_HEAD_BYTES)
            binary = any(byte in _CONTROL_CHARACTERS for byte in header + file.read(_HEAD_BYTES))
        if header.startswith(_FASTTEXT):
            return _read_gensim(path, limit, _load_fasttext)
        words, matrix = _read_binary(path, header, limit) if binary else _read_text(path, limit)
    except DECOMPRESSION_ERRORS as error:
        # Errors of the operating system have a number, and those of damaged data have none.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise TextFileError(f"{path}: {error}") from error
    if not words:
        raise TextFileError(f"{path} has no word vectors, expected lines with a word and numbers")
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        raise TextFileError(f"{path}: the vector of {words[bad[0]]!r} has a value that is not finite")
    return WordVectors(words, matrix)


def _read_text(path: Path, limit: int | None) -> tuple[list[str], npt.NDArray[np.float32]]:
    words: dict[str, None] = {}
    # Grows without an object for each row.
    values = array("f")
    dim, promised, read = 0, None, 0
    with open_text(str(path)) as lines:
        for number, line in enumerate(lines, 1):
            fields = line.rstrip().split(" ")
            if number == 1 and len(fields) == 2 and all(field.isdecimal() for field in fields):
                promised, dim = map(int, fields)
                continue
            dim = dim or len(fields) - 1
            # A word may contain spaces, as some of GloVe's do. A number never does.
            if dim < 1 or len(fields) < dim + 1:
                raise TextFileError(
                    f"{path}, line {number}: {len(fields)} fields, "
                    f"expected a word and {dim or 'some'} numbers"
                )
            try:
                row = [float(field) for field in fields[-dim:]]
            except ValueError as error:
                raise TextFileError(
                    f"{path}, line {number}: {error}, expected {dim} numbers after the word"
                ) from error
            read += 1
            word = " ".join(fields[:-dim])
            if word not in words:
                words[word] = None
                values.extend(row)
            if len(words) == limit:
                break
    if promised is not None and read < promised and len(words) != limit:
        raise TextFileError(
            f"{path}: the file ends after {read} words, expected {promised}, the number in its first line"
        )
    return list(words), np.frombuffer(values, np.float32).reshape(len(words), dim)


def _read_binary(path: Path, header: bytes, limit: int | None) -> tuple[list[str], npt.NDArray[np.float32]]:
    sizes = header.split()
    if len(sizes) != 2 or not all(size.isdigit() for size in sizes):
        raise TextFileError(
            f"{path}: binary, but the first line is {header[:40]!r}, expected two sizes (V d)"
        )
    total, dim = map(int, sizes)
    words: dict[str, None] = {}
    values = array("f")
    with open_binary(str(path)) as file:
        file.readline()
        for number in range(1, total + 1):
            word = bytearray()
            while (byte := file.read(1)) not in (b" ", b""):
                word += byte
            data = file.read(4 * dim)
            if len(data) < 4 * dim:
                raise TextFileError(
                    f"{path}, word {number}: the file ends here, expected {total} words of {dim} numbers"
                )
            try:
                text = word.decode().lstrip("\n")
            except UnicodeDecodeError as error:
                raise TextFileError(f"{path}, word {number}: not UTF-8: {error}") from error
            if text not in words:
                words[text] = None
                values.frombytes(np.frombuffer(data, "<f4").astype(np.float32).tobytes())
            if len(words) == limit:
                break
    return list(words), np.frombuffer(values, np.float32).reshape(len(words), dim)


def _read_gensim(path: Path, limit: int | None, load: Callable[[str], Any]) -> WordVectors:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        import gensim  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("train", "gensim", "loading word vectors of gensim or fastText") from error
    try:
        loaded = load(str(path))
    except Exception as error:  # a pickle can fail in any way
        raise TextFileError(f"{path} is not a file that gensim can load: {error!r}") from error
    loaded = getattr(loaded, "wv", loaded)
    if not hasattr(loaded, "index_to_key"):
        raise TextFileError(
            f"{path} contains {type(loaded).__name__}, expected gensim's KeyedVectors or a model with them"
        )
    whole = from_gensim(loaded)
    counts = None if whole.counts is None else whole.counts[:limit]
    return WordVectors(whole.words[:limit], whole.vectors[:limit], counts)


def _load_saved(path: str) -> Any:
    from gensim.utils import SaveLoad

    return SaveLoad.load(path)


def _load_fasttext(path: str) -> Any:
    from gensim.models.fasttext import load_facebook_vectors

    return load_facebook_vectors(path)


def from_gensim(keyed: Any) -> WordVectors:
    """Returns the words, vectors and counts of gensim's ``KeyedVectors``."""
    words = list(keyed.index_to_key)
    counts = None
    if "count" in keyed.expandos:
        counts = np.array([keyed.get_vecattr(word, "count") for word in words], np.int64)
    return WordVectors(words, np.array(keyed.vectors[: len(words)], np.float32), counts)
