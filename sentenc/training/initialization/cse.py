"""Initial tokenizer, embeddings and token weights of a CSE student."""

import json
import os
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sentenc.encoders.transformer import TransformerEncoder
from sentenc.io.word_vectors import WordVectors
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.tokenization.words import splitter_spec
from sentenc.training.teachers.base import Teacher
from sentenc.training.teachers.ensemble import TeacherEnsemble, first_transformer

FloatArray = npt.NDArray[np.float32]

_UNKNOWN = "<unk>"
# Names of the unknown word in published vectors: GloVe, word2vec, PARAGRAM (Wieting et al.).
_UNKNOWN_NAMES = ("<unk>", "<UNK>", "unk", "UNK", "[UNK]", "UUUNKKK")


class Initialization(NamedTuple):
    """A tokenizer with V ids, embeddings (V, d) float32 and log token weights (V,) float32."""

    tokenizer: Tokenizer
    embeddings: FloatArray
    log_weights: FloatArray


def sif_log_weights(frequencies: npt.NDArray[np.integer], a: float = 1e-3) -> FloatArray:
    """Returns the log weights log(a / (a + p)) of V tokens: (V,) float32.

    Smooth inverse frequency: Arora, Liang, Ma (ICLR 2017), "A Simple but Tough-to-Beat Baseline".

    Args:
        frequencies: The count of each token, (V,). The probability p is its share with add-one smoothing.
        a: Smoothing parameter; smaller values lower the weights of frequent tokens further.
    """
    p = (frequencies + 1) / (frequencies + 1).sum()
    weights: FloatArray = np.log(a / (a + p)).astype(np.float32)
    return weights


def pca_embeddings(vectors: npt.NDArray[np.floating], dim: int) -> FloatArray:
    """Returns the first ``dim`` principal components of V vectors, scaled to a mean squared norm of 1.

    Args:
        vectors: Shape (V, t).
        dim: Number of components.

    Returns:
        Shape (V, dim), float32, centered.

    Raises:
        ValueError: ``dim`` is not between 1 and t.
    """
    if not 1 <= dim <= vectors.shape[1]:
        raise ValueError(f"dim is {dim}, expected 1 to {vectors.shape[1]}, the size of the vectors")
    centered = vectors.astype(np.float64)
    centered -= centered.mean(0)
    axes = np.linalg.eigh(centered.T @ centered)[1][:, ::-1][:, :dim]
    embeddings: npt.NDArray[np.float64] = centered @ axes
    embeddings /= np.sqrt((embeddings**2).sum(1).mean()) or 1.0
    return embeddings.astype(np.float32)


def init_from_words(
    vectors: WordVectors,
    dim: int | None = None,
    *,
    unknown: Literal["skip", "row"] = "skip",
    lowercase: bool = True,
    a: float = 1e-3,
) -> Initialization:
    """Builds a word-level tokenizer whose embeddings are word vectors.

    Texts are split at spaces and around punctuation and, by default, lower-cased. A word that this split
    cannot produce (``"New_York"``) is left out. If several words differ only in case, the first is kept.

    Args:
        vectors: The word vectors.
        dim: Reduce the vectors to this number of principal components, see :func:`pca_embeddings`. None
            leaves them unchanged.
        unknown: ``"skip"`` ignores unknown words in a text; ``"row"`` maps them to the first id. Its
            embedding is the file's own (``<unk>``, ``UUUNKKK`` and the like), or else the mean of all.
        lowercase: Lower-case texts.
        a: Smoothing of the SIF weights, see :func:`sif_log_weights`. Without counts, all weights are 1.

    Raises:
        ValueError: No word can occur in a split text, or an option is out of range.
    """
    if unknown not in ("skip", "row"):
        raise ValueError(f"unknown is {unknown!r}, expected 'skip' or 'row'")
    first_index: dict[str, int] = {}
    for index, word in enumerate(vectors.words):
        first_index.setdefault(word.lower() if lowercase else word, index)
    words = _reachable(list(first_index), lowercase)
    if not words:
        raise ValueError(
            f"none of {len(vectors.words)} words can occur in a split text, expected at least one: "
            f"the first is {vectors.words[0]!r}, lowercase={lowercase}"
        )
    indices = np.array([first_index[word] for word in words], np.int64)
    embeddings = vectors.vectors[indices]
    counts = None if vectors.counts is None else vectors.counts[indices]
    if unknown == "row":
        named = [i for i, word in enumerate(vectors.words) if word in _UNKNOWN_NAMES]
        row = vectors.vectors[named[0]] if named else embeddings.mean(0)
        # No text contains this token: the split makes "<" and ">" words of their own.
        words, embeddings = [_UNKNOWN, *words], np.concatenate([row[None], embeddings])
        counts = None if counts is None else np.concatenate([[0], counts])
    if dim is not None:
        embeddings = pca_embeddings(embeddings, dim)
    weights = np.zeros(len(words), np.float32) if counts is None else sif_log_weights(counts, a)
    tokenizer = _word_tokenizer(words, lowercase, skip_unknown=unknown == "skip")
    return Initialization(tokenizer, embeddings.astype(np.float32), weights)


