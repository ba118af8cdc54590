"""Fast and exact queries over HTTP, and when each encoder is loaded."""

import asyncio
import threading
from unittest.mock import Mock

import numpy as np
import pytest
from click import UsageError

import sentenc
from sentenc import Index
from sentenc.cli.serve import _open_indexes
from sentenc.encoders.lazy import LazyEncoder
from sentenc.serving import ServerConfig
from sentenc.serving.metrics import Metrics
from sentenc.serving.services import ServedModel
from tests.serving.conftest import SENTENCES, wait_until_ready
from tests.serving.test_embeddings import refusal
from tests.support.models import make_bert, make_cse
from tests.support.pairs import in_space, make_pair

QUERY = "a man plays the guitar"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folders of a pair, of its halves, and of an index by each."""
    folder = tmp_path_factory.mktemp("models")
    pair = make_pair()
    pair.save(folder / "pair")
    pair.documents.save(folder / "strong")
    pair.queries.save(folder / "quick")
    for name, model in (("by-pair", "pair"), ("by-strong", "strong")):
        index = Index(str(folder / model))
        index.add(SENTENCES)
        if model == "strong":
            index.set_query_encoder(str(folder / "quick"))
        index.save(folder / name)
    return folder


def results(client, **fields):
    answer = client.post("/search", json={"query": QUERY, "k": 3, **fields}).json()
    return answer, {hit["id"]: hit["score"] for hit in answer["results"]}


def expected(index, **options):
    return {hit.id: hit.score for hit in index.search(QUERY, 3, **options)}


def assert_same(scores, wanted):
    assert list(scores) == list(wanted)
    np.testing.assert_allclose(list(scores.values()), list(wanted.values()), atol=1e-5)


def test_a_pair_needs_no_more_options(client_of, folders):
    indexes = _open_indexes([str(folders / "by-pair")], {}, None)
    client = client_of({}, indexes)
    wait_until_ready(client)
    halves = indexes["by-pair"].encoder.halves
    assert [name for name, half in halves.items() if half.is_loaded] == ["queries"]
    answer, fast = results(client)
    assert (answer["model"], answer["queries"]) == ("pair", "fast")
    assert_same(fast, expected(indexes["by-pair"]))
    assert not halves["documents"].is_loaded
    assert results(client, queries="fast")[1] == fast
    answer, exact = results(client, queries="exact")
    assert (answer["model"], answer["queries"]) == ("by-pair (exact)", "exact")
    assert_same(exact, expected(indexes["by-pair"], queries="exact"))
    assert exact != fast
    assert client.get("/indexes").json()["indexes"][0]["queries"] == ["fast", "exact"]
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["pair"]


def test_an_encoder_of_queries_is_used(client_of, folders):
    indexes = _open_indexes([str(folders / "by-strong")], {}, None)
    index = indexes["by-strong"]
    client = client_of({}, indexes)
    wait_until_ready(client)
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["quick"]
    assert not index._state.encoders.items.is_loaded
    for speed in ("fast", "exact"):
        for mode in ("hybrid", "vector", "lexical"):
            answer, scores = results(client, queries=speed, mode=mode)
            assert (answer["queries"], answer["mode"]) == (speed, mode)
            assert_same(scores, expected(index, queries=speed, mode=mode))
    assert index._state.encoders.items.is_loaded


def test_a_served_model_encodes_exact_queries(client_of, folders):
    strong = sentenc.load(folders / "strong")
    indexes = _open_indexes([str(folders / "by-strong")], {"strong": strong}, None)
    client = client_of({"strong": strong}, indexes)
    answer, scores = results(client, queries="exact")
    assert answer["model"] == "strong"
    assert_same(scores, expected(indexes["by-strong"], queries="exact"))


def test_many_queries_have_a_speed(client_of, folders):
    indexes = _open_indexes([str(folders / "by-pair")], {}, None)
    client = client_of({}, indexes)
    fields = {"queries": SENTENCES[:2], "k": 2}
    fast, exact = (
        client.post("/search", json={**fields, "speed": speed}).json()["results"]
        for speed in ("fast", "exact")
    )
    assert fast == client.post("/search", json=fields).json()["results"] != exact
    by_url = client.get("/search", params={"q": SENTENCES[0], "k": 2, "queries": "exact"}).json()
    assert by_url["queries"] == "exact"
    assert [hit["id"] for hit in by_url["results"]] == [hit["id"] for hit in exact[0]]


def test_an_unknown_speed_is_refused(client_of, folders, tiny):
    index = Index(tiny)
    index.add(SENTENCES)
    client = client_of({"tiny": tiny}, {"one": index})
    assert results(client)[0]["queries"] == "exact"
    for fields in ({"query": QUERY, "queries": "fast"}, {"query": QUERY, "queries": "slow"}):
        error = refusal(client.post("/search", json=fields), 400)
        assert "expected exact" in error["message"]
    for fields, param in ((("query", "queries"), "queries"), (("query", "speed"), "speed")):
        error = refusal(client.post("/search", json=dict(zip(fields, (QUERY, "slow"), strict=True))), 400)
        assert error["param"] == param
        assert error["message"].startswith(f"{param} is 'slow', expected ")
    error = refusal(client.get("/search", params={"q": QUERY, "queries": "slow"}), 400)
    assert error["param"] == "queries"
    error = refusal(client.post("/search", json={"queries": "exact"}), 400)
    assert error["param"] == "queries"


def test_a_served_model_encodes_the_queries_of_an_index_without_an_encoder(client_of, tiny, tmp_path):
    index = Index(tiny)
    index.add(SENTENCES)
    index.save(tmp_path / "index")
    client = client_of({"tiny": tiny}, {"index": Index.open(tmp_path / "index", encoder=False)})
    answer, scores = results(client)
    assert (answer["model"], answer["queries"]) == ("tiny", "exact")
    assert_same(scores, expected(index))
    assert results(client, queries="exact")[1] == scores


def test_an_index_is_served_by_any_encoder_of_its_space(tmp_path):
    index = Index(in_space(make_bert()))
    index.add(["dog cat", "the stock market fell"])
    index.save(tmp_path / "index")
    other, fast = make_cse(), in_space(make_cse(widths=()))
    opened = _open_indexes([str(tmp_path / "index")], {"other": other, "fast": fast}, None)
    assert opened["index"].encoder is fast
    with pytest.raises(UsageError, match="does not name the model that built it"):
        _open_indexes([str(tmp_path / "index")], {"other": other}, None)


def test_concurrent_first_requests_load_an_encoder_in_one_thread():
    threads, may_end = [], threading.Event()

    def load():
        threads.append(threading.get_ident())
        assert may_end.wait(30)
        return encoder

    encoder = make_cse()
    served = ServedModel("tiny", LazyEncoder(load), ServerConfig(), Metrics())
    uses = []
    served._for_role = lambda role, own=served._for_role: uses.append(role) or own(role)

    async def requests():
        waiting = [asyncio.create_task(served.encode([QUERY], "input")) for _ in range(8)]
        await asyncio.sleep(0)
        # A client that disconnects does not end the load for the others.
        waiting.pop().cancel()
        await asyncio.sleep(0)
        may_end.set()
        return await asyncio.gather(*waiting)

    answers = asyncio.run(requests())
    served.stop()
    assert (len(threads), uses) == (1, [None])
    for vectors, _ in answers:
        np.testing.assert_array_equal(vectors, encoder.encode([QUERY]))


def test_a_load_that_fails_is_repeated_by_the_next_request():
    load = Mock(side_effect=[OSError("gone"), make_cse()])
    served = ServedModel("tiny", LazyEncoder(load), ServerConfig(), Metrics())

    async def requests():
        with pytest.raises(OSError, match="gone"):
            await served.encode([QUERY], "input")
        return await served.encode([QUERY], "input")

    assert asyncio.run(requests())[0].shape == (1, 24)
    served.stop()
