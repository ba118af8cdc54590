"""Combines encoders: two to a pair, and one with word columns to a hybrid encoder."""

import os
import re
from collections.abc import Iterable
from typing import Any

from sentenc.encoders.base import Encoder
from sentenc.encoders.hybrid.encoder import DEFAULT_COLUMNS, DEFAULT_WEIGHT, HybridEncoder
from sentenc.encoders.hybrid.idf import InverseDocumentFrequencies
from sentenc.encoders.pair import PairEncoder
from sentenc.registry import load, shipped_name


def pair(
    documents: Encoder | str | os.PathLike[str],
    queries: Encoder | str | os.PathLike[str],
    *,
    metadata: dict[str, Any] | None = None,
    card: str | None = None,
) -> PairEncoder:
    """Makes a pair of two encoders of one space: one for documents, and usually a faster one for queries.

    >>> pair = sentenc.pair(documents="documents-folder", queries="queries-folder")
    >>> pair.save("pair-folder")

    Args:
        documents: The encoder of documents, or an argument of :func:`load`.
        queries: The encoder of queries, or an argument of :func:`load`.
        metadata: As for :class:`~sentenc.PairEncoder`.
        card: As for :class:`~sentenc.PairEncoder`.

    Raises:
        ModelNotFoundError: There is no model of this name.
        TypeError: An encoder is a pair.
        ValueError: The encoders have different spaces or numbers of components.
    """
    halves = [half if isinstance(half, Encoder) else load(half) for half in (documents, queries)]
    shipped = (shipped_name(documents), shipped_name(queries))
    return PairEncoder(halves[0], halves[1], metadata=metadata, card=card, shipped=shipped)


def hybrid(
    encoder: Encoder | str | os.PathLike[str],
    *,
    columns: int = DEFAULT_COLUMNS,
    word_weight: float = DEFAULT_WEIGHT,
    texts: Iterable[str] | None = None,
    language: str | None = None,
    metadata: dict[str, Any] | None = None,
    card: str | None = None,
) -> HybridEncoder | PairEncoder:
    """Adds columns for words to the vectors of an encoder, so that a search by vectors finds exact words.

    >>> encoder = sentenc.hybrid("tinybert6-en")
    >>> encoder.save("hybrid-folder")

    Args:
        encoder: An encoder, or an argument of :func:`load`. Both halves of a pair get the same columns.
        columns: The number of columns for words, a multiple of 8.
        word_weight: The weight of the words in a similarity, above 0 and below 1.
        texts: Texts on which the rarity of words is counted, such as the documents. By default that of English, which
            ships with the package.
        language: The language of the words, a code of ISO 639, which chooses the stemmer. By default that of the
            encoder's metadata, or English.
        metadata: As for :class:`~sentenc.HybridEncoder`, and for a pair as for :class:`~sentenc.PairEncoder`.
        card: The model card, Markdown.

    Returns:
        A :class:`~sentenc.HybridEncoder`; for a pair, a :class:`~sentenc.PairEncoder` of two.

    Raises:
        ModelNotFoundError: There is no model of this name.
        TypeError: The encoder is a hybrid encoder already, or ``texts`` or one of its items is not text.
        ValueError: ``columns``, ``word_weight`` or ``language`` is out of range, the language is not English and no
            texts were passed, or the halves of a pair have different numbers of components.
    """
    loaded = encoder if isinstance(encoder, Encoder) else load(encoder)
    options: dict[str, Any] = {"columns": columns, "word_weight": word_weight}
    options["idf"] = _idf(loaded, texts, language)
    if not isinstance(loaded, PairEncoder):
        return HybridEncoder(loaded, metadata=metadata, card=card, **options)
    dims = [half.similarity_dim for half in (loaded.documents, loaded.queries)]
    if dims[0] != dims[1]:
        raise ValueError(
            f"the documents of the pair have {dims[0]} components and its queries {dims[1]}, expected the same number"
        )
    halves = [HybridEncoder(half, **options) for half in (loaded.documents, loaded.queries)]
    if metadata is None and "hybrid_alpha" in loaded.metadata:
        metadata = {
            "language": halves[0].metadata["language"],
            "hybrid_alpha": loaded.metadata["hybrid_alpha"],
        }
    return PairEncoder(halves[0], halves[1], metadata=metadata, card=card)


def _idf(encoder: Encoder, texts: Iterable[str] | None, language: str | None) -> InverseDocumentFrequencies:
    if language is None:
        # Models that state no language are taken for English, as those that ship are.
        language = encoder.metadata.get("language") or "en"
        if not isinstance(language, str) or not re.fullmatch("[a-z]{2,3}", language):
            raise ValueError(
                f"the metadata of the model have the language {language!r}: pass language=..., a code of ISO 639"
            )
    if texts is not None:
        return InverseDocumentFrequencies.counted(texts, language)
    if language != "en":
        raise ValueError(
            f"the language is {language!r}, expected texts: the rarity of words ships for 'en' alone, and is counted "
            "on texts=... for others"
        )
    return InverseDocumentFrequencies.english()
