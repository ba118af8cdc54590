"""What a CSE student starts from: a tokenizer, embeddings and log token weights."""

import json
import os
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sentenc.encoders.transformer import TransformerEncoder
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.data.words import splitter_spec
from sentenc.training.initialization.word_vectors import WordVectors
from sentenc.training.teachers.base import Teacher
from sentenc.training.teachers.ensemble import TeacherEnsemble, first_transformer

FloatArray = npt.NDArray[np.float32]

_UNKNOWN = "<unk>"
# Names of the unknown word in published vectors: GloVe, word2vec, PARAGRAM (Wieting et al.).
_UNKNOWN_NAMES = ("<unk>", "<UNK>", "unk", "UNK", "[UNK]", "UUUNKKK")


class Start(NamedTuple):
    """A tokenizer of V ids, embeddings (V, d) float32 and log token weights (V,) float32."""

    tokenizer: Tokenizer
    embeddings: FloatArray
    log_weights: FloatArray


def sif_log_weights(frequencies: npt.NDArray[np.integer], a: float = 1e-3) -> FloatArray:
    """log(a / (a + p)), with p the smoothed share (count + 1) of each token: (V,) float32.

    Smooth inverse frequency: Arora, Liang, Ma (ICLR 2017), "A Simple but Tough-to-Beat Baseline".
    """
    p = (frequencies + 1) / (frequencies + 1).sum()
    weights: FloatArray = np.log(a / (a + p)).astype(np.float32)
    return weights


def principal_embeddings(vectors: npt.NDArray[np.floating], dim: int) -> FloatArray:
    """Vectors (V, t) on their first ``dim`` principal components, scaled to a mean square length of 1.

    Raises:
        ValueError: ``dim`` is not between 1 and t.
    """
    if not 1 <= dim <= vectors.shape[1]:
        raise ValueError(f"dim is {dim}, expected 1 to {vectors.shape[1]}, the length of the vectors")
    centered = vectors.astype(np.float64)
    centered -= centered.mean(0)
    axes = np.linalg.eigh(centered.T @ centered)[1][:, ::-1][:, :dim]
    embeddings: npt.NDArray[np.float64] = centered @ axes
    embeddings /= np.sqrt((embeddings**2).sum(1).mean()) or 1.0
    return embeddings.astype(np.float32)


def start_from_words(
    vectors: WordVectors,
    dim: int | None = None,
    *,
    unknown: Literal["skip", "row"] = "skip",
    lowercase: bool = True,
    a: float = 1e-3,
) -> Start:
    """A whole-word tokenizer with the word vectors as embeddings.

    Texts are split at spaces and around punctuation and, by default, lower-cased. Words that no text
    can give that way (``"New_York"``) are left out; of words that differ in case, the first stays.

    Args:
        vectors: The words.
        dim: Reduce the vectors to so many principal components (centered, mean square length 1); None
            leaves them as they are.
        unknown: ``"skip"`` leaves unknown words out; ``"row"`` gives them a row, first in the
            vocabulary: the file's own (``<unk>``, ``UUUNKKK`` and the like), or the mean of all.
        lowercase: Fold the case of texts.
        a: Of the SIF weights a / (a + p), if the counts are known; without counts all weights are 1.

    Raises:
        ValueError: No word can be reached, or an option is out of range.
    """
    if unknown not in ("skip", "row"):
        raise ValueError(f"unknown is {unknown!r}, expected 'skip' or 'row'")
    rows: dict[str, int] = {}
    for index, word in enumerate(vectors.words):
        rows.setdefault(word.lower() if lowercase else word, index)
    words = _reachable(list(rows), lowercase)
    if not words:
        raise ValueError(
            f"none of {len(vectors.words)} words can occur in a split text, expected at least one: "
            f"the first is {vectors.words[0]!r}, lowercase={lowercase}"
        )
    chosen = np.array([rows[word] for word in words], np.int64)
    embeddings = vectors.vectors[chosen]
    counts = None if vectors.counts is None else vectors.counts[chosen]
    if unknown == "row":
        named = [i for i, word in enumerate(vectors.words) if word in _UNKNOWN_NAMES]
        row = vectors.vectors[named[0]] if named else embeddings.mean(0)
        # It can be typed in no text: "<" and ">" are words of their own.
        words, embeddings = [_UNKNOWN, *words], np.concatenate([row[None], embeddings])
        counts = None if counts is None else np.concatenate([[0], counts])
    if dim is not None:
        embeddings = principal_embeddings(embeddings, dim)
    weights = np.zeros(len(words), np.float32) if counts is None else sif_log_weights(counts, a)
    tokenizer = _word_tokenizer(words, lowercase, skip_unknown=unknown == "skip")
    return Start(tokenizer, embeddings.astype(np.float32), weights)


