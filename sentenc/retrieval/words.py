"""The settings of lexical search in an index: language, stemmer, and the weight of the vectors."""

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from sentenc.encoders.base import Encoder
from sentenc.encoders.hybrid.encoder import HybridEncoder
from sentenc.encoders.pair import PairEncoder
from sentenc.encoders.table_encoder import TableEncoder
from sentenc.errors import IndexFormatError
from sentenc.retrieval.manifest import MANIFEST
from sentenc.retrieval.snapshot import Snapshot
from sentenc.tokenization.analysis import (
    UNDETERMINED,
    Analyzer,
    check_language,
    has_stemmer,
    stemmer_version,
)

#: Weights of the vectors in hybrid search for encoders whose metadata state none: for word vectors and n-grams, and
#: for all others, such as transformers. They were chosen on development sets (docs/benchmarks/retrieval.md).
TABLE_ALPHA = 0.4
DEFAULT_ALPHA = 0.6


def word_settings(language: str | None, encoder: Encoder | None) -> dict[str, Any]:
    """Returns the settings that the manifest stores.

    Args:
        language: Language of the texts; by default that of the encoder's metadata.
        encoder: The encoder of the index, or None.

    Raises:
        ValueError: ``language`` is not a code of ISO 639.
    """
    metadata = getattr(encoder, "metadata", None)
    metadata = metadata if isinstance(metadata, dict) else {}
    if language is None:
        described = metadata.get("language")
        is_code = isinstance(described, str) and re.fullmatch("[a-z]{2,3}", described)
        language = str(described) if is_code else UNDETERMINED
    stemmer = stemmer_version() if has_stemmer(check_language(language)) else None
    return {"language": language, "stemmer": stemmer, "alpha": hybrid_alpha(encoder)}


def hybrid_alpha(encoder: Encoder | None) -> float:
    """Returns the weight of an encoder's vectors in hybrid search: that of its metadata, or the default of its kind."""
    metadata = getattr(encoder, "metadata", None)
    if isinstance(metadata, dict) and "hybrid_alpha" in metadata:
        return float(metadata["hybrid_alpha"])
    searching = encoder.queries if isinstance(encoder, PairEncoder) else encoder
    if isinstance(searching, HybridEncoder):
        searching = searching.encoder
    return TABLE_ALPHA if isinstance(searching, TableEncoder) else DEFAULT_ALPHA


def stored_alpha(settings: dict[str, Any] | None) -> float:
    """Returns the weight of the vectors in hybrid search that an index stores."""
    return float((settings or {}).get("alpha", 1.0))


def opened_analyzer(folder: Path, settings: dict[str, Any] | None) -> Analyzer | None:
    """Returns the analyzer of an index folder; warns if other stemmers than the installed ones built it.

    Raises:
        IndexFormatError: The language is no code of ISO 639.
    """
    if settings is None:
        return None
    stemmer = settings["stemmer"]
    if stemmer is not None and stemmer != stemmer_version():
        warnings.warn(
            f"{folder} was built with PyStemmer {stemmer}, but {stemmer_version()} is installed: a few words may "
            "not be found. Call Index.index_words() and save() to index the words again",
            stacklevel=3,
        )
    try:
        return Analyzer(settings["language"])
    except ValueError as error:
        raise IndexFormatError(f"{folder / MANIFEST}: words.{error}") from error


def with_words(snapshot: Snapshot, analyzer: Analyzer) -> Snapshot:
    """Returns the same items with the postings of their texts and the moments of their vectors."""
    segments = tuple(segment.with_words(analyzer) for segment in snapshot.segments)
    has_words = any(segment.words is not None for segment in segments)
    return replace(snapshot, segments=segments, moments=snapshot.measured_moments if has_words else None)
