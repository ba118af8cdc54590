"""The routes ``/search``, ``/indexes`` and ``/similarity``."""

from functools import reduce

import numpy as np
import pytest

from sentenc import Index
from tests.serving.conftest import SENTENCES
from tests.serving.test_embeddings import refusal

# As deep as a filter may be, so that it is too deep as a part of another.
NESTED = reduce(lambda inner, _: {"not": inner}, range(32), {"n": 1})


@pytest.fixture
def word_path(tiny):
    return tiny.word_path()


@pytest.fixture
def index(tiny):
    index = Index(tiny)
    index.add(SENTENCES, payloads=[{"n": i} if i else None for i in range(len(SENTENCES))])
    return index


@pytest.fixture
def dots(word_path):
    index = Index(word_path, metric="dot")
    index.add(SENTENCES, ids=[f"s{i}" for i in range(len(SENTENCES))])
    return index


@pytest.fixture
def client(client_of, tiny, word_path, index, dots):
    return client_of({"tiny": tiny, "words": word_path}, {"main": index, "dots": dots})


def as_dicts(hits):
    return [hit.to_dict() for hit in hits]


def assert_same_hits(results, expected):
    """Compares scores and their parts up to rounding, and the rest exactly."""
    for part in ("score", "semantic", "lexical"):
        ours, theirs = [hit.pop(part) for hit in results], [hit.pop(part) for hit in expected]
        assert [value is None for value in ours] == [value is None for value in theirs]
        np.testing.assert_allclose(*([value or 0 for value in side] for side in (ours, theirs)), atol=1e-5)
    assert results == expected


def test_one_query(client, index):
    answer = client.post("/search", json={"query": "a man plays the guitar", "k": 3, "index": "main"}).json()
    assert set(answer["results"][0]) == {"score", "id", "text", "payload", "semantic", "lexical", "words"}
    assert_same_hits(answer["results"], as_dicts(index.search("a man plays the guitar", 3)))
    assert (answer["index"], answer["model"], answer["mode"]) == ("main", "tiny", "hybrid")
    assert answer["took_ms"]["encode"] > 0
    assert answer["took_ms"]["search"] > 0


def test_by_url(client, index, dots):
    answer = client.get("/search", params={"q": "crème 東京 & more", "k": "2", "index": "dots"}).json()
    assert_same_hits(answer["results"], as_dicts(dots.search("crème 東京 & more", 2)))
    assert answer["model"] == "words"
    assert len(client.get("/search?q=man&index=main").json()["results"]) == len(SENTENCES)
    answer = client.get("/search?q=man&mode=hybrid&alpha=0.9&index=main").json()
    assert_same_hits(answer["results"], as_dicts(index.search("man", alpha=0.9)))
    assert client.get("/search?q=man&mode=vector&index=main").json()["results"][0]["lexical"] is None


def test_reranking(client, index, word_path):
    expected = index.search("a man plays", 3, rerank=word_path, candidates=4)
    fields = {"query": "a man plays", "k": 3, "rerank": "words", "candidates": 4, "index": "main"}
    answer = client.post("/search", json=fields)
    assert [hit["id"] for hit in answer.json()["results"]] == [hit.id for hit in expected]
    assert [hit["rerank"] for hit in answer.json()["results"]] == pytest.approx(
        [hit.rerank for hit in expected]
    )
    by_url = client.get("/search?q=a man plays&k=3&rerank=words&candidates=4&index=main").json()
    assert [hit["id"] for hit in by_url["results"]] == [hit.id for hit in expected]
    for fields, status, message in [
        ({"rerank": "other"}, 404, "there is no model 'other' here, expected one of tiny, words"),
        ({"rerank": 3}, 400, "rerank is int (3), expected a str"),
        ({"rerank": "words", "candidates": 0}, 422, "candidates is int (0), expected 1 to 1000"),
    ]:
        answer = client.post("/search", json={"query": "a", "index": "main", **fields})
        assert answer.status_code == status
        assert message in answer.json()["error"]["message"]


def test_reranking_needs_texts(client_of, tiny):
    vectors = Index(tiny)
    vectors.add(vectors=tiny.encode(["a man", "a dog"]))
    client = client_of({"tiny": tiny}, {"vectors": vectors})
    answer = client.post("/search", json={"query": "a man", "rerank": "tiny"})
    assert answer.status_code == 422
    assert "has no text" in answer.json()["error"]["message"]


