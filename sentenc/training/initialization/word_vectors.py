"""Trains word vectors with gensim, and reads the files of word2vec, GloVe and gensim."""

import gzip
import lzma
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from sentenc.errors import MissingExtraError, TextFileError
from sentenc.io.progress import progress_bar
from sentenc.io.text import open_text
from sentenc.training.data.words import word_splitter

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
# Suffixes of gensim's own files; any other file is read as word2vec or GloVe.
_GENSIM = (".kv", ".model", ".wv")
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


@runtime_checkable
class EpochCorpus(Protocol):
    """A corpus of texts that is read in epochs, such as :class:`sentenc.training.data.corpus.Corpus`."""

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[str, ...]]:
        """Returns the examples of an epoch, each a tuple of texts."""


def train_word_vectors(
    sentences: Iterable[list[str]] | EpochCorpus,
    kind: Literal["word2vec", "fasttext"] = "word2vec",
    dim: int = 256,
    *,
    window: int = 5,
    min_count: int = 5,
    max_words: int | None = None,
    epochs: int = 5,
    negative: int = 5,
    sample: float = 1e-3,
    skip_gram: bool = True,
    learning_rate: float = 0.025,
    lowercase: bool = True,
    seed: int = 1,
    workers: int = 1,
    progress: bool = True,
) -> WordVectors:
    """Trains word vectors with gensim.

    Word2vec is Mikolov et al. (2013), "Distributed Representations of Words and Phrases". FastText is
    Bojanowski et al. (2017), "Enriching Word Vectors with Subword Information".

    Args:
        sentences: Lists of words, in a collection that can be iterated several times (not a generator); or a
            corpus, whose texts are split by :func:`~sentenc.training.data.words.word_splitter`.
        kind: ``"word2vec"`` or ``"fasttext"``.
        dim: Size of the vectors.
        window: Number of context words on each side.
        min_count: Rarer words get no vector.
        max_words: Keep about this number of the most frequent words; None for all.
        epochs: Number of training passes, after one pass that counts the words.
        negative: Number of noise words for each context word.
        sample: Words with a larger share of the text are randomly skipped (Mikolov's t); 0 for none.
        skip_gram: Train skip-gram; False trains CBOW.
        learning_rate: Initial rate, which decreases linearly.
        lowercase: Lower-case the texts of a corpus. Lists of words are used unchanged.
        seed: Seed of the initial vectors, the sampling and the order of a corpus.
        workers: Number of threads. Only one thread gives reproducible vectors.
        progress: Draw a progress bar.

    Returns:
        The words, most frequent first, with their counts.

    Raises:
        MissingExtraError: gensim is not installed.
        TypeError: ``sentences`` can be iterated only once.
        ValueError: ``kind`` is unknown, or no word is frequent enough.
    """
    if kind not in ("word2vec", "fasttext"):
        raise ValueError(f"kind is {kind!r}, expected 'word2vec' or 'fasttext'")
    passes = _repeatable(sentences, lowercase, seed)
    models, _ = _gensim_models()
    model = models[kind](
        vector_size=dim, window=window, min_count=min_count, max_final_vocab=max_words, sg=int(skip_gram),
        negative=negative, sample=sample, alpha=learning_rate, epochs=epochs, seed=seed, workers=workers,
    )  # fmt: skip
    return _trained(model, passes, kind, progress)


def _repeatable(
    sentences: Iterable[list[str]] | EpochCorpus, lowercase: bool, seed: int
) -> Iterable[list[str]]:
    if isinstance(sentences, EpochCorpus):
        return _CorpusWords(sentences, lowercase, seed)
    if isinstance(sentences, Iterator):
        raise TypeError(
            f"sentences is {type(sentences).__name__}, which can be iterated only once: pass a list instead"
        )
    return sentences


def _trained(model: Any, passes: Iterable[list[str]], kind: str, progress: bool) -> WordVectors:
    model.build_vocab(passes)
    if not len(model.wv):
        raise ValueError(
            f"no word occurs min_count={model.min_count} times in {model.corpus_count} sentences, "
            "expected at least one"
        )
    _, callback = _gensim_models()
    with progress_bar(model.epochs, kind, progress) as bar:

        class Report(callback):  # type: ignore[misc, valid-type]  # gensim's base class is imported lazily
            def on_epoch_end(self, _model: Any) -> None:
                bar.update(1)

        model.train(passes, total_examples=model.corpus_count, epochs=model.epochs, callbacks=[Report()])
    return _from_gensim(model.wv)


