"""An encoder at an OpenAI-compatible endpoint: what it sends, how it fails, and what it does not pay twice."""

import pickle
import socket
import threading
import time
from email.utils import formatdate

import numpy as np
import pytest

from sentenc import CheckpointError, EndpointEncoder, EndpointError, Index
from sentenc.embedding_cache import EmbeddingCache
from sentenc.encoders import endpoint_client
from sentenc.training.teachers.teacher_cache import fill_teacher_cache, open_teacher_cache
from tests.support.embeddings_server import KEY, Refusal, loopback_only, stand_in_server, word_vectors

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


def failing(refusals):
    """Returns a function that raises the refusals one by one, and then nothing."""
    remaining = iter(refusals)

    def before(_request):
        for refusal in remaining:
            raise refusal

    return before


def test_vectors_of_1536_dimensions_arrive_exactly_in_both_formats():
    with stand_in_server(word_vectors(1536)) as server:
        expected = server.encode(TEXTS)
        for is_kept in (True, False):
            server.base64 = is_kept
            for asked in ("base64", "float"):
                encoder = EndpointEncoder(server.url, "wide", encoding_format=asked)
                np.testing.assert_array_equal(encoder.encode(TEXTS), expected)
                assert encoder.dim == 1536
                assert server.requests[-1]["encoding_format"] == asked


def test_the_request_is_that_of_openai(server):
    encoder = EndpointEncoder(server.url + "/?version=2", "small", dimensions=5)
    assert encoder.dim == 5
    assert server.requests == []
    np.testing.assert_array_equal(encoder.encode(TEXTS), ENCODE(TEXTS)[:, :5])
    assert server.requests == [
        {"model": "small", "input": TEXTS, "dimensions": 5, "encoding_format": "base64"}
    ]
    assert server.headers[0]["Content-Type"] == "application/json"


def test_texts_are_sent_in_batches_once_each_and_counted(server):
    encoder = EndpointEncoder(server.url, "small", dimensions=8, texts_per_request=3)
    texts = [f"text {i % 7}" for i in range(20)] + ["", " \n"]
    vectors = encoder.encode(texts)
    np.testing.assert_array_equal(vectors[:20], ENCODE(texts[:20]))
    assert not vectors[20:].any()
    assert sorted(server.texts) == [f"text {i}" for i in range(7)]
    assert sorted(len(request["input"]) for request in server.requests) == [1, 3, 3]
    assert encoder.usage == (3, 7, 14)


def test_answers_are_ordered_by_their_index(server):
    server.change = lambda answer: answer | {"data": answer["data"][::-1]}
    np.testing.assert_array_equal(EndpointEncoder(server.url, "m").encode(TEXTS), ENCODE(TEXTS))


def test_a_format_that_the_server_does_not_know_is_asked_for_once(server):
    def before(request):
        if "encoding_format" in request:
            raise Refusal(422, "unknown field: encoding_format")

    server.before = before
    encoder = EndpointEncoder(server.url, "m", dimensions=8)
    for _ in range(2):
        np.testing.assert_array_equal(encoder.encode(TEXTS), ENCODE(TEXTS))
    assert len(server.headers) == 3


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


def bad_if_asked(answer, texts):
    return with_embedding(answer, texts.index("text 43"), [1.0]) if "text 43" in texts else answer


def test_prompts_are_put_before_texts_of_a_role(server):
    encoder = EndpointEncoder(server.url, "m", dimensions=8, query_prompt="query: ", document_prompt="text: ")
    assert dict(encoder.prompts) == {"query": "query: ", "document": "text: "}
    np.testing.assert_array_equal(encoder.encode_query(["a", ""]), [ENCODE(["query: a"])[0], np.zeros(8)])
    np.testing.assert_array_equal(encoder.encode_document("a"), ENCODE(["text: a"])[0])
    np.testing.assert_array_equal(encoder.encode("a"), ENCODE(["a"])[0])
    assert server.texts == ["query: a", "text: a", "a"]
    parts = dict(zip("ab", encoder.encode_by_request(["b", "c"], prompt_name="query"), strict=False))
    assert parts["a"][0] == [0, 1]
    assert server.texts[-2:] == ["query: b", "query: c"]


def test_the_type_of_the_input_is_sent_for_roles(server):
    names = {"query": "search_query", "document": "search_document"}
    for input_type, expected in ((True, ["query", "document"]), (names, list(names.values()))):
        server.requests.clear()
        encoder = EndpointEncoder(server.url, "m", dimensions=8, input_type=input_type)
        for encode in (encoder.encode_query, encoder.encode_document, encoder.encode):
            encode("a text")
        assert [request.get("input_type") for request in server.requests] == [*expected, None]
        assert encoder.usage.requests == 3
    query, _ = encoder.for_role("query")
    assert (
        len({encoder.fingerprint(), query.fingerprint(), encoder.for_role("document")[0].fingerprint()}) == 3
    )
    assert query.space == encoder.space
    for bad in ("query", {"query": "a"}, {"query": "a", "document": ""}):
        with pytest.raises(ValueError, match="input_type is"):
            EndpointEncoder(server.url, "m", input_type=bad)


