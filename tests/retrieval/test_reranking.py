"""Reranking: by an encoder whose vectors are stored or computed, and by a function."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sentenc import Index, load
from sentenc.encoders.comparison import unit_rows
from sentenc.retrieval.chunking import check_chunking, passage_spans
from sentenc.retrieval.rerank_vectors import RerankVectors, joined
from tests.retrieval.conftest import WORDS
from tests.support.models import make_bert, make_cse

QUERY = "dog runs in the park"


@pytest.fixture(scope="module")
def bert():
    return make_bert()


@pytest.fixture
def texts():
    rng = np.random.default_rng(7)
    return [" ".join(rng.choice(WORDS, n)) for n in rng.integers(1, 90, 80)]


def filled(texts, **options):
    index = Index(make_cse("float32", max_tokens=128), **options)
    index.add(texts)
    return index


def similarity(encoder, query, text):
    """The similarity of a query and the best passage of a text."""
    (spans,) = passage_spans([text], encoder, check_chunking("auto", None, encoder))
    return encoder.similarity(query, [text[a:b] for a, b in spans]).max()


def z_scores(values):
    values = np.array(values, float)
    return (values - values.mean()) / values.std()


def expected_order(candidates, encoder, query, alpha=0.6):
    similarities = [similarity(encoder, query, hit.passage) for hit in candidates]
    numbers = alpha * z_scores(similarities) + (1 - alpha) * z_scores([hit.lexical for hit in candidates])
    order = np.argsort(-numbers, kind="stable")
    return [(candidates[i].id, numbers[i], similarities[i]) for i in order]


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize("mode", ["hybrid", "lexical"])
def test_an_encoder_orders_by_its_similarity_and_words(texts, bert, mode, is_stored):
    index = filled(texts, rerank_store=bert if is_stored else None)
    candidates = index.search(QUERY, 30, mode=mode)
    expected = expected_order(candidates, bert, QUERY)
    hits = index.search(QUERY, 10, mode=mode, rerank=bert, candidates=30)
    assert len(hits) == 10
    close = 2e-3 if is_stored else 1e-5
    assert [hit.score for hit in hits] == pytest.approx(
        [score for _, score, _ in expected[:10]], abs=10 * close
    )
    by_id = {name: similarity for name, _, similarity in expected}
    assert all(hit.rerank == pytest.approx(by_id[hit.id], abs=close) for hit in hits)
    if not is_stored:
        assert [hit.id for hit in hits] == [name for name, _, _ in expected[:10]]
    # The other parts are those of the search that found the candidates.
    first = {hit.id: hit for hit in candidates}
    assert all(hit.lexical == first[hit.id].lexical for hit in hits)
    assert all(hit.semantic == first[hit.id].semantic for hit in hits)


def test_without_words_the_similarity_decides(texts, bert):
    index = filled(texts)
    hits = index.search(QUERY, 80, mode="vector", rerank=bert)
    assert [hit.score for hit in hits] == sorted([hit.score for hit in hits], reverse=True)
    assert all(hit.score == hit.rerank == pytest.approx(similarity(bert, QUERY, hit.text)) for hit in hits)


def test_stored_vectors_are_used(texts, bert, monkeypatch):
    index = filled(texts, rerank_store=bert)
    encoded = []
    original = type(bert).encode

    def encode(self, texts, **options):
        encoded.extend(texts)
        return original(self, texts, **options)

    monkeypatch.setattr(type(bert), "encode", encode)
    index.search([QUERY, "cat"], 10, rerank=bert)
    assert encoded == [QUERY, "cat"]
    index.search(QUERY, 10, rerank=make_bert(hidden_size=16))
    assert len(encoded) > 50


def test_stored_vectors_follow_every_change(tmp_path, texts, bert):
    bert.save(tmp_path / "bert")
    index = filled(texts[:40], rerank_store=str(tmp_path / "bert"))
    index.save(tmp_path / "index")
    index = Index.open(tmp_path / "index", index.encoder)
    assert index.info()["reranker"]["fingerprint"] == bert.fingerprint()
    index.add(texts[40:], chunk_tokens=32)
    index.update([3, 50], [QUERY, texts[3]])
    index.delete(list(range(10, 30)))
    index.save()
    index.optimize()
    index.save()
    index.verify()
    opened = Index.open(tmp_path / "index", index.encoder)
    for query in (QUERY, "the stock market fell"):
        stored = opened.search(query, 60, rerank=bert)
        opened_again = Index.open(tmp_path / "index", index.encoder)
        opened_again.add_reranker(None)
        computed = opened_again.search(query, 60, rerank=bert)
        assert {hit.id: hit.span for hit in stored} == {hit.id: hit.span for hit in computed}
        similarities = {hit.id: hit.rerank for hit in computed}
        for hit in stored:
            assert hit.rerank == pytest.approx(similarities[hit.id], abs=2e-3)
    assert opened_again.info()["reranker"] is None
    opened_again.save()
    assert not list((tmp_path / "index").rglob("rerank*"))
    opened_again.add_reranker(bert)
    opened_again.save()
    assert list((tmp_path / "index").rglob("rerank.npy"))


def test_a_function_orders_by_its_scores(texts):
    index = filled(texts)
    calls = []

    def by_length(query, texts):
        calls.append((query, texts))
        return [len(text) for text in texts]

    hits = index.search([QUERY, "cat"], 5, rerank=by_length, candidates=20)
    assert [query for query, _ in calls] == [QUERY, "cat"]
    for own, (query, passed) in zip(hits, calls, strict=True):
        assert passed == [hit.text for hit in index.search(query, 20)]
        assert [hit.text for hit in own] == sorted(passed, key=len, reverse=True)[:5]
        assert [hit.score for hit in own] == [hit.rerank for hit in own] == [len(hit.text) for hit in own]


def test_a_function_gets_passages(texts):
    index = Index(make_cse("float32"))
    index.add(texts, chunk_tokens=16)
    hits = index.search(QUERY, 10, rerank=lambda query, texts: [-len(text) for text in texts])
    assert all(hit.rerank == -len(hit.passage) for hit in hits)
    assert max(len(hit.text) for hit in hits) > 100


def test_equal_scores_keep_their_order(texts):
    index = filled(texts)
    hits = index.search(QUERY, 10, rerank=lambda query, texts: [1.0] * len(texts))
    assert [hit.id for hit in hits] == [hit.id for hit in index.search(QUERY, 10)]


def test_filters_and_k_above_candidates(texts, bert):
    index = Index(make_cse("float32", max_tokens=128))
    index.add(texts, payloads=[{"even": i % 2 == 0} for i in range(len(texts))])
    hits = index.search(QUERY, 40, rerank=bert, candidates=5, where={"even": True})
    assert sorted(hit.id for hit in hits) == list(range(0, 80, 2))
    assert index.search(QUERY, 5, rerank=bert, where={"even": 3}) == []
    assert Index(index.encoder).search(QUERY, rerank=bert) == []
    assert Index(index.encoder, rerank_store=bert).search([QUERY, "dog"], rerank=bert) == [[], []]
    assert index.search([], rerank=bert) == []


@pytest.mark.parametrize(
    ("rerank", "error", "message"),
    [
        (3, TypeError, "rerank is int"),
        (lambda query, texts: [1.0], ValueError, r"shape \(1,\), expected \(80,\)"),
        (lambda query, texts: None, TypeError, "rerank returned NoneType"),
        (lambda query, texts: ["high"] * len(texts), TypeError, "rerank returned list"),
        (lambda query, texts: [float("nan")] * len(texts), ValueError, "rerank returned nan"),
        ("no-such-model", Exception, "no-such-model"),
    ],
)
def test_bad_rerankers(texts, rerank, error, message):
    with pytest.raises(error, match=message):
        filled(texts).search(QUERY, rerank=rerank)


def test_reranking_needs_texts(bert):
    index = Index(dim=3)
    index.add(vectors=np.eye(3))
    with pytest.raises(ValueError, match="queries are vectors, expected texts"):
        index.search(np.ones(3), rerank=bert)
    with pytest.raises(ValueError, match="the item 0 has no text"):
        index.search("dog", vectors=np.array([1.0, 0, 0]), mode="vector", rerank=bert)
    with pytest.raises(ValueError, match="the item 0 has no text"):
        index.add_reranker(bert)
    assert index.info()["reranker"] is None
    stored = Index(dim=3, rerank_store=bert)
    with pytest.raises(ValueError, match="the item 0 has no text"):
        stored.add(vectors=np.eye(3))
    assert len(stored) == 0
    with pytest.raises(ValueError, match="candidates is 0"):
        index.search(np.ones(3), candidates=0)


def test_deleted_items_need_no_text(bert):
    index = Index(make_cse("float32"))
    index.add(["dog", "a cat"])
    index.add(vectors=np.ones((1, index.dim)))
    index.delete([2])
    index.add_reranker(bert)
    hits = index.search("dog", 3, mode="vector", rerank=bert)
    assert {hit.id: hit.rerank for hit in hits} == pytest.approx(
        {0: similarity(bert, "dog", "dog"), 1: similarity(bert, "dog", "a cat")}, abs=2e-3
    )


def test_a_stored_reranker_without_a_name(tmp_path, texts, bert):
    index = filled(texts, rerank_store=bert)
    index.save(tmp_path / "index")
    opened = Index.open(tmp_path / "index", index.encoder)
    assert opened.search(QUERY, 3, rerank=bert) == index.search(QUERY, 3, rerank=bert)
    with pytest.raises(ValueError, match=r"pass it to add_reranker\(\) first"):
        opened.add(["dog"])
    opened.add_reranker(bert)
    opened.add(["dog"])
    assert len(opened) == 81


def test_rerank_vectors(bert):
    texts = ["dog", "cat " * 200, "", "stock"]
    vectors = RerankVectors.of(texts, bert)
    assert len(vectors) == 4
    assert len(vectors.vectors) > 6
    queries = unit_rows(bert.encode(["dog", "cat"]), "queries")
    expected = np.array([[similarity(bert, query, text) for text in texts] for query in ("dog", "cat")])
    np.testing.assert_allclose(vectors.similarities(queries), expected, atol=1e-5)
    some = vectors.only(np.array([1, 3, 1]))
    np.testing.assert_allclose(some.similarities(queries), expected[:, [1, 3, 1]], atol=1e-5)
    both = joined([some, vectors])
    np.testing.assert_allclose(
        both.similarities(queries), np.hstack([expected[:, [1, 3, 1]], expected]), atol=1e-5
    )


def test_threads_load_a_reranker_by_name_once(texts, tmp_path, monkeypatch):
    make_cse().save(tmp_path / "model")
    loads = []

    def counted(*arguments, **options):
        loads.append(arguments)
        return load(*arguments, **options)

    monkeypatch.setattr("sentenc.retrieval.reranking.load", counted)
    index = filled(texts)
    barrier = threading.Barrier(4)

    def search(_):
        barrier.wait(30)
        return index.search(QUERY, 3, rerank=str(tmp_path / "model"))

    with ThreadPoolExecutor(4) as pool:
        assert len({str(hits) for hits in pool.map(search, range(4))}) == 1
    assert len(loads) == 1