def load_word_vectors(path: str | os.PathLike[str], limit: int | None = None) -> WordVectors:
    """Reads word vectors.

    Args:
        path: A word2vec file (text or binary), a GloVe file (text, with or without a first line with the
            two sizes), or a file of gensim (``.kv``, ``.model``, ``.wv``). Files of gensim are pickles,
            which can run code, so load only files that you trust. The others may be compressed by gzip or xz.
        limit: Read at most this number of words. The most frequent words come first in most files.

    Returns:
        The vectors. Of a repeated word the first vector is kept. Only files of gensim have counts.

    Raises:
        MissingExtraError: The file is gensim's, and gensim is not installed.
        TextFileError: The file is damaged. The message contains the line, or the number of the word.
        OSError: The file cannot be opened.
    """
    path = Path(path)
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}, expected 1 or more")
    if path.suffix in _GENSIM:
        return _read_gensim(path, limit)
    opener = _OPENERS.get(path.suffix, open)
    try:
        with opener(path, "rb") as file:
            header = file.readline(_HEAD_BYTES)
            binary = any(byte in _CONTROL_CHARACTERS for byte in header + file.read(_HEAD_BYTES))
        words, vectors = _read_binary(path, opener, header, limit) if binary else _read_text(path, limit)
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise TextFileError(f"{path}: {error}") from error
    if not words:
        raise TextFileError(f"{path} has no word vectors, expected lines with a word and numbers")
    matrix = np.stack(vectors)
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        raise TextFileError(f"{path}: the vector of {words[bad[0]]!r} has a value that is not finite")
    return WordVectors(words, matrix)


def _read_text(path: Path, limit: int | None) -> tuple[list[str], list[npt.NDArray[np.float32]]]:
    vectors: dict[str, npt.NDArray[np.float32]] = {}
    dim = 0
    with open_text(str(path)) as lines:
        for number, line in enumerate(lines, 1):
            fields = line.rstrip().split(" ")
            if number == 1 and len(fields) == 2 and all(field.isdecimal() for field in fields):
                dim = int(fields[1])
                continue
            dim = dim or len(fields) - 1
            # A word may contain spaces, as some of GloVe's do. A number never does.
            if dim < 1 or len(fields) < dim + 1:
                raise TextFileError(
                    f"{path}, line {number}: {len(fields)} fields, "
                    f"expected a word and {dim or 'some'} numbers"
                )
            try:
                row = np.array(list(map(float, fields[-dim:])), np.float32)
            except ValueError as error:
                raise TextFileError(
                    f"{path}, line {number}: {error}, expected {dim} numbers after the word"
                ) from error
            vectors.setdefault(" ".join(fields[:-dim]), row)
            if len(vectors) == limit:
                break
    return list(vectors), list(vectors.values())


def _read_binary(
    path: Path, opener: Callable[..., Any], header: bytes, limit: int | None
) -> tuple[list[str], list[npt.NDArray[np.float32]]]:
    sizes = header.split()
    if len(sizes) != 2 or not all(size.isdigit() for size in sizes):
        raise TextFileError(
            f"{path}: binary, but the first line is {header[:40]!r}, expected two sizes (V d)"
        )
    total, dim = map(int, sizes)
    vectors: dict[str, npt.NDArray[np.float32]] = {}
    with opener(path, "rb") as file:
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
            vectors.setdefault(text, np.frombuffer(data, "<f4").astype(np.float32))
            if len(vectors) == limit:
                break
    return list(vectors), list(vectors.values())


def _read_gensim(path: Path, limit: int | None) -> WordVectors:
    _gensim_models()
    from gensim.utils import SaveLoad

    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        loaded = SaveLoad.load(str(path))
    except Exception as error:  # a pickle can fail in any way
        raise TextFileError(f"{path} is not a file that gensim saved: {error!r}") from error
    loaded = getattr(loaded, "wv", loaded)
    if not hasattr(loaded, "index_to_key"):
        raise TextFileError(
            f"{path} contains {type(loaded).__name__}, expected gensim's KeyedVectors or a model with them"
        )
    whole = _from_gensim(loaded)
    counts = None if whole.counts is None else whole.counts[:limit]
    return WordVectors(whole.words[:limit], whole.vectors[:limit], counts)


def _from_gensim(keyed: Any) -> WordVectors:
    words = list(keyed.index_to_key)
    counts = None
    if "count" in keyed.expandos:
        counts = np.array([keyed.get_vecattr(word, "count") for word in words], np.int64)
    return WordVectors(words, np.array(keyed.vectors[: len(words)], np.float32), counts)


def _gensim_models() -> tuple[dict[str, Any], Any]:
    try:
        from gensim.models import FastText, Word2Vec
        from gensim.models.callbacks import CallbackAny2Vec
    except ImportError as error:
        raise MissingExtraError("train", "gensim", "training or loading gensim's word vectors") from error
    return {"word2vec": Word2Vec, "fasttext": FastText}, CallbackAny2Vec


class _CorpusWords:
    # The texts of a corpus as lists of words. Every iteration reads the next epoch.

    def __init__(self, corpus: EpochCorpus, lowercase: bool, seed: int) -> None:
        self.corpus, self.lowercase, self.seed, self.passes = corpus, lowercase, seed, 0

    def __iter__(self) -> Iterator[list[str]]:
        split = word_splitter(self.lowercase)
        epoch = self.passes
        self.passes += 1
        for example in self.corpus.epoch(self.seed, epoch):
            for text in example:
                yield split(text)
