"""The server as a process, called over sockets."""

import base64
import json
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

import sentenc
from tests.serving.conftest import SENTENCES, samples_of, wait_until
from tests.serving.test_embeddings import vectors
from tests.support.models import make_cse
from tests.support.processes import COMMAND, ended, running

GATED = [sys.executable, "-m", "tests.support.gated_server"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    make_cse("int8").save(folder / "tiny")
    make_cse("int8").word_path().save(folder / "words")
    return folder


@pytest.fixture(scope="module")
def index(models):
    index = sentenc.Index(str(models / "words"))
    index.add(SENTENCES)
    index.save(models / "texts")
    return models / "texts"


@pytest.fixture(scope="module")
def server(models, index):
    command = [*COMMAND, "serve", models / "tiny", "--index", index, "--port", "0", "--api-key", "sesame"]
    with running(command) as process:
        yield process
        process.send_signal(signal.SIGINT)
        ended(process)


def gated(tmp_path, **config):
    return running([*GATED, tmp_path / "gate", json.dumps({"port": 0, **config})])


def get(url, **options):
    # Without verify=False, reading the system's certificates would take longest.
    return httpx.get(url, timeout=60, verify=False, **options)


def post(url, timeout=60, **fields):
    return httpx.post(f"{url}/v1/embeddings", json={"model": "tiny", **fields}, timeout=timeout, verify=False)


def metric(url, name, /, **labels):
    return samples_of(get(f"{url}/metrics").text)[name, frozenset(labels.items())]


def in_flight(url):
    return metric(url, "sentenc_requests_in_flight")


def test_the_openai_client(server, models):
    openai = pytest.importorskip("openai")
    tiny = sentenc.load(models / "tiny")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="sesame", max_retries=0) as client:
        for texts, options in [
            (SENTENCES, {}),
            (SENTENCES[0], {}),
            (SENTENCES, {"dimensions": 5}),
            (SENTENCES, {"encoding_format": "float", "user": "someone"}),
            (SENTENCES, {"encoding_format": "base64", "dimensions": 24}),
        ]:
            answer = client.embeddings.create(model="tiny", input=texts, **options)
            if options.get("encoding_format") == "base64":
                embeddings = np.array(
                    [np.frombuffer(base64.b64decode(entry.embedding), "<f4") for entry in answer.data]
                )
            else:
                embeddings = np.array([entry.embedding for entry in answer.data], np.float32)
            expected = tiny.encode(
                [texts] if isinstance(texts, str) else texts,
                normalize_embeddings=True,
                truncate_dim=options.get("dimensions"),
            )
            assert np.array_equal(embeddings, expected)
            assert answer.usage.prompt_tokens == tiny.count_tokens(texts).sum()
        assert [model.id for model in client.models.list()] == ["tiny", "words"]
        assert client.models.retrieve("words").id == "words"
        with pytest.raises(openai.NotFoundError, match="no model 'other'"):
            client.embeddings.create(model="other", input="a")
        with pytest.raises(openai.BadRequestError, match="token ids"):
            client.embeddings.create(model="tiny", input=[1, 2])
        with pytest.raises(openai.UnprocessableEntityError):
            client.embeddings.create(model="tiny", input=["a"] * 3000)
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.embeddings.create(model="tiny", input="a")


def test_each_of_eight_threads_gets_its_own_answers(server, models):
    encoders = {name: sentenc.load(models / name) for name in ("tiny", "words")}
    words = " ".join(SENTENCES).split()

    def ask(seed):
        rng = np.random.default_rng(seed)
        with httpx.Client(
            base_url=server.url, headers={"authorization": "Bearer sesame"}, verify=False
        ) as client:
            for _ in range(40):
                name = ("tiny", "words")[rng.integers(2)]
                texts = [" ".join(rng.choice(words, rng.integers(1, 9))) for _ in range(rng.integers(1, 20))]
                fields = {
                    "dimensions": int(rng.integers(1, 25)),
                    "encoding_format": ("float", "base64")[rng.integers(2)],
                }
                embeddings = vectors(
                    client.post("/v1/embeddings", json={"model": name, "input": texts, **fields})
                )
                expected = encoders[name].encode(
                    texts, normalize_embeddings=True, truncate_dim=fields["dimensions"]
                )
                assert np.array_equal(embeddings, expected)
                hits = client.post("/search", json={"query": texts[0], "k": 1}).json()["results"]
                assert len(hits) == 1
        return seed

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == list(range(8))


