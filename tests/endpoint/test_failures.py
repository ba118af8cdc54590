"""Failures of an embedding endpoint: retries, errors and their messages."""

import pickle
import socket
import threading
import time
from email.utils import formatdate

import numpy as np
import pytest

from sentenc import EndpointEncoder, EndpointError
from tests.endpoint.conftest import ENCODE, TEXTS
from tests.support.embeddings_server import KEY, Refusal


def failing(refusals):
    """Returns a function that raises the refusals one by one, and then nothing."""
    remaining = iter(refusals)

    def before(_request):
        for refusal in remaining:
            raise refusal

    return before


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_temporary_failure_is_tried_again(server, status):
    server.before = failing([Refusal(status), Refusal(status, "wait", Retry_After="0")])
    np.testing.assert_array_equal(EndpointEncoder(server.url, "m").encode(TEXTS), ENCODE(TEXTS))
    assert len(server.headers) == 4  # one more for the dimension


@pytest.mark.parametrize(
    ("headers", "least"),
    [
        ({"Retry_After": "0.2"}, 0.2),
        ({"retry_after_ms": "200"}, 0.2),
        ({"retry_after_ms": "soon", "Retry_After": "0.2"}, 0.2),
        ({"Retry_After": formatdate(time.time() - 60, usegmt=True)}, 0.0),
        ({"Retry_After": "nonsense"}, 0.0),
    ],
)
def test_the_time_that_the_server_asks_for_is_waited(server, headers, least):
    server.before = failing([Refusal(429, "slow down", **headers)])
    begin = time.monotonic()
    EndpointEncoder(server.url, "m", dimensions=8).encode(TEXTS)
    assert time.monotonic() - begin >= least
    assert len(server.headers) == 2


def test_a_wait_that_is_too_long_is_an_error(server):
    server.before = failing([Refusal(429, "come back tomorrow", Retry_After="86400")])
    with pytest.raises(EndpointError, match=r"HTTP 429: come back tomorrow; it asks for a wait of 86400 s"):
        EndpointEncoder(server.url, "m").encode(TEXTS)


def test_a_failure_that_lasts_is_an_error_with_the_number_of_tries(server):
    server.before = failing([Refusal(503, "overloaded")] * 100)
    encoder = EndpointEncoder(server.url, "m", dimensions=8, max_retries=2)
    with pytest.raises(EndpointError, match=r"HTTP 503: overloaded \(after 3 tries\)") as raised:
        encoder.encode(TEXTS)
    assert raised.value.status == 503
    assert raised.value.url == f"{server.url}/embeddings"
    assert len(server.headers) == 3


def test_an_exhausted_quota_is_not_tried_again(server):
    server.before = failing([Refusal(429, "no credit left", "insufficient_quota")])
    with pytest.raises(EndpointError, match=r"HTTP 429: no credit left$"):
        EndpointEncoder(server.url, "m", dimensions=8).encode(TEXTS)


def test_a_silent_server_is_tried_again(server):
    waits = iter([True, False])
    gate = threading.Event()
    server.before = lambda _request: gate.wait(5) if next(waits, False) else None
    encoder = EndpointEncoder(server.url, "m", dimensions=8, timeout=0.2, max_retries=30)
    threading.Timer(0.5, gate.set).start()
    np.testing.assert_array_equal(encoder.encode(TEXTS), ENCODE(TEXTS))
    assert len(server.headers) > 1


