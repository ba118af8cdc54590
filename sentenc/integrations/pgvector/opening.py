"""Connections to a database, and the encoders of an index that is opened from one."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import psycopg

from sentenc.encoders.base import Encoder
from sentenc.encoders.lazy import LazyEncoder
from sentenc.errors import IndexMismatchError
from sentenc.integrations.pgvector.settings import Settings
from sentenc.retrieval.index_encoders import IndexEncoders
from sentenc.retrieval.validation import load_encoder, shares_space
from sentenc.tokenization.analysis import stemmer_version


@contextmanager
def connected(source: Any) -> Iterator[tuple[Any, Any]]:
    """Yields a connection or pool, and the connection that was opened here from a string, or None.

    The latter is closed after an error.

    Args:
        source: A connection string, a connection of psycopg or a pool of connections.

    Raises:
        TypeError: It is something else.
    """
    if isinstance(source, str):
        connection = psycopg.connect(source, autocommit=True)
        try:
            yield connection, connection
        except BaseException:
            connection.close()
            raise
        return
    if not isinstance(source, psycopg.Connection) and not callable(getattr(source, "connection", None)):
        raise TypeError(
            f"connection is {type(source).__name__}, expected a connection string, a psycopg.Connection or a "
            "ConnectionPool"
        )
    yield source, None


def check_stemmer(settings: Settings, name: str) -> None:
    """Warns if other stemmers than the installed ones built an index."""
    stemmer = None if settings.words is None else settings.words["stemmer"]
    if stemmer is not None and stemmer != stemmer_version():
        warnings.warn(
            f"{name} was built with PyStemmer {stemmer}, but {stemmer_version()} is installed: a few words may not "
            "be found. upsert() analyzes texts anew",
            stacklevel=3,
        )


def opened_encoders(
    settings: Settings,
    name: str,
    encoder: Encoder | str | os.PathLike[str] | Literal[False] | None,
    force: bool,
) -> IndexEncoders:
    """Returns the encoders of an index; see :meth:`~sentenc.integrations.pgvector.PgVectorIndex.open`.

    Raises:
        IndexMismatchError: ``encoder`` has another space. Encoders that are loaded later raise this error then.
    """
    if encoder is False:
        return IndexEncoders()
    if encoder is not None:
        return IndexEncoders.of(_checked(encoder, settings.encoder, settings.dim, name, force))
    items, queries = (
        None
        if described is None or described["model"] is None
        else LazyEncoder(partial(_stored, described, settings.dim, name, force))
        for described in (settings.encoder, settings.query_encoder)
    )
    return IndexEncoders(items, queries, unnamed=items is None and settings.encoder is not None)


def _checked(
    encoder: Encoder | str | os.PathLike[str], built: dict[str, Any] | None, dim: int, name: str, force: bool
) -> Encoder | None:
    model, loaded = load_encoder(encoder)
    if loaded is None or force:
        return loaded
    if built is not None and not shares_space(loaded, built, dim):
        raise IndexMismatchError(
            f"{name} was built by {built['model'] or 'an encoder'} of space {built['space']}, but "
            f"{model or 'this encoder'} has the space {loaded.space}: their vectors are not comparable "
            "(force=True overrides)"
        )
    if loaded.dim < dim:
        raise IndexMismatchError(
            f"{name} has vectors of {dim} dimensions, but those of the encoder have {loaded.dim}"
        )
    return loaded


def _stored(described: dict[str, Any], dim: int, name: str, force: bool) -> Encoder:
    _, loaded = load_encoder(described["model"], described.get("options"))
    if loaded is None:
        raise IndexMismatchError(
            f"{name} was built by an encoder without a name: pass it to PgVectorIndex.open()"
        )
    checked = _checked(loaded, described, dim, name, force)
    return loaded if checked is None else checked