def start_from_teacher(
    teacher: Teacher | str | os.PathLike[str],
    tokenizer: Tokenizer,
    frequencies: npt.NDArray[np.integer] | None,
    dim: int,
    *,
    a: float = 1e-3,
) -> Start:
    """Embeddings from a teacher's vectors of single tokens, as Model2Vec starts (Tulkens and van Dongen, 2024).

    Args:
        teacher: An encoder, or what :func:`sentenc.load` makes one of.
        tokenizer: The student's tokenizer, of V ids; returned as it is.
        frequencies: How often each id occurs, (V,), for the SIF weights a / (a + p); without them all
            weights are 1.
        dim: Length of the embeddings: so many principal components.
        a: Of the weights.

    Raises:
        ValueError: ``dim`` is above the teacher's, or ``frequencies`` has another shape.
    """
    if frequencies is not None and frequencies.shape != (tokenizer.vocab_size,):
        raise ValueError(f"frequencies has shape {frequencies.shape}, expected ({tokenizer.vocab_size},)")
    if isinstance(teacher, str | os.PathLike):
        from sentenc.registry import load

        teacher = load(teacher)
    if not 1 <= dim <= teacher.dim:
        raise ValueError(f"dim is {dim}, expected 1 to {teacher.dim}, the teacher's")
    vocabulary = tokenizer.vocabulary
    found = np.zeros((tokenizer.vocab_size, teacher.dim), np.float32)
    # Ids that no token has keep a zero row.
    found[list(vocabulary.values())] = token_vectors(teacher, list(vocabulary))
    weights = np.zeros(len(found), np.float32) if frequencies is None else sif_log_weights(frequencies, a)
    return Start(tokenizer, principal_embeddings(found, dim), weights)


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
    """Returns rows of a plain average, (V, dim) float32: a transformer's input embeddings on their principal axes.

    Of several teachers, the first is used. Tokens that the teacher's vocabulary lacks get zero rows.

    Raises:
        ValueError: The teacher has no input embeddings, or none of any token here, or they are shorter
            than ``dim``.
    """
    try:
        transformer = first_transformer(teacher)
    except ValueError as error:
        raise ValueError(f"average_dim needs the input embeddings of a transformer: {error}") from error
    vocabulary, table = transformer.vocabulary, transformer.token_embeddings()
    shared = {token: i for token, i in tokenizer.vocabulary.items() if token in vocabulary}
    if not shared:
        raise ValueError(f"the teacher knows none of {tokenizer.vocab_size} tokens, expected at least one")
    average = np.zeros((tokenizer.vocab_size, dim), np.float32)
    average[list(shared.values())] = principal_embeddings(table[[vocabulary[token] for token in shared]], dim)
    return average


def _reachable(words: list[str], lowercase: bool) -> list[str]:
    # The words that the tokenizer gives back whole. A word that it changes or splits is never met.
    if not words:
        return []
    tokenizer = _word_tokenizer(words, lowercase, skip_unknown=True)
    ids, ends, counts = tokenizer.encode(words)
    last = ids[np.maximum(ends - 1, 0)] if len(ids) else np.full(len(words), -1)
    kept = (counts == 1) & (last == np.arange(len(words)))
    return [word for word, keep in zip(words, kept, strict=True) if keep]


def _word_tokenizer(words: list[str], lowercase: bool, *, skip_unknown: bool) -> Tokenizer:
    vocabulary = {word: index for index, word in enumerate(words)}
    model = {"type": "WordLevel", "unk_token": _UNKNOWN, "vocab": vocabulary}
    spec = {"version": "1.0", "added_tokens": [], **splitter_spec(lowercase), "model": model}
    return Tokenizer(json.dumps(spec, ensure_ascii=False), skip_unknown=skip_unknown)
