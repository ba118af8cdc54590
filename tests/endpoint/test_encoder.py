"""An encoder at an OpenAI-compatible endpoint: its requests, and the answers that it reuses."""

import numpy as np
import pytest

from sentenc import CheckpointError, EndpointEncoder, EndpointError, Index
from sentenc.embedding_cache import EmbeddingCache
from sentenc.training.teachers.teacher_cache import fill_teacher_cache, open_teacher_cache
from tests.endpoint.conftest import ENCODE, TEXTS
from tests.support.embeddings_server import Refusal, stand_in_server, word_vectors


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
