"""Chooses the texts of an alignment: queries, sentences of the collection, and texts for the report."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sentenc.retrieval.chunking import split_sentences
from sentenc.texts import as_text_list
from sentenc.training.alignment.settings import AlignmentSettings

# A shorter sentence is a heading or a remnant, and a longer one is no query.
_SENTENCE_WORDS = range(3, 61)
# At most this part of the texts is kept out of training.
_HELD_OUT_PART = 10
# With fewer texts, there is nothing to learn from and nothing to report on.
_FEWEST_TEXTS = 20


@dataclass(frozen=True, kw_only=True)
class AlignmentTexts:
    """The texts of an alignment, all of them distinct.

    Attributes:
        training: The texts to fit on, in random order.
        held_out: The texts kept out of training.
        documents: The documents of the collection that the report compares with.
        are_queries: Which of the training texts are queries, the others being sentences of the collection.
    """

    training: list[str]
    held_out: list[str]
    documents: list[str]
    are_queries: npt.NDArray[np.bool_]


def choose_texts(
    queries: Iterable[str],
    corpus: Iterable[str],
    settings: AlignmentSettings,
    *,
    excluded: Sequence[str] = (),
) -> AlignmentTexts:
    """Chooses the texts of an alignment.

    Queries come first, because the model is for queries. Sentences of the collection contain its words, and
    are all that there is without queries. The texts kept out are queries if there are enough of them.

    Args:
        queries: Queries, or texts like them.
        corpus: The documents of the collection.
        settings: The limits, and the seed.
        excluded: Texts that must not be used for training, such as the queries of judgments.

    Raises:
        TypeError: An item is no text.
        ValueError: There are too few texts.
    """
    rng = np.random.default_rng(settings.seed)
    documents = _distinct(as_text_list(corpus))
    forbidden = set(excluded)
    asked = [text for text in _distinct(as_text_list(queries)) if text not in forbidden]
    known = forbidden.union(asked)
    sentences = [
        text
        for text in _distinct(part for document in documents for part in split_sentences(document))
        if len(text.split()) in _SENTENCE_WORDS and text not in known
    ]
    limit = settings.max_texts
    if asked:
        # Queries have at least half of the texts, if there are as many.
        limit = min(settings.max_sentences, max(limit // 2, limit - len(asked)))
    sentences = _sample(sentences, limit, rng)
    asked = _sample(asked, settings.max_texts - len(sentences), rng)
    if len(asked) + len(sentences) < _FEWEST_TEXTS:
        raise ValueError(
            f"there are {len(asked)} queries and {len(sentences)} sentences of the collection, expected at "
            f"least {_FEWEST_TEXTS} texts"
        )
    # A few queries are worth more in training than as all that the report is about.
    source = asked if len(asked) >= min(_HELD_OUT_PART, len(sentences)) else sentences
    n_held_out = max(1, min(settings.held_out, len(source) // _HELD_OUT_PART))
    held_out = source[:n_held_out]
    del source[:n_held_out]
    training = asked + sentences
    order = rng.permutation(len(training))
    return AlignmentTexts(
        training=[training[i] for i in order],
        held_out=held_out,
        documents=_sample(documents, settings.max_documents, rng),
        are_queries=order < len(asked),
    )


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text.strip()))


def _sample(texts: list[str], size: int, rng: np.random.Generator) -> list[str]:
    # In random order.
    return [texts[i] for i in rng.permutation(len(texts))[:size]]
