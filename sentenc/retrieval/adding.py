"""Items that are added to an index or replaced: their passages, vectors and ids."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.encoders.lazy import LazyEncoder
from sentenc.retrieval.chunking import Chunking, Span, check_chunking, passage_spans
from sentenc.retrieval.encoding import item_vectors
from sentenc.retrieval.items import Id, Payload
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.quantization import FloatArray, plain
from sentenc.retrieval.rerank_vectors import RerankVectors
from sentenc.retrieval.segments import Segment
from sentenc.retrieval.snapshot import Snapshot
from sentenc.tokenization.analysis import Analyzer

ChunkTokens = int | Literal["auto"] | None


@dataclass(frozen=True, eq=False)
class NewItems:
    """n items with m passages, before they have ids.

    Attributes:
        vectors: (m, d) float32.
        texts: n texts, or None for vectors alone.
        spans: The spans of the passages of each item; None if every item has one vector.
        chunking: The settings by which texts are divided from now on; None if they are not.
    """

    vectors: FloatArray
    texts: Sequence[str | None] | None
    spans: Sequence[Sequence[Span]] | None
    chunking: Chunking | None

    def __len__(self) -> int:
        return len(self.vectors) if self.spans is None else len(self.spans)


def read_items(
    texts: list[str] | None,
    vectors: npt.ArrayLike | None,
    source: LazyEncoder | None,
    manifest: Manifest,
    chunk_tokens: ChunkTokens = None,
    overlap: int | None = None,
) -> NewItems:
    """Divides texts into passages, if they are to be divided, and encodes them.

    Args:
        texts: n texts, or None.
        vectors: (n, dim) numbers, or None to encode the texts.
        source: The encoder of the index's items, or None. Vectors of whole texts do not need it.
        manifest: Settings of the index.
        chunk_tokens: As for :meth:`sentenc.Index.add`.
        overlap: As for :meth:`sentenc.Index.add`.

    Raises:
        ValueError: Neither texts nor vectors were passed, they do not fit, or an option is out of range.
    """
    chunking = None if manifest.chunking is None else Chunking(**manifest.chunking)
    if vectors is not None and (chunk_tokens is not None or overlap is not None):
        raise ValueError("vectors were passed for whole texts: pass texts alone to divide them into passages")
    if chunk_tokens is not None or overlap is not None:
        chunking = read_chunking(chunk_tokens, overlap, None if source is None else source.encoder, chunking)
    if texts is None or vectors is not None or chunking is None or source is None:
        return NewItems(item_vectors(texts, vectors, source, manifest), texts, None, chunking)
    spans = passage_spans(texts, source.encoder, chunking)
    passages = [text[a:b] for text, own in zip(texts, spans, strict=True) for a, b in own]
    return NewItems(item_vectors(passages, None, source, manifest), texts, spans, chunking)


def read_chunking(
    chunk_tokens: ChunkTokens, overlap: int | None, encoder: Encoder | None, default: Chunking | None
) -> Chunking | None:
    """Returns the settings that a caller passed, or the default ones; None if texts are not divided.

    Raises:
        ValueError: An argument is out of range, or ``overlap`` was passed alone.
    """
    if chunk_tokens is None:
        if overlap is None:
            return default
        if default is None:
            raise ValueError(f"overlap is {overlap} without chunk_tokens, expected both or neither")
        chunk_tokens = default.tokens
    return check_chunking(chunk_tokens, overlap, encoder)


def stored_items(snapshot: Snapshot, rows: npt.NDArray[np.int64], manifest: Manifest) -> NewItems:
    """Returns the items whose first rows (n,) are given as they are stored."""
    groups = snapshot.item_rows(rows)
    all_rows = np.concatenate([np.zeros(0, np.int64), *groups])
    texts = [item.text for item in snapshot.items(rows)]
    flat = iter(snapshot.spans(all_rows))
    spans = [
        [next(flat) or (0, len(text or "")) for _ in own] for text, own in zip(texts, groups, strict=True)
    ]
    chunking = None if manifest.chunking is None else Chunking(**manifest.chunking)
    return NewItems(snapshot.vectors(all_rows), texts, spans, chunking)


def new_segment(
    new: NewItems,
    ids: list[Id] | None,
    payloads: Sequence[Payload],
    manifest: Manifest,
    analyzer: Analyzer | None,
    reranker: Encoder | None,
) -> Segment:
    """Creates the segment of new items.

    Args:
        new: n items, at least one.
        ids: Their ids; None takes the next ones.
        payloads: n payloads.
        manifest: Settings of the index.
        analyzer: Analyzer of the texts, or None.
        reranker: The encoder whose vectors are stored, or None.

    Raises:
        ValueError: There are not enough integers of 64 bits left for the ids.
    """
    first = manifest.next_id
    if ids is None and first + len(new) > 2**63:
        raise ValueError(
            f"the next id is {first}, and {len(new)} items need one each, expected at most {2**63 - 1}: pass ids"
        )
    names = list(range(first, first + len(new))) if ids is None else ids
    texts = new.texts or [None] * len(new)
    segment = Segment.create(
        new.vectors, plain(manifest.dim), names, texts, payloads, first if ids is None else None, analyzer,
        new.spans,
    )  # fmt: skip
    if reranker is not None:
        segment = with_rerank_vectors(segment, reranker)
    return segment


def note_addition(manifest: Manifest, new: NewItems, ids: list[Id] | None) -> None:
    """Sets the next id and how texts are divided from now on, after items were added."""
    if ids is None:
        manifest.next_id += len(new)
    # Ids that are assigned later never equal one that was passed.
    highest = max((name for name in ids or () if not isinstance(name, str)), default=-1)
    manifest.next_id = max(manifest.next_id, highest + 1)
    manifest.chunking = None if new.chunking is None else new.chunking.to_dict()


def with_rerank_vectors(
    segment: Segment, encoder: Encoder, deleted: npt.NDArray[np.bool_] | None = None
) -> Segment:
    """Returns a segment with the vectors of a reranker; it is not saved.

    Args:
        segment: m rows.
        encoder: The reranker.
        deleted: Whether each row is deleted, (m,) bool; None if none is. Their texts are not encoded.

    Raises:
        ValueError: An item has no text and is not deleted.
    """
    texts = []
    for row, text in enumerate(segment.passage_texts()):
        if deleted is not None and deleted[row]:
            text = ""
        if text is None:
            raise ValueError(f"the item {segment.item(row).id!r} has no text, which a reranker needs")
        texts.append(text)
    return segment.with_rerank(RerankVectors.of(texts, encoder).as_float16())


def with_reranker(snapshot: Snapshot, encoder: Encoder | None) -> Snapshot:
    """Returns the same items with the vectors of a reranker, or without any."""
    if encoder is None:
        bare = tuple(segment.with_rerank(None) for segment in snapshot.segments)
        return replace(snapshot, segments=bare, reranker=None)
    segments = tuple(
        with_rerank_vectors(segment, encoder, snapshot.deleted[start : start + len(segment)])
        for segment, start in zip(snapshot.segments, snapshot.starts.tolist(), strict=True)
    )
    return replace(snapshot, segments=segments, reranker=encoder.fingerprint())