def test_passages(client_of, tiny):
    index = Index(tiny, chunk_tokens=16, overlap=0)
    index.add(["a dog runs in the park. " * 20 + "the stock market fell."])
    client = client_of({"tiny": tiny}, {"long": index})
    (hit,) = client.post("/search", json={"query": "stock market"}).json()["results"]
    assert hit["passage"] == hit["text"][slice(*hit["span"])]
    assert "stock market fell" in hit["passage"]


@pytest.mark.parametrize("mode", ["hybrid", "vector", "lexical"])
def test_many_queries(client, dots, mode):
    fields = {"queries": SENTENCES, "index": "dots", "k": 4, "mode": mode}
    answer = client.post("/search", json=fields).json()
    assert answer["mode"] == mode
    for results, expected in zip(answer["results"], dots.search(SENTENCES, 4, mode=mode), strict=True):
        assert_same_hits(results, as_dicts(expected))


def test_an_index_of_vectors_alone_is_searched_by_them_as_in_python(client_of, tiny):
    index = Index(tiny)
    index.add(vectors=tiny.encode(SENTENCES))
    client = client_of({"tiny": tiny}, {"vectors": index})
    answer = client.post("/search", json={"query": "a man"}).json()
    assert answer["mode"] == "vector"
    assert_same_hits(answer["results"], as_dicts(index.search("a man")))
    assert client.get("/indexes").json()["indexes"][0]["modes"] == ["vector", "hybrid", "lexical"]
    index.add(["a man"])
    assert client.post("/search", json={"query": "a man"}).json()["mode"] == "hybrid"