def init_from_teacher(
    teacher: Teacher | str | os.PathLike[str],
    tokenizer: Tokenizer,
    frequencies: npt.NDArray[np.integer] | None,
    dim: int,
    *,
    a: float = 1e-3,
) -> Initialization:
    """Builds embeddings from a teacher's vectors of single tokens.

    Model2Vec (Tulkens and van Dongen, 2024) introduced this initialization.

    Args:
        teacher: A teacher, or the argument of :func:`sentenc.load` for an encoder.
        tokenizer: The student's tokenizer with V ids; returned unchanged.
        frequencies: The count of each id, (V,), for the SIF weights. None sets all weights to 1.
        dim: Size of the embeddings: the number of principal components, see :func:`pca_embeddings`.
        a: Smoothing of the SIF weights, see :func:`sif_log_weights`.

    Raises:
        ValueError: ``dim`` exceeds the teacher's, or ``frequencies`` has another shape.
    """
    if frequencies is not None and frequencies.shape != (tokenizer.vocab_size,):
        raise ValueError(f"frequencies has shape {frequencies.shape}, expected ({tokenizer.vocab_size},)")
    if isinstance(teacher, str | os.PathLike):
        from sentenc.registry import load

        teacher = load(teacher)
    if not 1 <= dim <= teacher.dim:
        raise ValueError(f"dim is {dim}, expected 1 to {teacher.dim}, the teacher's")
    vocabulary = tokenizer.vocabulary
    # An id without a token keeps a zero row.
    vectors = np.zeros((tokenizer.vocab_size, teacher.dim), np.float32)
    vectors[list(vocabulary.values())] = token_vectors(teacher, list(vocabulary))
    weights = np.zeros(len(vectors), np.float32) if frequencies is None else sif_log_weights(frequencies, a)
    return Initialization(tokenizer, pca_embeddings(vectors, dim), weights)


def token_vectors(teacher: Teacher, tokens: list[str]) -> FloatArray:
    """Returns a teacher's vectors of n single tokens: (n, t) float32.

    If a transformer has the token in its vocabulary, the token is encoded between the special tokens.
    Any other token, and every token of another kind of teacher, is encoded as a text.
    """
    if isinstance(teacher, TeacherEnsemble):
        return teacher.concatenate([token_vectors(encoder, tokens) for encoder in teacher.encoders])
    vectors = np.zeros((len(tokens), teacher.dim), np.float32)
    rest = np.arange(len(tokens))
    if isinstance(teacher, TransformerEncoder):
        vocabulary = teacher.vocabulary
        shared = np.array([i for i, token in enumerate(tokens) if token in vocabulary], np.int64)
        vectors[shared] = teacher.encode_tokens([vocabulary[tokens[i]] for i in shared])
        rest = np.setdiff1d(rest, shared)
    texts = [tokens[i].removeprefix("##") or tokens[i] for i in rest]
    if texts:
        vectors[rest] = teacher.encode(texts, on_overflow="ignore")
    return vectors


def average_from_teacher(teacher: Teacher, tokenizer: Tokenizer, dim: int) -> FloatArray:
    """Builds the embeddings of the plain average from a transformer's input embeddings.

    They are reduced by :func:`pca_embeddings`. Of an ensemble, the first teacher is used.

    Args:
        teacher: A transformer, or an ensemble whose first teacher is one.
        tokenizer: The student's tokenizer with V ids.
        dim: Size of the embeddings.

    Returns:
        Shape (V, dim), float32. Tokens that the teacher's vocabulary lacks have zero rows.

    Raises:
        ValueError: The teacher is not a transformer, shares no token with the student, or has input
            embeddings of fewer than ``dim`` components.
    """
    try:
        transformer = first_transformer(teacher)
    except ValueError as error:
        raise ValueError(f"average_dim needs the input embeddings of a transformer: {error}") from error
    vocabulary, table = transformer.vocabulary, transformer.token_embeddings()
    shared = {token: i for token, i in tokenizer.vocabulary.items() if token in vocabulary}
    if not shared:
        raise ValueError(
            f"the teacher has none of {tokenizer.vocab_size} tokens in its vocabulary, expected at least one"
        )
    average = np.zeros((tokenizer.vocab_size, dim), np.float32)
    average[list(shared.values())] = pca_embeddings(table[[vocabulary[token] for token in shared]], dim)
    return average


def _reachable(words: list[str], lowercase: bool) -> list[str]:
    # The words that the tokenizer reproduces whole. A word that it changes or splits never occurs in a text.
    if not words:
        return []
    tokenizer = _word_tokenizer(words, lowercase, skip_unknown=True)
    ids, ends, counts = tokenizer.encode(words)
    last = ids[np.maximum(ends - 1, 0)] if len(ids) else np.full(len(words), -1)
    reachable = (counts == 1) & (last == np.arange(len(words)))
    return [word for word, keep in zip(words, reachable, strict=True) if keep]


def _word_tokenizer(words: list[str], lowercase: bool, *, skip_unknown: bool) -> Tokenizer:
    vocabulary = {word: index for index, word in enumerate(words)}
    model = {"type": "WordLevel", "unk_token": _UNKNOWN, "vocab": vocabulary}
    spec = {"version": "1.0", "added_tokens": [], **splitter_spec(lowercase), "model": model}
    return Tokenizer(json.dumps(spec, ensure_ascii=False), skip_unknown=skip_unknown)