def test_a_server_that_does_not_run_is_an_error_at_once(server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(EndpointError, match=f"{url}/embeddings: ConnectionRefusedError") as raised:
        EndpointEncoder(url, "m").encode(TEXTS)
    assert raised.value.status is None


def test_a_missing_or_wrong_key_is_named_by_its_variable_and_never_printed(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-wrong-and-secret")
    with pytest.raises(EndpointError, match=r"HTTP 401: .*MY_KEY was refused") as raised:
        EndpointEncoder(server.url, "m", api_key_env="MY_KEY").encode(TEXTS)
    assert "secret" not in str(raised.value)
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(EndpointError, match=r"no key was sent: set the environment variable MY_KEY"):
        EndpointEncoder(server.url, "m", api_key_env="MY_KEY").encode(TEXTS)
    monkeypatch.setenv("MY_KEY", "sk-secret\nof two lines")
    with pytest.raises(EndpointError, match=r"MY_KEY has characters") as raised:
        EndpointEncoder(server.url, "m", api_key_env="MY_KEY").encode(TEXTS)
    assert "secret" not in repr(raised.value)


def test_the_key_is_in_no_copy_of_the_encoder(server):
    encoder = EndpointEncoder(server.url, "m")
    encoder.encode(TEXTS)
    assert KEY.encode() not in pickle.dumps(encoder)
    assert KEY not in repr(vars(encoder)) + repr(vars(encoder._client)) + encoder.fingerprint()


def test_an_unknown_model_or_path_is_named(server):
    server.before = failing([Refusal(404, "The model `larg` does not exist")])
    message = r"/v1/embeddings: HTTP 404: The model `larg` does not exist; check the URL .* 'larg'"
    with pytest.raises(EndpointError, match=message):
        EndpointEncoder(server.url, "larg").encode(TEXTS)
    with pytest.raises(EndpointError, match=r"HTTP 404: no such path: /v2/embeddings"):
        EndpointEncoder(server.url.replace("v1", "v2"), "m").encode(TEXTS)


def test_a_redirect_is_not_followed(server):
    server.before = failing([Refusal(307, Location="http://elsewhere.example/v1/embeddings")])
    with pytest.raises(
        EndpointError, match=r"HTTP 307: redirects to http://elsewhere\.example/v1/embeddings"
    ):
        EndpointEncoder(server.url, "m").encode(TEXTS)


def test_a_refused_text_is_named_by_its_position_and_the_others_are_sent_once(server):
    def before(request):
        if any("poison" in text for text in request["input"]):
            raise Refusal(400, "maximum context length is 8192 tokens")

    server.before = before
    texts = [*(f"text {i}" for i in range(40)), "", "poison and more", "text 99"]
    encoder = EndpointEncoder(server.url, "m", dimensions=8, texts_per_request=16)
    message = r"embeddings: texts\[41\] = 'poison and more': HTTP 400: maximum context length"
    with pytest.raises(EndpointError, match=message) as raised:
        encoder.encode(texts)
    assert raised.value.position == 41
    assert len(server.texts) == len(set(server.texts))


def test_the_position_is_that_among_all_texts(server):
    server.change = lambda answer: bad_if_asked(answer, server.requests[-1]["input"])
    texts = [f"text {i}" for i in range(50)]
    encoder = EndpointEncoder(server.url, "m", dimensions=8, texts_per_request=2, concurrency=1)
    with pytest.raises(
        EndpointError, match=r"texts\[43\] = 'text 43': the vector has 1 dimensions"
    ) as raised:
        encoder.encode(texts)
    assert raised.value.position == 43
    with pytest.raises(EndpointError, match=r"texts\[43\] = 'text 43'") as raised:
        list(encoder.encode_iter(iter(texts)))
    assert raised.value.position == 43


def bad_if_asked(answer, texts):
    return with_embedding(answer, texts.index("text 43"), [1.0]) if "text 43" in texts else answer


def test_a_request_that_is_too_large_is_divided(server):
    def before(request):
        if len(request["input"]) > 3:
            raise Refusal(413, "too many inputs")

    server.before = before
    texts = [f"text {i}" for i in range(20)]
    np.testing.assert_array_equal(EndpointEncoder(server.url, "m").encode(texts), ENCODE(texts))
    assert sorted(server.texts) == sorted(["a", *texts])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda answer: b"<html>hello</html>", r"the answer is not JSON, it begins with '<html>hello"),
        (lambda answer: ["a list"], r'the answer has no list "data"'),
        (lambda answer: answer | {"data": answer["data"][1:]}, r"got 3 vectors for 4 texts"),
        (
            lambda answer: answer | {"data": [answer["data"][0]] * 4},
            r"\"index\" are not the numbers from 0 to 3",
        ),
        (lambda answer: with_embedding(answer, 2, [0.5] * 7), r"texts\[2\].* has 7 dimensions, expected 8"),
        (
            lambda answer: with_embedding(answer, 1, "no base64!"),
            r"texts\[1\].* neither a list of numbers nor",
        ),
        (lambda answer: with_embedding(answer, 1, "YWJj"), r"texts\[1\].* neither a list of numbers nor"),
        (lambda answer: with_embedding(answer, 1, None), r"texts\[1\].* neither a list of numbers nor"),
        (
            lambda answer: with_embedding(answer, 1, [10**400] * 8),
            r"texts\[1\].* neither a list of numbers nor",
        ),
        (lambda answer: with_embedding(answer, 3, [float("nan")] * 8), r"texts\[3\].* has NaN or infinity"),
    ],
)
def test_an_answer_that_is_not_n_vectors_is_an_error(server, change, message):
    encoder = EndpointEncoder(server.url, "m", dimensions=8)
    server.change = change
    with pytest.raises(EndpointError, match=message) as raised:
        encoder.encode(TEXTS)
    assert str(raised.value).startswith(f"{server.url}/embeddings: ")


def with_embedding(answer, place, embedding):
    answer["data"][place]["embedding"] = embedding
    return answer