def test_an_index_without_words_is_searched_by_its_vectors(client_of, tiny):
    index = Index(tiny, words=False)
    index.add(vectors=tiny.encode(SENTENCES))
    client = client_of({"tiny": tiny}, {"vectors": index})
    answer = client.post("/search", json={"query": "a man"}).json()
    assert answer["mode"] == "vector"
    assert_same_hits(answer["results"], as_dicts(index.search("a man")))
    message = refusal(client.post("/search", json={"query": "a", "mode": "lexical"}), 400)["message"]
    assert message.startswith("mode is 'lexical', expected vector: vectors has no words")


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({"n": {"gte": 4}}, [4, 5]),
        ("n>=4", [4, 5]),
        (["n>=2", {"n": {"lt": 4}}], [2, 3]),
        ({}, [0, 1, 2, 3, 4, 5]),
        ([], [0, 1, 2, 3, 4, 5]),
        ("n=1", [1]),
        ('{"n": null}', [0]),
        (None, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_filtered_query(client, where, ids):
    answer = client.post("/search", json={"query": "a man", "where": where, "index": "main"}).json()
    assert sorted(hit["id"] for hit in answer["results"]) == ids
    assert "note" not in answer


def test_filter_by_url(client):
    answer = client.get(
        "/search", params=[("q", "a man"), ("index", "main"), ("where", "n>=2"), ("where", "n<4")]
    ).json()
    assert sorted(hit["id"] for hit in answer["results"]) == [2, 3]
    answer = client.get(
        "/search", params={"q": "a man", "index": "main", "where": '{"n": {"in": [5, 9]}}'}
    ).json()
    assert [hit["id"] for hit in answer["results"]] == [5]


def test_queries_with_different_filters_at_once(client, index):
    answers = client.post(
        "/search", json={"queries": SENTENCES[:2], "where": "n>3", "k": 1, "index": "main"}
    ).json()["results"]
    assert [[hit["id"] for hit in hits] for hits in answers] == [
        [hit.id for hit in hits]
        for hits in index.search(SENTENCES[:2], 1, where={"n": {"gt": 3}}, mode="vector")
    ]


def test_the_answer_explains_a_filter_that_no_item_meets(client):
    answer = client.post(
        "/search", json={"query": "a man", "where": ['n="1"', "m=2"], "index": "main"}
    ).json()
    assert answer["results"] == []
    assert answer["note"] == "no item meets the filter: n is a number in 5 items; no item has a field m"


def test_answer_of_many_hits_is_complete(client_of, tiny):
    index = Index(tiny)
    index.add([f"{SENTENCES[i % 6]} {i}" for i in range(700)])
    answer = client_of({}, {"many": index}).post("/search", json={"query": "a man", "k": 600})
    assert len(answer.json()["results"]) == 600


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({}, 400, "neither of query and queries"),
        ({"query": "a", "queries": ["b"]}, 400, "both of query and queries"),
        ({"query": ["a"]}, 400, "query is list"),
        ({"queries": "a"}, 400, "queries is 'a'"),
        ({"query": ""}, 400, "query is an empty text"),
        ({"queries": []}, 400, "queries is an empty list"),
        ({"queries": ["a", 1]}, 400, "queries[1] is int (1)"),
        ({"query": "a", "k": "3"}, 400, "k is '3', expected an integer"),
        ({"query": "a", "k": 0}, 422, "k is int (0), expected 1 to 1000"),
        ({"query": "a", "k": 1001}, 422, "expected 1 to 1000"),
        ({"query": "a", "index": "other"}, 404, "expected one of main, dots"),
        ({"query": "a", "index": 1}, 400, "index is int (1)"),
        ({"query": "man " * 70}, 400, "query has 70 tokens"),
        ({"query": "a", "mode": "both"}, 400, "mode is 'both', expected hybrid or vector or lexical"),
        ({"query": "a", "mode": 1}, 400, "mode is int (1), expected hybrid or"),
        ({"query": "a", "alpha": "0.5"}, 400, "alpha is '0.5', expected a number"),
        ({"query": "a", "alpha": True}, 400, "alpha is bool (True), expected a number"),
        ({"query": "a", "alpha": 1.5}, 422, "alpha is float (1.5), expected 0 to 1"),
        ({"query": "a", "where": 3}, 400, "where is int (3), expected an object or a str like"),
        ({"query": "a", "where": ["n=1", [1]]}, 400, "where[1] is list ([1]), expected an object or a str"),
        ({"query": "a", "where": "n"}, 400, "where: the filter 'n' is wrong: expected FIELD=VALUE"),
        ({"query": "a", "where": {"n": {"above": 1}}}, 400, "where: where['n'] has the operator 'above'"),
        ({"query": "a", "where": [{}, {"n": [1]}]}, 400, "where[1]: where['n'] is list, expected a value"),
        ({"query": "a", "where": {f"f{i}": 1 for i in range(65)}}, 400, "where: the filter has 65 fields"),
        ({"query": "a", "where": [f"f{i}=1" for i in range(65)]}, 400, "where: the filter has 65 fields"),
        ({"query": "a", "where": ["n=1", NESTED]}, 400, "where: the filter is nested more than 32 times"),
        ({"queries": ["a"] * 101, "k": 1000}, 422, "expected at most 100000 items"),
        (
            {"query": "a", "filter": {"n": 1}},
            400,
            "no field 'filter', expected one of query, queries, index, k",
        ),
        ({"q": "a"}, 400, "no field 'q', expected one of query, "),
        ({"query": "a", "index": None}, 400, "index is missing, expected one of main, dots"),
    ],
)
def test_wrong_fields_are_refused(client, fields, status, words):
    error = refusal(client.post("/search", json={"index": "main", **fields}), status)
    assert words in error["message"]
    assert error["param"] is not None


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 400, "q is missing"),
        ("q=", 400, "q is an empty text"),
        ("q=a&k=x", 400, "k is 'x'"),
        ("q=a&alpha=x", 400, "alpha is 'x', expected a number"),
        ("q=a&alpha=nan", 422, "expected 0 to 1"),
        ("q=a&mode=x", 400, "mode is 'x'"),
        ("q=a&k=0", 422, "expected 1 to 1000"),
        ("q=a&k=" + "9" * 5000, 400, "expected an integer"),
        ("&".join(["q=a"] * 200), 400, "query string"),
        ("q=a&filter=n=1", 400, "no field 'filter', expected one of q, queries, index"),
        ("query=a", 400, "no field 'query', expected one of q, "),
    ],
)
def test_wrong_query_strings_are_refused(client, query, status, words):
    assert words in refusal(client.get(f"/search?index=main&{query}"), status)["message"]


def test_one_of_several_indexes_must_be_named(client):
    error = refusal(client.get("/search?q=a"), 400)
    assert error["message"] == "index is missing, expected one of main, dots"
    assert error["param"] == "index"


