"""The settings and statistics of an index in PostgreSQL."""

from dataclasses import dataclass
from typing import Any

from sentenc.retrieval.moments import Moments


@dataclass(frozen=True)
class Settings:
    """The settings of an index, which its row of the metadata table contains.

    Attributes:
        dim: Number of dimensions of the vectors.
        metric: ``"cosine"`` or ``"dot"``.
        kind: ``"exact"`` or ``"hnsw"``.
        store: Number type of the vectors.
        id_type: ``"int"`` or ``"str"``.
        encoder: As in :class:`~sentenc.retrieval.manifest.Manifest`.
        query_encoder: The encoder of queries, if it is another one.
        words: As in the manifest.
    """

    dim: int
    metric: str
    kind: str
    store: str
    id_type: str
    encoder: dict[str, Any] | None
    query_encoder: dict[str, Any] | None
    words: dict[str, Any] | None


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of a table, as of the last analysis.

    Attributes:
        n: Number of rows.
        n_texts: Number of rows with a text.
        mean_words: Mean number of terms of a text.
        moments: Moments of the vectors, or of a sample; empty if texts are not searched by words.
        version: A number that changes with every analysis.
    """

    n: int
    n_texts: int
    mean_words: float
    moments: Moments
    version: int
