"""Applications of tiny encoders, called in this process. Tests can connect to this machine only."""

import socket
import time
from contextlib import ExitStack

import pytest

from tests.support.models import make_cse

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
httpx = pytest.importorskip("httpx")

SENTENCES = [
    "a man is playing the guitar",
    "someone plays an instrument",
    "the stock market fell",
    "dog and cat",
    "crème 東京 привет",
    "not good at all",
]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    connect = socket.socket.connect

    def only_loopback(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
            raise AssertionError(f"a test tried to open a connection to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_loopback)


def wait_until(condition):
    """Waits until a condition holds, for at most a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def samples_of(exposition):
    """Returns the values of metrics in Prometheus' text format, by their names and sets of labels."""
    from prometheus_client.parser import text_string_to_metric_families

    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def wait_until_ready(client):
    wait_until(lambda: client.get("/ready").status_code == 200)


@pytest.fixture
def anyio_backend():
    """The event loop of tests that are marked with ``anyio``."""
    return "asyncio"


@pytest.fixture(scope="session")
def tiny():
    return make_cse()


@pytest.fixture
def client_of():
    """Returns a function that starts an application and returns a client of it, without a network."""
    from starlette.testclient import TestClient

    from sentenc.serving import ServerConfig, create_app

    with ExitStack() as stack:

        def make(encoders, indexes=None, classifiers=None, **settings):
            app = create_app(encoders, indexes or {}, ServerConfig(**settings), classifiers=classifiers)
            return stack.enter_context(TestClient(app))

        yield make


@pytest.fixture
def client(client_of, tiny):
    return client_of({"tiny": tiny})