def test_indexes(client):
    modes = ["hybrid", "vector", "lexical"]
    assert client.get("/indexes").json() == {
        "indexes": [
            {
                "name": "main",
                "model": "tiny",
                "items": 6,
                "dim": 24,
                "metric": "cosine",
                "kind": "exact",
                "modes": modes,
                "queries": ["exact"],
            },
            {
                "name": "dots",
                "model": "words",
                "items": 6,
                "dim": 24,
                "metric": "dot",
                "kind": "exact",
                "modes": modes,
                "queries": ["exact"],
            },
        ]
    }


def test_similarity(client, tiny, word_path):
    vectors = tiny.encode(SENTENCES)
    answer = client.post("/similarity", json={"texts": SENTENCES, "model": None}).json()
    np.testing.assert_allclose(answer["similarities"], tiny.similarity(vectors, vectors), atol=1e-6)
    assert answer["model"] == "tiny"
    vectors = word_path.encode(SENTENCES * 40)
    answer = client.post("/similarity", json={"texts": SENTENCES * 40, "model": "words"}).json()
    np.testing.assert_allclose(answer["similarities"], word_path.similarity(vectors, vectors), atol=1e-6)


def test_wrong_fields_of_similarity_are_refused(client):
    unknown = refusal(client.post("/similarity", json={"texts": ["a"], "dimensions": 3}), 400)
    assert unknown["message"] == "there is no field 'dimensions', expected one of texts, model"
    assert (unknown["param"], unknown["code"]) == ("dimensions", "unknown_field")
    assert "str" in refusal(client.post("/similarity", json={"texts": "a"}), 400)["message"]
    assert "256" in refusal(client.post("/similarity", json={"texts": ["a"] * 257}), 422)["message"]
    assert (
        refusal(client.post("/similarity", json={"texts": ["a"], "model": "x"}), 404)["code"]
        == "model_not_found"
    )


def test_index_brings_its_own_encoder(client_of, index, tiny):
    client = client_of({}, {"only": index})
    assert client.get("/indexes").json()["indexes"][0]["model"] == "only"
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["only"]


def test_index_shares_the_encoder_of_its_fingerprint(tmp_path, client_of, index, tiny):
    tiny.save(tmp_path / "model")
    other = Index(str(tmp_path / "model"))
    other.add(SENTENCES)
    other.save(tmp_path / "index")
    client = client_of({"mine": tiny}, {"saved": Index.open(tmp_path / "index")})
    assert client.get("/indexes").json()["indexes"][0]["model"] == "mine"
    assert len(client.get("/v1/models").json()["data"]) == 1


def test_no_index(client_of, tiny):
    client = client_of({"tiny": tiny})
    assert client.get("/indexes").json() == {"indexes": []}
    assert refusal(client.post("/search", json={"query": "a"}), 404)["code"] == "index_not_found"


def test_empty_index(client_of, tiny):
    assert client_of({}, {"empty": Index(tiny)}).get("/search?q=man").json()["results"] == []


def test_nothing_to_serve():
    from sentenc.serving import create_app

    with pytest.raises(ValueError, match="encoder, index or classifier"):
        create_app({}, {})
    with pytest.raises(ValueError, match=r"'bare'.*no encoder"):
        create_app({}, {"bare": Index(dim=3)})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda tiny: ({"m": "cse-en"},), r"encoders\['m'\] is str, expected an Encoder"),
        (lambda tiny: ({1: tiny},), "encoders has the name 1, expected a str"),
        (lambda tiny: (tiny,), "encoders is CSE, expected a mapping"),
        (lambda tiny: ({"m": tiny}, {"i": "folder"}), r"indexes\['i'\] is str, expected an Index"),
        (lambda tiny: ({"m": tiny}, {2: Index(tiny)}), "indexes has the name 2, expected a str"),
    ],
)
def test_services_of_other_types(tiny, arguments, words):
    from sentenc.serving import create_app

    with pytest.raises(TypeError, match=words):
        create_app(*arguments(tiny))
    with pytest.raises(TypeError, match=r"classifiers\['c'\] is CSE, expected a fitted estimator"):
        create_app({"m": tiny}, classifiers={"c": tiny})