def test_large_body_is_refused_before_all_of_it_has_arrived(server):
    address = server.url.removeprefix("http://").split(":")
    head = (
        b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sesame\r\n"
        b"content-type: application/json\r\n"
    )
    with socket.create_connection((address[0], int(address[1])), timeout=60) as connection:
        connection.sendall(head + b"content-length: 99999999\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    with socket.create_connection((address[0], int(address[1])), timeout=60) as connection:
        connection.sendall(
            head + b"transfer-encoding: chunked\r\n\r\n" + b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        )
        for _ in range(4):
            connection.sendall(b"100000\r\n" + b" " * 0x100000 + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_body_that_does_not_arrive(tmp_path):
    with gated(tmp_path, timeout=0.2) as process:
        address = process.url.removeprefix("http://").split(":")
        with socket.create_connection((address[0], int(address[1])), timeout=60) as connection:
            connection.sendall(
                b"POST /search HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"
            )
            assert connection.recv(100).startswith(b"HTTP/1.1 504 ")
        process.send_signal(signal.SIGTERM)
        ended(process)


def test_sigterm_finishes_requests_in_flight(tmp_path):
    with gated(tmp_path) as process, ThreadPoolExecutor(1) as pool:
        wait_until(lambda: get(f"{process.url}/ready").status_code == 200)
        slow = pool.submit(post, process.url, input="slow dog")
        wait_until(lambda: in_flight(process.url) == 1)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: get(f"{process.url}/ready").status_code == 503)
        assert get(f"{process.url}/health").status_code == 200
        assert post(process.url, input="dog").status_code == 503
        (tmp_path / "gate").touch()
        answer = slow.result(60)
        assert np.array_equal(vectors(answer), make_cse().encode(["slow dog"], normalize_embeddings=True))
        assert "SIGTERM: finishing 1" in ended(process)


def test_grace_ends(tmp_path):
    with gated(tmp_path, grace=0.1) as process, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(post, process.url, input="slow dog")
        wait_until(lambda: in_flight(process.url) == 1)
        process.send_signal(signal.SIGTERM)
        ended(process)
        answer = slow.result(60)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "stopping"


def test_work_for_a_disconnected_client_is_dropped(tmp_path):
    with gated(tmp_path) as process:
        with pytest.raises(httpx.ReadTimeout):
            post(process.url, input="slow dog", timeout=0.3)
        # The request may not have been read before it is counted here.
        wait_until(lambda: 'status="499"' in get(f"{process.url}/metrics").text)
        assert in_flight(process.url) == 0
        (tmp_path / "gate").touch()
        assert post(process.url, input="dog").status_code == 200
        process.send_signal(signal.SIGTERM)
        ended(process)


def test_overload(tmp_path):
    many, room = 40, 5
    tiny = make_cse()
    with gated(tmp_path, max_queue=room) as process, ThreadPoolExecutor(many) as pool:
        wait_until(lambda: get(f"{process.url}/ready").status_code == 200)
        first = pool.submit(post, process.url, input="slow dog")
        # A request is in flight before its body has arrived; then others could overtake it.
        wait_until((tmp_path / "gate.reached").exists)
        wait_until(
            lambda: (
                in_flight(process.url) == 1
                and metric(process.url, "sentenc_queue_requests", queue="encode", name="tiny") == 0
            )
        )
        rest = {f"cat {i}": pool.submit(post, process.url, input=f"cat {i}") for i in range(many - 1)}
        wait_until(lambda: sum(answer.done() for answer in rest.values()) == many - 1 - room)
        (tmp_path / "gate").touch()
        answers = {text: answer.result(60) for text, answer in {"slow dog": first, **rest}.items()}
        accepted = {text: answer for text, answer in answers.items() if answer.status_code == 200}
        assert len(accepted) == room + 1
        for text, answer in answers.items():
            if text in accepted:
                assert np.array_equal(vectors(answer), tiny.encode([text], normalize_embeddings=True))
            else:
                assert answer.status_code == 429
                assert 1 <= int(answer.headers["retry-after"]) <= 60
                assert answer.json()["error"]["code"] == "queue_full"
        process.send_signal(signal.SIGTERM)
        ended(process)


def test_start_needs_no_torch(models):
    code = (
        "import sys, threading, os, signal\n"
        "import sentenc.serving, sentenc.serving.app\n"
        "original = sentenc.serving.serve\n"
        "import sentenc.serving as s\n"
        "def serve(app, config, listener, on_listening):\n"
        "    def listening(url):\n"
        "        print(sorted({'torch', 'transformers', 'faiss', 'sentence_transformers'} & set(sys.modules)), flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    original(app, config, listener=listener, on_listening=listening)\n"
        "s.serve = serve\n"
        "from sentenc.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "serve", str(models / "tiny"), "--port", "0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_names_of_models_and_key_of_the_environment(models, index):
    command = [*COMMAND, "serve", f"small={models / 'words'}", "--index", f"stories={index}", "--port", "0"]
    with running(command, env={"SENTENC_API_KEY": "from the environment"}) as process:
        headers = {"authorization": "Bearer from the environment"}
        assert get(f"{process.url}/indexes").status_code == 401
        described = get(f"{process.url}/indexes", headers=headers).json()["indexes"][0]
        assert (described["name"], described["model"]) == ("stories", "small")
        process.send_signal(signal.SIGTERM)
        ended(process)
