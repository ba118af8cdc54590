"""Runs the page on endpoints against a stand-in server. The test of all pages does not run it."""

import socket

import pytest

from tests.docs.test_code_blocks import ROOT, blocks, run_python, same_output
from tests.support.embeddings_server import KEY, loopback_only, stand_in_server, word_vectors

CONNECT = socket.socket.connect
PAGE = ROOT / "docs" / "guides" / "endpoints.md"
URL = "https://api.openai.com/v1"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", loopback_only(CONNECT))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def test_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    printed, compared = "", 0
    with stand_in_server(word_vectors(1536)) as server:
        for block in blocks(PAGE):
            if block.language == "python":
                printed = run_python(block.code.replace(URL, server.url), names)
            elif block.language == "text":
                assert same_output(block.code, printed), f"the page shows:\n{block.code}\nprinted:\n{printed}"
                compared += 1
    assert compared == 4
