"""Operation of a server: probes, metrics, logs, the page's files, mounting."""

import json
import logging
import re
import sys

import pytest

from tests.serving.conftest import wait_until_ready
from tests.serving.test_embeddings import ask, refusal
from tests.support.doubles import Gated


def test_server_is_ready_after_every_model_was_used(client_of, tiny):
    encoder = Gated(tiny)
    encoder.open.clear()
    client = client_of({"tiny": encoder})
    assert refusal(client.get("/ready"), 503)["code"] == "starting"
    assert client.get("/health").json() == {"status": "alive"}
    encoder.open.set()
    wait_until_ready(client)


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
