"""A pair: two encoders of one space, one for documents and one for queries."""

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.checkpoint import PAIR, Checkpoint
from sentenc.encoders.base import Encoder
from sentenc.encoders.fingerprints import digest
from sentenc.encoders.pair_folder import DOCUMENTS, QUERIES, Half, write_pair
from sentenc.encoders.roles import Role
from sentenc.errors import CheckpointError
from sentenc.texts import describe
from sentenc.validation import check_choice


class PairEncoder(Encoder):
    """Two encoders of one space: one for documents, and usually a faster one for queries.

    :meth:`encode_document` uses the encoder of documents and :meth:`encode_query` that of queries, each with its own
    prompt. :meth:`encode`, :meth:`count_tokens`, :attr:`max_tokens` and :attr:`prompts` are those of documents.
    Vectors have the ``similarity_dim`` components of queries. Features for classifiers, which two encoders do not
    share, are left out; and so are the last components of documents if the encoder of queries was fitted to the
    first. Each encoder of a saved pair is loaded when it is first used.

    >>> pair = sentenc.pair(documents="documents-folder", queries="queries-folder")
    >>> pair.encode_query("a question") @ pair.encode_document(["an answer", "another"]).T

    Args:
        documents: The encoder of documents.
        queries: The encoder of queries.
        metadata: Name, sources and scores, stored in the model folder. By default the language of the documents'
            encoder and the ``hybrid_alpha`` of the queries' encoder, if they state them.
        card: The model card, Markdown.
        shipped: The names of the shipped models that the encoders are; None for another encoder.

    Raises:
        TypeError: An argument is not an encoder, or is a pair.
        ValueError: The encoders have different spaces or numbers of components.
    """

    def __init__(
        self,
        documents: Encoder,
        queries: Encoder,
        *,
        metadata: dict[str, Any] | None = None,
        card: str | None = None,
        shipped: tuple[str | None, str | None] = (None, None),
    ) -> None:
        for name, encoder in ((DOCUMENTS, documents), (QUERIES, queries)):
            if not isinstance(encoder, Encoder) or isinstance(encoder, PairEncoder):
                raise TypeError(f"{name} is {describe(encoder)}, expected an Encoder that is not a pair")
        # A model that was fitted to the leading components of a space states how many of them.
        dim = queries.similarity_dim
        is_leading = queries.space == f"{documents.space}[:{dim}]" and dim <= documents.similarity_dim
        if documents.space != queries.space and not is_leading:
            raise ValueError(
                f"documents is {_named(documents)} of space {documents.space!r}, and queries is "
                f"{_named(queries)} of space {queries.space!r}, expected two encoders of one space"
            )
        if documents.similarity_dim != dim and not is_leading:
            raise ValueError(
                f"documents is {_named(documents)} with {documents.similarity_dim} components to compare, and "
                f"queries is {_named(queries)} with {dim}, expected the same number"
            )
        if metadata is None:
            stated = {"language": documents.metadata, "hybrid_alpha": queries.metadata}
            metadata = {name: values[name] for name, values in stated.items() if name in values}
        halves = Half.of(documents, shipped[0]), Half.of(queries, shipped[1])
        self._set(*halves, dim, queries.space, metadata, card)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, halves: Mapping[str, Half]) -> "PairEncoder":
        """Creates a pair from the content of its folder, and its halves by the names "documents" and "queries".

        Raises:
            CheckpointError: The configuration is damaged.
        """
        dim, space = checkpoint.config.get("dim"), checkpoint.config.get("space")
        if not isinstance(dim, int) or not isinstance(space, str):
            raise CheckpointError(
                f"config.json has dim {dim!r} and space {space!r}, expected an integer and a string"
            )
        pair = cls.__new__(cls)
        pair._set(halves[DOCUMENTS], halves[QUERIES], dim, space, checkpoint.metadata, checkpoint.card)
        return pair

    def _set(
        self,
        documents: Half,
        queries: Half,
        dim: int,
        space: str,
        metadata: dict[str, Any],
        card: str | None,
    ) -> None:
        self.halves: Mapping[str, Half] = {DOCUMENTS: documents, QUERIES: queries}
        self._dim, self._space = dim, space
        self.metadata, self.card = metadata, card

    @property
    def documents(self) -> Encoder:
        """The encoder of documents."""
        return self.halves[DOCUMENTS].encoder

    @property
    def queries(self) -> Encoder:
        """The encoder of queries."""
        return self.halves[QUERIES].encoder

    @property
    def dim(self) -> int:
        """The number of components of a vector: the ``similarity_dim`` of the encoder of queries."""
        return self._dim

    @property
    def max_tokens(self) -> int:
        """The number of tokens of a document that are used. The encoder of queries has its own."""
        return int(self.halves[DOCUMENTS].described["max_tokens"])

    @property
    def prompts(self) -> Mapping[str, str]:
        """The prompts of the encoder of documents, read-only. Those of queries belong to the other encoder."""
        return MappingProxyType(self.halves[DOCUMENTS].described["prompts"])

    @property
    def _reads_utf8(self) -> bool:  # type: ignore[override]
        return self.documents._reads_utf8

    @property
    def space(self) -> str:
        """The identifier of the space of both encoders."""
        return self._space

    def for_role(self, role: Role) -> tuple[Encoder, str | None]:
        """Returns the encoder of a role, ``"query"`` or ``"document"``, and the name of its prompt."""
        check_choice("role", role, ("query", "document"))
        return (self.queries if role == "query" else self.documents).for_role(role)

    def count_tokens(self, texts: Any) -> npt.NDArray[np.int64]:
        """Counts the tokens of each text as a document: shape (n,), int64."""
        return self.documents.count_tokens(texts)

    def fingerprint(self) -> str:
        """Returns a short hash of the fingerprints of both encoders.

        Encoders that were loaded with another ``compute`` than the stored one have other fingerprints.
        """
        names = [self.halves[name].fingerprint for name in (DOCUMENTS, QUERIES)]
        return digest([name.encode() for name in (*names, str(self._dim))])

    def save(self, folder: str | os.PathLike[str], *, references: bool = False) -> None:
        """Writes a folder with both encoders and golden vectors. It is replaced completely or not at all.

        If the encoder of queries is a CSE of words alone and that of documents a BERT, sentence-transformers (6.2 or
        later) loads the folder as its ``Router``. Its vectors have the same directions.

        Args:
            folder: The folder to write.
            references: Write the name and fingerprint of an encoder that is a shipped model, and no copy of it. The
                folder then needs a version of sentenc that ships this model, and sentence-transformers cannot load
                it. A shipped model with another ``compute`` is copied.

        Raises:
            CheckpointError: ``folder`` exists and is not a model folder.
        """
        checkpoint = Checkpoint(
            kind=PAIR, config={"dim": self._dim, "space": self._space}, tensors={}, tokenizer="", golden={},
            metadata=dict(self.metadata), card=self.card,
        )  # fmt: skip
        write_pair(folder, checkpoint, self.halves, references)

    def _encode_block(
        self, texts: list[str], batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        return _leading(self.documents, self.documents._encode_block, texts, batch_size, out)

    def _encode_prompted_block(
        self, texts: list[str], prompt: str, batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        def encode(items: list[str], size: int, into: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
            return self.documents._encode_prompted_block(items, prompt, size, into)

        return _leading(self.documents, encode, texts, batch_size, out)

    def _block_size(self, batch_size: int) -> int:
        return self.documents._block_size(batch_size)


def _leading(
    encoder: Encoder,
    encode: Callable[[list[str], int, npt.NDArray[np.float32]], npt.NDArray[np.int64]],
    texts: list[str],
    batch_size: int,
    out: npt.NDArray[np.float32],
) -> npt.NDArray[np.int64]:
    # Writes the leading components of the vectors into out (n, dim) and returns the token counts (n,).
    dim = out.shape[1]
    if encoder.dim == dim:
        return encode(texts, batch_size, out)
    vectors = np.empty((len(texts), encoder.dim), np.float32)
    counts = encode(texts, batch_size, vectors)
    out[...] = vectors[:, :dim]
    return counts


def _named(encoder: Encoder) -> str:
    name = encoder.metadata.get("name") or getattr(encoder, "name", None)
    return f"{type(encoder).__name__} {name!r}" if name else f"a {type(encoder).__name__}"
