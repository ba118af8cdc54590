"""An index in a PostgreSQL database with the extension pgvector."""

from sentenc.errors import MissingExtraError

try:
    import psycopg  # noqa: F401
except ImportError as error:
    raise MissingExtraError("pgvector", "psycopg", "an index in PostgreSQL") from error

from sentenc.integrations.pgvector.index import PgVectorIndex

__all__ = ["PgVectorIndex"]
