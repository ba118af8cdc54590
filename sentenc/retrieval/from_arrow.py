"""The encoder and the items of an Arrow table, as an index stores them."""

import math
import os
from typing import Any, Literal

from sentenc.encoders.base import Encoder
from sentenc.errors import IndexMismatchError, ModelNotFoundError
from sentenc.retrieval.adding import NewItems
from sentenc.retrieval.arrow import TableItems
from sentenc.retrieval.arrow_metadata import described_chunking, described_encoder_of
from sentenc.retrieval.encoding import MAX_FLOAT16
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.validation import check_vectors, load_encoder, shares_space


def table_encoder(
    items: TableItems, encoder: Encoder | str | os.PathLike[str] | Literal[False] | None, force: bool
) -> tuple[Encoder | None, dict[str, Any] | None]:
    """Returns the encoder of a table, and what the manifest states about it.

    Args:
        items: The items of the table.
        encoder: As for :meth:`sentenc.Index.from_arrow`.
        force: Accept an encoder of another space.

    Returns:
        The encoder, or None; and the description in the schema, None if there is none.

    Raises:
        IndexMismatchError: The encoder has another space than the vectors.
        ModelNotFoundError: The model that the schema states cannot be loaded by its name.
    """
    described = described_encoder_of(items.described)
    if encoder is False or (encoder is None and (described is None or described["model"] is None)):
        return None, described
    if encoder is None and described is not None:
        try:
            name, loaded = load_encoder(described["model"], described.get("options"))
        except ModelNotFoundError as error:
            raise ModelNotFoundError(
                f"the table has vectors of {described['model']}, which cannot be found: pass the encoder, or "
                f"encoder=False for none. {error}"
            ) from error
    else:
        name, loaded = load_encoder(encoder or None)
    width = items.vectors.shape[1]
    if loaded is None or described is None or force:
        return loaded, described
    if not shares_space(loaded, described, width):
        raise IndexMismatchError(
            f"the table has vectors of {described['model'] or 'an encoder'} of space "
            f"{described.get('space', described['fingerprint'])}, but {name or 'the encoder'} has the space "
            f"{loaded.space}: their vectors are not comparable (force=True overrides)"
        )
    return loaded, described


def items_of_table(items: TableItems, manifest: Manifest) -> NewItems:
    """Returns the items of a table as an index adds them, with the leading components of their vectors.

    Raises:
        ValueError: A vector is not finite, exceeds the range of the store, or has too few components; or the
            schema has a wrong ``chunking``.
    """
    width = items.vectors.shape[1]
    if width < manifest.dim:
        raise ValueError(
            f"the vectors of the table have {width} components, expected at least {manifest.dim}"
        )
    # The vectors of an index of this metric are stored as they are, so that searches remain equal.
    is_stored = items.stored_metric == manifest.metric and width == manifest.dim
    limit = MAX_FLOAT16 if manifest.store == "float16" else math.inf
    vectors = check_vectors(
        "vectors",
        items.vectors[:, : manifest.dim],
        manifest.dim,
        manifest.metric == "cosine" and not is_stored,
        limit,
    )
    texts = items.texts
    for i, text in enumerate(texts or ()):
        if text is not None and not isinstance(text, str):
            raise TypeError(f"texts[{i}] is {type(text).__name__}, expected str")
    if texts is not None and all(text is None for text in texts):
        texts = None
    return NewItems(vectors, texts, items.spans, described_chunking(items.described))
