"""Word vectors: trained with gensim, or read from the files of word2vec, GloVe and gensim."""

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

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
# What gensim calls its own files; all else is a word2vec or GloVe file.
_GENSIM = (".kv", ".model", ".wv")
# Bytes looked at to tell binary vectors from text, which has no such control characters.
_HEAD = 1 << 16
_BINARY = bytes([*range(9), *range(14, 32)])


@dataclass(frozen=True)
class WordVectors:
    """Vectors (V, d) float32 of V distinct words, and how often each occurs, (V,) int64, if that is known.

    Raises:
        ValueError: The three do not fit together, or a vector is not finite.
    """

    words: list[str]
    vectors: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Checks that the parts belong together."""
        n = len(self.words)
        if self.vectors.ndim != 2 or len(self.vectors) != n or n == 0:
            raise ValueError(
                f"vectors has shape {self.vectors.shape}, expected ({n}, d) with at least one word"
            )
        if self.counts is not None and self.counts.shape != (n,):
            raise ValueError(f"counts has shape {self.counts.shape}, expected ({n},)")
        if len(set(self.words)) != n:
            raise ValueError(f"{n - len(set(self.words))} words are there twice, expected distinct ones")
        bad = np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))
        if len(bad):
            raise ValueError(f"the vector of {self.words[bad[0]]!r} has values that are not finite")


@runtime_checkable
class Epochs(Protocol):
    """A corpus: what gives the examples (texts) of an epoch, such as a ``Corpus`` of sentenc.training."""

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[str, ...]]:
        """The examples of an epoch."""


def train_word_vectors(
    sentences: Iterable[list[str]] | Epochs,
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

    Word2vec is Mikolov et al. (2013), "Distributed Representations of Words and Phrases"; fastText is
    Bojanowski et al. (2017), "Enriching Word Vectors with Subword Information".

    Args:
        sentences: Lists of words that can be gone through again and again (a list, not a generator);
            or a corpus, whose texts are split as :func:`~sentenc.training.initialization.cse.start_from_words` does.
        kind: ``"word2vec"`` or ``"fasttext"``.
        dim: Length of the vectors.
        window: Words on each side that are context.
        min_count: Rarer words get no vector.
        max_words: Keep about so many of the most frequent words; None for all.
        epochs: Passes over the sentences, after one that counts.
        negative: Noise words for each context word.
        sample: Share of all words above which a word is randomly left out (Mikolov's t); 0 for none.
        skip_gram: Skip-gram, or CBOW.
        learning_rate: At the start; it falls linearly.
        lowercase: Fold the case of a corpus; lists of words are taken as they are.
        seed: Of the start and the sampling, and of the corpus.
        workers: Threads. The result is reproducible with one thread only.
        progress: Draw a bar of the epochs.

    Returns:
        The words, most frequent first, with their counts.

    Raises:
        MissingExtraError: gensim is not installed.
        TypeError: ``sentences`` can be gone through only once.
        ValueError: ``kind`` is unknown, or no word is frequent enough.
    """
    if kind not in ("word2vec", "fasttext"):
        raise ValueError(f"kind is {kind!r}, expected 'word2vec' or 'fasttext'")
    if not isinstance(sentences, Epochs) and isinstance(sentences, Iterator):
        raise TypeError(
            f"sentences is {type(sentences).__name__}, which can be gone through only once; expected a list or "
            "another collection"
        )
    models, callback = _gensim_models()
    passes: Iterable[list[str]] = (
        _CorpusWords(sentences, lowercase, seed) if isinstance(sentences, Epochs) else sentences
    )
    model = models[kind](
        vector_size=dim, window=window, min_count=min_count, max_final_vocab=max_words, sg=int(skip_gram),
        negative=negative, sample=sample, alpha=learning_rate, epochs=epochs, seed=seed, workers=workers,
    )  # fmt: skip
    model.build_vocab(passes)
    if not len(model.wv):
        raise ValueError(
            f"no word occurs min_count={min_count} times in {model.corpus_count} sentences, expected at least one"
        )
    with progress_bar(epochs, kind, progress) as bar:

        class Report(callback):  # type: ignore[misc, valid-type]
            def on_epoch_end(self, _model: Any) -> None:
                bar.update(1)

        model.train(passes, total_examples=model.corpus_count, epochs=epochs, callbacks=[Report()])
    return _from_gensim(model.wv)