def test_the_space_depends_on_the_model_and_its_dimensions_alone():
    def space(url, model, **options):
        return EndpointEncoder(url, model, **options).space

    first = space("http://localhost:1/v1", "a")
    assert first == space("http://localhost:1/v1/", "a", query_prompt="q: ", input_type=True, max_tokens=5)
    others = [
        space("http://localhost:1/v1", "b"),
        space("http://localhost:2/v1", "a"),
        space("http://localhost:1/v1", "a", dimensions=8),
    ]
    assert len({first, *others}) == 4


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


def test_texts_that_were_paid_for_are_not_sent_again_after_a_failure(server, tmp_path):
    texts = [f"text number {i}" for i in range(60)]
    encoder = EndpointEncoder(server.url, "m", dimensions=8, texts_per_request=7, max_retries=0)
    server.before = lambda request: fail_if(len(server.requests) >= 4)
    cache = EmbeddingCache(tmp_path, encoder.fingerprint())
    with pytest.raises(EndpointError, match="HTTP 500"):
        cache.fill(texts, encoder.encode_by_request)
    assert len(cache) == len(server.texts) == 28
    server.before = lambda request: None
    # Another process, as it were.
    twin = EndpointEncoder(server.url, "m", dimensions=8, texts_per_request=7)
    resumed = EmbeddingCache(tmp_path, twin.fingerprint())
    assert resumed.fill(texts, twin.encode_by_request) == 32
    assert sorted(server.texts) == sorted(texts)
    np.testing.assert_array_equal(resumed.lookup(texts), ENCODE(texts))
    n_requests = len(server.headers)
    assert resumed.fill(texts, twin.encode_by_request) == 0
    assert len(server.headers) == n_requests


def test_a_teacher_at_an_endpoint_fills_a_cache(server, tmp_path):
    server.before = lambda request: fail_if(len(server.requests) >= 2)
    teacher = EndpointEncoder(server.url, "m", dimensions=6, texts_per_request=2, max_retries=0)
    with pytest.raises(EndpointError, match="HTTP 500"):
        fill_teacher_cache(open_teacher_cache(tmp_path, teacher), teacher, [*TEXTS, "five", "six"])
    server.before = lambda request: None
    cache = open_teacher_cache(tmp_path, teacher)
    assert len(cache) == 4
    assert fill_teacher_cache(cache, teacher, [*TEXTS, "five", "six"], show_progress_bar=False) == 2
    assert sorted(server.texts) == sorted([*TEXTS, "five", "six"])
    vectors = ENCODE(TEXTS)[:, :6]
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(cache.lookup(TEXTS), expected, rtol=0, atol=1e-3)


def fail_if(condition):
    if condition:
        raise Refusal(500, "broken")


def test_different_settings_have_different_fingerprints():
    def fingerprint(*args, **options):
        return EndpointEncoder(*args, **options).fingerprint()

    first = fingerprint("http://localhost:1/v1", "a")
    assert first == fingerprint("http://localhost:1/v1/", "a")
    assert first == fingerprint("http://localhost:1/v1/embeddings", "a", texts_per_request=2, timeout=1)
    others = [
        fingerprint("http://localhost:2/v1", "a"),
        fingerprint("http://localhost:1/v1", "b"),
        fingerprint("http://localhost:1/v1", "a", dimensions=3),
        fingerprint("http://localhost:1/v1", "a", max_tokens=3),
    ]
    assert len({first, *others}) == 5


def test_an_index_can_be_made_and_asked(server):
    index = Index(EndpointEncoder(server.url, "m"))
    index.add(TEXTS)
    assert index.search("the stock market", k=1, mode="vector")[0].id == 2


def test_it_cannot_be_saved(tmp_path):
    with pytest.raises(CheckpointError, match=r"'m' at http://localhost:1/v1/embeddings has no weights"):
        EndpointEncoder("http://localhost:1/v1", "m").save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("localhost:8000/v1", {}, "url is 'localhost:8000/v1', expected one such as"),
        ("file:///etc/passwd", {}, "url is 'file:///etc/passwd'"),
        (None, {}, "url is None"),
        ("http://me:secret@host/v1", {}, "url contains a user or password"),
        ("http://host/v1", {"dimensions": 0}, "dimensions is 0"),
        ("http://host/v1", {"query_prompt": 3}, "query_prompt is 3"),
        ("http://host/v1", {"timeout": 0}, "timeout is 0"),
        ("http://host/v1", {"max_retries": -1}, "max_retries is -1"),
        ("http://host/v1", {"concurrency": 0}, "concurrency is 0"),
        ("http://host/v1", {"texts_per_request": 0}, "texts_per_request is 0"),
        ("http://host/v1", {"encoding_format": "int8"}, "encoding_format is 'int8'"),
        ("http://host/v1", {"api_key_env": ""}, "api_key_env is ''"),
    ],
)
def test_bad_options_are_named(url, options, message):
    with pytest.raises((TypeError, ValueError), match=message) as raised:
        EndpointEncoder(url, "m", **options)
    assert "secret" not in str(raised.value)
