"""The encoders of an index: that of its items, and a faster one for its queries."""

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from sentenc.encoders.base import Encoder
from sentenc.encoders.lazy import LazyEncoder, Loaded
from sentenc.encoders.pair import PairEncoder
from sentenc.encoders.pair_folder import DOCUMENTS, QUERIES
from sentenc.errors import IndexMismatchError
from sentenc.retrieval.encoding import Queries
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.validation import check_choice, matching_encoder, query_encoder
from sentenc.retrieval.words import hybrid_alpha, stored_alpha

Speed = Literal["fast", "exact"]
SPEEDS = get_args(Speed)


@dataclass(frozen=True)
class QueryEncoder:
    """The encoder of the queries of a search, loaded when it is first used.

    Attributes:
        source: The encoder.
        speed: ``"fast"`` if the encoder is another one than that of the items, ``"exact"`` if it is the same.
        weighs: The encoder whose metadata have the weight of the vectors in hybrid search; None takes the weight
            that the index stores.
    """

    source: LazyEncoder
    speed: Speed
    weighs: LazyEncoder | None = None

    @property
    def encoder(self) -> Encoder:
        """The encoder."""
        return self.source.encoder

    def alpha(self, words: dict[str, Any] | None) -> float:
        """Returns the weight of the vectors in hybrid search; ``words`` are the settings of the index."""
        if self.weighs is not None:
            return hybrid_alpha(self.weighs.encoder)
        return stored_alpha(words)


@dataclass(frozen=True)
class IndexEncoders:
    """The encoders of an index. Each is loaded when it is first used.

    Attributes:
        items: The encoder of items; None for an index of vectors alone. If it is a pair, its halves encode the
            queries.
        queries: Another encoder for queries, or None.
        unnamed: Whether the items were encoded by an encoder that cannot be loaded, because it has no name, and
            that was not passed.
    """

    items: LazyEncoder | None = None
    queries: LazyEncoder | None = None
    unnamed: bool = False

    @classmethod
    def of(cls, encoder: Encoder | None) -> "IndexEncoders":
        """Returns the encoders of an index whose items have this encoder."""
        return cls(None if encoder is None else LazyEncoder(Loaded(encoder)))

    def speeds(self) -> list[Speed]:
        """Returns how queries can be encoded, the default first."""
        is_pair = self.queries is None and self._pair() is not None
        fast: list[Speed] = ["fast"] if self.queries is not None or is_pair else []
        return fast + (["exact"] if self.items is not None else [])

    def for_queries(self, speed: Speed | None) -> QueryEncoder | None:
        """Returns the encoder of queries.

        Args:
            speed: ``"fast"``: the encoder of queries. ``"exact"``: that of the items. None: the fast one if there
                is one.

        Returns:
            None if the index has no encoder, and none is asked for.

        Raises:
            ValueError: There is no such encoder.
        """
        if speed is not None:
            check_choice("queries", speed, SPEEDS)
        if speed != "exact":
            if self.queries is not None:
                return QueryEncoder(self.queries, "fast", self.queries)
            if (pair := self._pair()) is not None:
                # The metadata of a pair have the weight for its fast queries.
                return QueryEncoder(pair.halves[QUERIES], "fast", self.items)
        if speed == "fast":
            raise ValueError(
                "queries is 'fast', but the index has no encoder of queries: set_query_encoder() sets one"
            )
        if self.items is None:
            if speed == "exact":
                raise ValueError(
                    "queries is 'exact', but the index has no encoder of its items: open it with encoder=..."
                )
            return None
        if (pair := self._pair()) is not None:
            return QueryEncoder(pair.halves[DOCUMENTS], "exact", pair.halves[DOCUMENTS])
        return QueryEncoder(self.items, "exact")

    def check_mode(self, mode: str | None, queries: Queries) -> None:
        """Raises ValueError if a search would silently be one by words alone, because the encoder is missing."""
        is_missing = self.unnamed and self.queries is None and self.items is None
        if is_missing and mode is None and queries.vectors is None:
            raise ValueError(
                "the encoder of the index has no name, so it was not loaded: open the index with "
                "encoder=..., or search by words alone with mode='lexical'"
            )

    def encoder_of_queries(self, speed: Speed) -> Encoder:
        """Returns the encoder of fast or exact queries; raises ValueError if there is none."""
        chosen = self.for_queries(speed)
        if chosen is None:
            raise ValueError(f"speed is {speed!r}, expected one of {', '.join(SPEEDS)}")
        return chosen.encoder

    def _pair(self) -> PairEncoder | None:
        encoder = None if self.items is None else self.items.encoder
        return encoder if isinstance(encoder, PairEncoder) else None


def opened_encoders(
    folder: Path,
    manifest: Manifest,
    encoder: Encoder | str | os.PathLike[str] | Literal[False] | None,
    force: bool,
    threads: int | None = None,
) -> IndexEncoders:
    """Returns the encoders of an index that is opened from its folder.

    Args:
        folder: The folder.
        manifest: Settings of the index.
        encoder: The encoder of items, as for :meth:`sentenc.Index.open`.
        force: As for :meth:`sentenc.Index.open`.
        threads: The number of threads of encoders that are loaded.

    Raises:
        IndexMismatchError: ``encoder`` is another one than that of the items. Encoders that are loaded later raise
            this error then.
    """
    if encoder is False:
        return IndexEncoders()
    described = manifest.query_encoder
    if encoder is not None or described is None or described["model"] is None:
        encoders = IndexEncoders.of(matching_encoder(folder, manifest, encoder, force, threads))
        return replace(encoders, unnamed=encoders.items is None and manifest.encoder is not None)
    queries = LazyEncoder(partial(query_encoder, folder, described, manifest.dim, threads))
    if manifest.encoder is None or manifest.encoder["model"] is None:
        return IndexEncoders(None, queries, unnamed=manifest.encoder is not None)
    return IndexEncoders(LazyEncoder(partial(_item_encoder, folder, manifest, force, threads)), queries)


def _item_encoder(folder: Path, manifest: Manifest, force: bool, threads: int | None) -> Encoder:
    encoder = matching_encoder(folder, manifest, None, force, threads)
    if encoder is None:
        raise IndexMismatchError(f"{folder} was built by an encoder without a name: pass it to Index.open()")
    return encoder