def load_word_vectors(path: str | os.PathLike[str], limit: int | None = None) -> WordVectors:
    """Reads word vectors.

    Args:
        path: gensim's own file (``.kv``, ``.model``, ``.wv``; a pickle, which can run code: load only
            what you trust), or a word2vec file, text or binary, or a GloVe file (text, with or without
            a first line of the two sizes); all but gensim's may be compressed by gzip or xz.
        limit: Read so many words at most; files have the most frequent first.

    Returns:
        The vectors; of a repeated word the first. Only gensim's files have counts.

    Raises:
        MissingExtraError: It is gensim's file and gensim is not installed.
        TextFileError: The file is damaged; the message has the line, or the number of the word.
        OSError: It cannot be opened.
    """
    path = Path(path)
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}, expected 1 or more")
    if path.suffix in _GENSIM:
        return _read_gensim(path, limit)
    opener = _OPENERS.get(path.suffix, open)
    try:
        with opener(path, "rb") as file:
            header = file.readline(_HEAD)
            binary = any(byte in _BINARY for byte in header + file.read(_HEAD))
        words, rows = _read_binary(path, opener, header, limit) if binary else _read_text(path, limit)
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise TextFileError(f"{path}: {error}") from error
    if not words:
        raise TextFileError(f"{path} has no word vectors, expected a line for each: word and numbers")
    vectors = np.stack(rows)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise TextFileError(f"{path}: the vector of {words[bad[0]]!r} has values that are not finite")
    return WordVectors(words, vectors)


def _read_text(path: Path, limit: int | None) -> tuple[list[str], list[npt.NDArray[np.float32]]]:
    seen: dict[str, npt.NDArray[np.float32]] = {}
    dim = 0
    with open_text(str(path)) as lines:
        for number, line in enumerate(lines, 1):
            fields = line.rstrip().split(" ")
            if number == 1 and len(fields) == 2 and all(field.isdecimal() for field in fields):
                dim = int(fields[1])
                continue
            dim = dim or len(fields) - 1
            # A word may have spaces in it, as some of GloVe's do; numbers never.
            if dim < 1 or len(fields) < dim + 1:
                raise TextFileError(
                    f"{path}, line {number}: {len(fields)} fields, expected a word and {dim or 'some'} numbers"
                )
            try:
                row = np.array(list(map(float, fields[-dim:])), np.float32)
            except ValueError as error:
                raise TextFileError(
                    f"{path}, line {number}: {error}, expected {dim} numbers after the word"
                ) from error
            seen.setdefault(" ".join(fields[:-dim]), row)
            if len(seen) == limit:
                break
    return list(seen), list(seen.values())


def _read_binary(
    path: Path, opener: Callable[..., Any], header: bytes, limit: int | None
) -> tuple[list[str], list[npt.NDArray[np.float32]]]:
    sizes = header.split()
    if len(sizes) != 2 or not all(size.isdigit() for size in sizes):
        raise TextFileError(
            f"{path}: binary, but the first line is {header[:40]!r}, expected two sizes (V d)"
        )
    total, dim = map(int, sizes)
    seen: dict[str, npt.NDArray[np.float32]] = {}
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
            seen.setdefault(text, np.frombuffer(data, "<f4").astype(np.float32))
            if len(seen) == limit:
                break
    return list(seen), list(seen.values())


def _read_gensim(path: Path, limit: int | None) -> WordVectors:
    _gensim_models()
    from gensim.utils import SaveLoad

    if not path.exists():
        raise FileNotFoundError(f"no file {path}")
    try:
        loaded = SaveLoad.load(str(path))
    except Exception as error:  # a pickle can fail in any way
        raise TextFileError(f"{path} is not a file that gensim saved: {error!r}") from error
    loaded = getattr(loaded, "wv", loaded)
    if not hasattr(loaded, "index_to_key"):
        raise TextFileError(
            f"{path} holds {type(loaded).__name__}, expected gensim's KeyedVectors or a model of them"
        )
    found = _from_gensim(loaded)
    counts = None if found.counts is None else found.counts[:limit]
    return WordVectors(found.words[:limit], found.vectors[:limit], counts)


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
    # A corpus as lists of words; every pass is its next epoch.

    def __init__(self, corpus: Epochs, lowercase: bool, seed: int) -> None:
        self.corpus, self.lowercase, self.seed, self.passes = corpus, lowercase, seed, 0

    def __iter__(self) -> Iterator[list[str]]:
        from sentenc.training.data.words import word_splitter

        split = word_splitter(self.lowercase)
        epoch = self.passes
        self.passes += 1
        for example in self.corpus.epoch(self.seed, epoch):
            for text in example:
                yield split(text)
