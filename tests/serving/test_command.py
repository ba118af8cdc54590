"""``sentenc serve``: its arguments, and the errors before it listens."""

import errno
import socket

import click
import pytest

import sentenc.serving
from sentenc.cli import cli
from tests.serving.conftest import SENTENCES
from tests.support.models import make_bert, make_cse


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    make_cse("int8").save(folder / "tiny")
    index = sentenc.Index(str(folder / "tiny"))
    index.add(SENTENCES)
    index.save(folder / "texts")
    bare = sentenc.Index(dim=3)
    bare.add(vectors=[[1, 2, 3]])
    bare.save(folder / "bare")
    return folder


@pytest.fixture(autouse=True)
def _no_log(monkeypatch):
    monkeypatch.setattr("sentenc.serving.logs.log_to_stderr", lambda as_json: None)
    monkeypatch.setattr("sentenc.cli.serve.limit_blas", lambda threads: None)


def serve(*arguments):
    cli.main(["serve", *map(str, arguments)], standalone_mode=False)


def test_busy_port(models):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1.*in use"):
            serve(models / "tiny", "--port", port)


def test_addresses():
    from sentenc.serving import ServerConfig, bind

    with pytest.raises(OSError, match="expected an address of this machine"):
        bind(ServerConfig(host="no such host"))
    # This address is reserved for documentation, so no machine has it.
    with pytest.raises(OSError, match="not an address of this machine"):
        bind(ServerConfig(host="192.0.2.1"))


def test_port_without_permission(monkeypatch):
    from sentenc.serving import ServerConfig, bind

    def refuse(self, address):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(OSError, match=r"port 80 .*permission denied"):
        bind(ServerConfig(port=80))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ([], click.UsageError, "MODEL, --index or --classifier"),
        (["nobody"], sentenc.ModelNotFoundError, "'nobody'"),
        (["tiny", "tiny"], click.UsageError, "models.*'tiny'"),
        (["--index", "texts", "--index", "texts"], click.UsageError, "indexes.*'texts'"),
        (["--classifier", "tiny"], sentenc.CheckpointError, "classifier"),
        (["--index", "tiny"], sentenc.IndexFormatError, "tiny"),
        (["tiny", "--pooling", "cls"], click.UsageError, "--pooling is cls"),
        (["--index", "texts", "--pooling", "cls"], click.UsageError, "--pooling is cls"),
        (["--index", "bare"], click.UsageError, "bare.*MODEL"),
        (["tiny", "--api-key", " "], ValueError, "api_key is empty"),
        (["tiny", "--cors-origin", "localhost:3000"], ValueError, "cors_origins.*'localhost:3000'"),
        (["tiny", "--port", "70000"], click.BadParameter, "70000"),
        (["tiny", "--timeout", "0"], click.BadParameter, "not in the range"),
    ],
)
def test_wrong_arguments(models, monkeypatch, arguments, error, words):
    monkeypatch.chdir(models)
    with pytest.raises(error, match=words):
        serve(*arguments, *([] if "--port" in arguments else ["--port", "0"]))


@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_a_blank_variable_of_the_key_does_not_start_an_open_server(models, monkeypatch, value):
    configs = []
    monkeypatch.setattr("sentenc.serving.serve", lambda app, config, **_: configs.append(config))
    monkeypatch.setattr("gc.freeze", lambda: None)
    monkeypatch.setenv("SENTENC_API_KEY", value)
    with pytest.raises(click.UsageError, match="SENTENC_API_KEY is empty"):
        serve(models / "tiny", "--port", 0)
    serve(models / "tiny", "--port", 0, "--api-key", "stated")
    monkeypatch.setenv("SENTENC_API_KEY", "from a file\n")
    serve(models / "tiny", "--port", 0)
    monkeypatch.delenv("SENTENC_API_KEY")
    serve(models / "tiny", "--port", 0)
    assert [config.api_key for config in configs] == ["stated", "from a file", None]


def test_index_alone_brings_the_model_that_built_it(models, monkeypatch):
    served = {}

    def record(app, settings, listener, on_listening):
        served.update(app.state.sentenc.catalog.indexes)
        assert settings.port == 0
        assert settings.max_queue == sentenc.serving.ServerConfig().max_queue

    monkeypatch.setattr("sentenc.serving.serve", record)
    monkeypatch.setattr("gc.freeze", lambda: None)
    serve("--index", models / "texts", "--port", 0)
    assert served["texts"].model.name == "tiny"
    served.clear()
    serve("--index", models / "texts", f"mine={models / 'tiny'}", "--port", 0)
    assert served["texts"].model.name == "mine"


def test_cors_origins(models, monkeypatch):
    configs = []
    monkeypatch.setattr("sentenc.serving.serve", lambda app, config, **_: configs.append(config))
    monkeypatch.setattr("gc.freeze", lambda: None)
    origins = ["http://localhost:3000", "https://app.example.com"]
    serve(models / "tiny", "--port", 0)
    serve(models / "tiny", "--port", 0, "--cors-origin", origins[0], "--cors-origin", origins[1])
    assert [list(config.cors_origins) for config in configs] == [[], origins]


def test_threads_and_pooling(models, monkeypatch, tmp_path):
    served = {}
    monkeypatch.setattr(
        "sentenc.serving.serve", lambda app, *_, **__: served.update(vars(app.state.sentenc.catalog))
    )
    monkeypatch.setattr("gc.freeze", lambda: None)
    make_bert(pooling="cls").save(tmp_path / "bert")
    (tmp_path / "bert" / "modules.json").unlink()
    index = sentenc.Index(str(models / "tiny"))
    index.add(SENTENCES)
    index.set_query_encoder(str(models / "tiny"))
    index.save(tmp_path / "index")
    serve(
        models / "tiny", tmp_path / "bert", "--index", tmp_path / "index", "--threads", 1, "--pooling", "cls",
        "--port", 0,
    )  # fmt: skip
    assert served["models"]["bert"].encoder.pooling() == "cls"
    index = served["indexes"]["index"].index
    assert [index._state.encoders.encoder_of_queries(speed).threads for speed in ("fast", "exact")] == [1, 1]


@pytest.mark.parametrize("threads", [[], ["--threads", 1]])
def test_classifiers(models, monkeypatch, tmp_path, threads):
    pytest.importorskip("sklearn")
    served = {}
    monkeypatch.setattr(
        "sentenc.serving.serve", lambda app, *_, **__: served.update(app.state.sentenc.catalog.classifiers)
    )
    monkeypatch.setattr("gc.freeze", lambda: None)
    classifier = sentenc.SentenceClassifier(str(models / "tiny"), C=1.0, random_state=0)
    classifier.fit(SENTENCES, ["x", "y"] * 3)
    classifier.save(tmp_path / "topics")
    folder = tmp_path / "topics"
    serve("--classifier", folder, "--classifier", f"other={folder}", models / "tiny", "--port", 0, *threads)
    assert list(served) == ["topics", "other"]
    # One model encodes for both classifiers and for /v1/embeddings.
    assert {classifier.model.name for classifier in served.values()} == {"tiny"}
    if threads:
        assert served["topics"].estimator.encoder_.threads == 1
    with pytest.raises(click.UsageError, match=r"classifiers.*'topics'"):
        serve("--classifier", folder, "--classifier", folder, "--port", 0)
