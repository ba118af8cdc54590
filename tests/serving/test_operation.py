"""Operation of a server: probes, metrics, logs, the page's files, mounting."""

import json
import logging
import re
import sys

import numpy as np
import pytest

from sentenc import Index
from sentenc.serving import create_app, lifecycle
from tests.serving.conftest import wait_until, wait_until_ready
from tests.serving.test_embeddings import ask, refusal
from tests.support.doubles import Gated, Wrapper
from tests.support.models import make_cse

pytest.importorskip("starlette")
from starlette.testclient import TestClient


def test_server_is_ready_after_every_model_was_used(client_of, tiny):
    encoder = Gated(tiny)
    encoder.open.clear()
    client = client_of({"tiny": encoder})
    assert refusal(client.get("/ready"), 503)["code"] == "starting"
    assert client.get("/health").json() == {"status": "alive"}
    encoder.open.set()
    wait_until_ready(client)


def test_server_with_a_model_that_fails_is_not_ready_and_tries_again(client_of, tiny, monkeypatch, caplog):
    monkeypatch.setattr(lifecycle, "_RETRY_SECONDS", 0)
    broken, good = Broken(tiny), Gated(make_cse("int8"))
    index = Index(good)
    index.add(vectors=np.ones((1, good.dim)))
    client = client_of({"broken": broken, "good": good}, {"texts": index})
    wait_until(lambda: refusal(client.get("/ready"), 503)["code"] == "not_usable")
    message = refusal(client.get("/ready"), 503)["message"]
    assert "failed at their first use: model broken;" in message
    assert "the first use of model broken failed" in caplog.text
    # The first failure does not end the first uses of the others, and other models answer.
    assert ["ready"] in good.batches
    answer = client.post("/v1/embeddings", json={"model": "good", "input": "a man"})
    assert answer.status_code == 200
    broken.is_broken = False
    wait_until_ready(client)


class Broken(Wrapper):
    """Another encoder that cannot encode until it is repaired."""

    is_broken = True

    def _encode_block(self, texts, batch_size, out):
        if self.is_broken:
            raise OSError("no such file")
        return super()._encode_block(texts, batch_size, out)


def test_an_application_runs_again_after_its_end(tiny):
    index = Index(tiny)
    index.add(["a man", "a dog"])
    app = create_app({"tiny": tiny}, {"texts": index})
    for _ in range(3):
        with TestClient(app) as client:
            wait_until_ready(client)
            assert ask(client, input="a man").status_code == 200
            assert len(client.get("/search?q=man").json()["results"]) == 2
        assert app.state.sentenc.draining


def test_draining_refuses_work_and_answers_probes(client):
    client.app.state.sentenc.draining = True
    assert refusal(client.get("/ready"), 503)["code"] == "stopping"
    assert client.get("/health").status_code == 200
    answer = ask(client, input="a man")
    assert refusal(answer, 503)["code"] == "stopping"
    assert answer.headers["connection"] == "close"
    assert answer.headers["retry-after"] == "1"


def test_page_files(client):
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    for name in set(re.findall(r'(?:src|href)="(page/[^"]+)"', answer.text)) | {"page/index.html"}:
        file = client.get(f"/{name}")
        assert file.status_code == 200
        assert file.headers["x-content-type-options"] == "nosniff"
        assert file.headers["content-security-policy"].startswith("default-src 'self';")
        assert "unsafe" not in file.headers["content-security-policy"]
        again = client.get(f"/{name}", headers={"if-none-match": file.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert client.get("/page/app.js").headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.head("/").headers["content-length"] == str(len(answer.content))


def test_page_of_a_missing_folder(tmp_path):
    import asyncio

    from sentenc.serving.routes.page import PageFiles

    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(PageFiles(tmp_path / "none")({"method": "GET", "path": "/", "headers": []}, None, send))
    assert sent[0]["status"] == 404


def test_log_lines(capsys):
    from sentenc.serving.logs import log_to_stderr

    loggers = [logging.getLogger(name) for name in ("sentenc", "uvicorn")]
    before = [(logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    try:
        log_to_stderr(True)
        try:
            raise ValueError("inside")
        except ValueError:
            loggers[0].exception("it %s", "failed")
        log_to_stderr(False)
        loggers[0].info("plain words")
    finally:
        for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)
    first, second = capsys.readouterr().err.splitlines()
    record = json.loads(first)
    assert (record["level"], record["logger"], record["message"]) == ("error", "sentenc", "it failed")
    assert "ValueError: inside" in record["traceback"]
    assert second.endswith("INFO plain words")


@pytest.mark.parametrize("missing", ["starlette.applications", "uvicorn"])
def test_missing_extra(monkeypatch, tiny, missing):
    from sentenc import MissingExtraError
    from sentenc.serving import create_app, serve

    app = create_app({"tiny": tiny})
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=r'pip install "sentenc\[serve\]"'):
        create_app({"tiny": tiny}) if missing != "uvicorn" else serve(app)


def test_mounted_in_another_application(tiny):
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.testclient import TestClient

    from sentenc.serving import ServerConfig, create_app

    inner = create_app({"tiny": tiny}, {}, ServerConfig(api_key="sesame"))
    with TestClient(Starlette(routes=[Mount("/inner", inner)])) as client:
        assert client.get("/inner/health").status_code == 200
        assert client.get("/inner/").status_code == 200
        assert refusal(client.get("/inner/v1/models"), 401)
        headers = {"authorization": "Bearer sesame"}
        assert client.get("/inner/v1/models", headers=headers).status_code == 200
        answer = client.post("/inner/v1/embeddings", json={"model": "tiny", "input": "a"}, headers=headers)
        assert answer.status_code == 200
    inner.state.sentenc.stop()
