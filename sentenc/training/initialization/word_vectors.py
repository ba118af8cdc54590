"""Trains word vectors with gensim."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, Protocol, runtime_checkable

from sentenc.errors import MissingExtraError
from sentenc.io.progress import progress_bar
from sentenc.io.word_vectors import WordVectors, from_gensim
from sentenc.training.data.words import word_splitter


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
    return from_gensim(model.wv)


def _gensim_models() -> tuple[dict[str, Any], Any]:
    try:
        from gensim.models import FastText, Word2Vec
        from gensim.models.callbacks import CallbackAny2Vec
    except ImportError as error:
        raise MissingExtraError("train", "gensim", "training word vectors") from error
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
