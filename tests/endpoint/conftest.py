"""A stand-in server for the tests of an OpenAI-compatible endpoint."""

import socket

import pytest

from sentenc.encoders import endpoint_client
from tests.support.embeddings_server import KEY, loopback_only, stand_in_server, word_vectors

CONNECT = socket.socket.connect
TEXTS = ["a man plays the guitar", "someone plays an instrument", "the stock market fell", "dogs and cats"]
ENCODE = word_vectors(8)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", loopback_only(CONNECT))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    # Servers without Retry-After are asked again at once.
    monkeypatch.setattr(endpoint_client, "_FIRST_WAIT", 0.0)


@pytest.fixture
def server():
    with stand_in_server(ENCODE) as stand_in:
        yield stand_in
