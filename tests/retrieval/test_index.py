"""The index compared with brute force, and input that FAISS accepts without an error."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sentenc
from sentenc import Hit, Index
from sentenc.retrieval import ann, segments
from sentenc.retrieval.coarse import CoarseCodes
from sentenc.retrieval.quantization import plain
from tests.support.models import make_cse

TEXTS = ["a man is playing the guitar", "the stock market fell", "dog", "cat", "hello world", ""]


def unit(vectors):
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms == 0, 1, norms)


def clustered(n, dim=16, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(30, dim))
    return (centers[rng.integers(30, size=n)] + 0.3 * rng.normal(size=(n, dim))).astype(np.float32)


def exact_ranking(vectors, queries, k, alive=None):
    scores = queries @ vectors.T
    if alive is not None:
        scores[:, ~alive] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def assert_same(answers, others):
    """Compares items exactly and scores up to rounding, which depends on the shape of a matrix product."""
    assert [[hit.id for hit in hits] for hits in answers] == [[hit.id for hit in hits] for hits in others]
    for hits, other in zip(answers, others, strict=True):
        np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in other], atol=1e-6)


@pytest.fixture(scope="module")
def encoder():
    return make_cse()


def test_texts_are_searched_by_their_cosines(encoder):
    index = Index(encoder)
    assert index.add(TEXTS, payloads=[{"n": i} for i in range(6)]) == [0, 1, 2, 3, 4, 5]
    hits = index.search("dog", k=2, mode="vector")
    one = pytest.approx(1.0, abs=1e-6)
    assert hits[0] == Hit(one, 2, "dog", {"n": 2}, semantic=one)
    vectors = unit(encoder.encode(TEXTS))
    answers = index.search(TEXTS, k=6, mode="vector")
    for row, answer in enumerate(answers):
        assert [hit.id for hit in answer] == exact_ranking(vectors, vectors[row : row + 1], 6)[0].tolist()
        np.testing.assert_allclose(
            [hit.score for hit in answer], np.sort(vectors @ vectors[row])[::-1], atol=1e-6
        )
    assert index.search(encoder.encode("dog"), k=1)[0].id == 2
    assert index.search(encoder.encode(["dog", "cat"]), k=1)[1][0].to_dict()["id"] == 3


def test_there_are_no_more_hits_than_items(encoder):
    index = Index(encoder)
    assert index.search("dog", k=5) == []
    assert index.search(["dog", "cat"]) == [[], []]
    assert index.search([]) == []
    index.add(["dog", "cat"])
    assert [hit.id for hit in index.search("dog", k=1000)] == [0, 1]
    index.delete([0])
    assert [hit.id for hit in index.search("dog", k=1000)] == [1]


def test_a_text_without_a_word_scores_zero(encoder):
    index = Index(encoder)
    index.add(["", "dog"])
    assert [hit.score for hit in index.search("", k=2, mode="vector")] == [0.0, 0.0]
    assert index.search("", k=2) == []
    assert {hit.id: hit.score for hit in index.search("dog", k=2, mode="vector")}[0] == 0.0


def test_dot_is_not_cosine():
    vectors = np.array([[1, 0], [10, 10], [0, 2]], np.float32)
    by_dot, by_cosine = Index(dim=2, metric="dot"), Index(dim=2)
    for index in (by_dot, by_cosine):
        index.add(vectors=vectors)
    assert [(hit.id, hit.score) for hit in by_dot.search(np.array([1.0, 0.0]))] == [(1, 10), (0, 1), (2, 0)]
    assert [hit.id for hit in by_cosine.search(np.array([1.0, 0.0]))] == [0, 1, 2]


@pytest.mark.parametrize("kind", ["exact", "ivf", "ivfpq", "hnsw"])
def test_ann_indexes_agree_with_exact_search(kind):
    vectors = clustered(3000)
    index = Index(dim=16, kind=kind)
    index.add(vectors=vectors)
    index.optimize(target_recall=0.98)
    stored = unit(vectors)
    alive = np.ones(3000, bool)
    deleted = np.arange(0, 3000, 11)
    alive[deleted] = False
    index.delete(deleted.tolist())
    added = clustered(100, seed=5)
    index.add(vectors=added)
    everything = np.concatenate([stored, unit(added)])
    expected = exact_ranking(everything, stored[:50], 10, np.concatenate([alive, np.ones(100, bool)]))
    answers = index.search(stored[:50], 10)
    for answer, query in zip(answers, stored, strict=False):
        ids = [hit.id for hit in answer]
        assert len(set(ids)) == 10
        assert not set(ids) & set(deleted.tolist())
        # Scores are exact, whichever index proposed the rows.
        np.testing.assert_allclose([hit.score for hit in answer], everything[ids] @ query, atol=1e-5)
    recall = np.mean(
        [len({h.id for h in a} & set(r)) / 10 for a, r in zip(answers, expected.tolist(), strict=True)]
    )
    assert recall == 1.0 if kind == "exact" else recall > 0.9
    described = index.info()["structure"]
    if kind != "exact":
        assert described["rows"] == 3000
        assert described["recall"][str(described["effort"])] >= 0.98


def test_auto_builds_an_ann_index_by_the_number_of_items(monkeypatch):
    monkeypatch.setattr(ann, "EXACT_ROWS", 500)
    index = Index(dim=16)
    index.add(vectors=clustered(500))
    index.optimize()
    assert index.info()["searched by"] == "exact"
    index.add(vectors=clustered(400, seed=1))
    index.optimize()
    assert index.info()["searched by"] == "ivf"
    index.add(vectors=clustered(5, seed=2))
    index.optimize()
    # The ANN index covers nine tenths of the items, so that it was not rebuilt.
    assert index.info()["structure"]["rows"] == 900
    index.add(vectors=clustered(200, seed=3))
    index.optimize()
    assert index.info()["structure"]["rows"] == 1105


def test_shards_are_searched_as_one_ann_index(tmp_path, monkeypatch):
    monkeypatch.setattr(ann, "_ROWS_PER_SHARD", 700)
    monkeypatch.setattr(ann, "_ROWS_PER_BLOCK", 512)
    vectors = clustered(3000)
    index = Index(dim=16, kind="ivf")
    index.add(vectors=vectors)
    index.optimize()
    index.save(tmp_path / "index")
    assert len(list((tmp_path / "index").rglob("shard-*.faiss"))) > 2
    expected = exact_ranking(unit(vectors), unit(vectors[:40]), 10)
    answers = index.search(vectors[:40], 10)
    assert (
        np.mean([len({h.id for h in a} & set(r)) for a, r in zip(answers, expected.tolist(), strict=True)])
        > 9
    )


@pytest.mark.parametrize(
    ("recalls", "target", "chosen", "tried"),
    [
        ({4: 0.8, 8: 0.94, 16: 0.96, 32: 0.99}, 0.95, 16, 3),
        ({4: 0.8, 8: 0.9, 16: 0.902, 32: 0.903, 64: 0.904, 128: 0.905}, 0.95, 8, 5),
        ({4: 0.8, 8: 0.85, 16: 0.9}, 1.0, 16, 3),
    ],
)
def test_the_least_effort_with_enough_recall_is_chosen(recalls, target, chosen, tried):
    ann_index = ann.AnnIndex([], None, "ivf", 100, 1, {})
    ann_index.efforts = lambda: list(recalls)
    ann.choose_effort(ann_index, recalls.__getitem__, target)
    assert ann_index.effort == chosen
    assert len(ann_index.recall) == tried


def test_compaction_keeps_items_and_order():
    index = Index(dim=16)
    index.add(vectors=clustered(50), texts=[str(i) for i in range(50)])
    index.add(
        vectors=clustered(50, seed=1),
        ids=[f"x{i}" for i in range(50)],
        payloads=[{"i": i} for i in range(50)],
    )
    index.delete([*range(0, 50, 2), "x7"])
    before = list(index)
    answers = index.search(clustered(9, seed=2), 20)
    index.optimize()
    assert index.info()["deleted"] == 0
    assert list(index) == before
    assert_same(index.search(clustered(9, seed=2), 20), answers)
    assert "x7" not in index
    assert 1 in index
    assert index.get(["x8"])[0].payload == {"i": 8}


def test_update_replaces_only_the_arguments_passed(encoder):
    index = Index(encoder)
    index.add(["dog", "cat"], ids=["a", "b"], payloads=[{"n": 1}, {"n": 2}])
    index.update(["a"], payloads=[{"n": 9}])
    assert index.get(["a"])[0].to_dict() == {"id": "a", "text": "dog", "payload": {"n": 9}}
    assert index.search("dog", 1, mode="vector")[0].score == pytest.approx(1)
    index.update(["b"], ["hello world"])
    best = index.search("hello world", 1, mode="vector")[0]
    assert best == Hit(pytest.approx(1), "b", "hello world", {"n": 2}, semantic=pytest.approx(1))
    assert len(index) == 2
    with pytest.raises(KeyError, match="'c'"):
        index.update(["a", "c"], ["x", "y"])
    with pytest.raises(ValueError, match="1 items for 2 ids"):
        index.update(["a", "b"], ["x"])
    assert index.get(["a"])[0].text == "dog"


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_k_hits_are_returned_despite_deleted_items(kind):
    rng = np.random.default_rng(0)
    centers = 10 * rng.normal(size=(20, 8))
    vectors = np.concatenate([center + rng.normal(size=(100, 8)) for center in centers])
    index = Index(dim=8, kind=kind, metric="dot" if kind == "ivf" else "cosine")
    index.add(vectors=vectors)
    index.optimize(target_recall=1e-6)  # the least effort
    index.delete(list(range(100)))  # all items near the first center
    assert index.info()["structure"]["rows"] == 2000
    hits = index.search(centers[0].astype(np.float32), 10)
    assert len({hit.id for hit in hits}) == 10
    assert min(hit.id for hit in hits) >= 100
    assert len({hit.id for hit in index.search(vectors[500].astype(np.float32), 1900)}) == 1900


def test_a_small_index_is_searched_exactly_whatever_its_kind():
    for kind in ("ivf", "ivfpq", "hnsw"):
        index = Index(dim=6, kind=kind)
        index.add(vectors=np.random.default_rng(0).normal(size=(15, 6)))
        index.optimize()
        assert index.info()["searched by"] == "exact"
        assert index.info()["to be searched by"] == kind
        assert len(index.search(np.ones(6), 20)) == 15


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["add", "delete", "update", "optimize"]), max_size=12), st.integers(0, 1000))
def test_any_order_of_writes_agrees_with_a_dict(steps, seed):
    rng = np.random.default_rng(seed)
    index, expected = Index(dim=4), {}
    for step in steps:
        if step == "add":
            vectors = rng.normal(size=(int(rng.integers(1, 5)), 4)).astype(np.float32)
            expected |= dict(zip(index.add(vectors=vectors), unit(vectors), strict=True))
        elif step == "optimize":
            index.optimize()
        elif expected:
            count = int(rng.integers(1, len(expected) + 1))
            some = sorted(rng.choice(list(expected), size=count, replace=False).tolist())
            if step == "delete":
                assert index.delete(some) == len(some)
                expected = {name: vector for name, vector in expected.items() if name not in some}
            else:
                vectors = rng.normal(size=(len(some), 4)).astype(np.float32)
                index.update(some, vectors=vectors)
                expected |= dict(zip(some, unit(vectors), strict=True))
    assert len(index) == len(expected)
    query = rng.normal(size=4).astype(np.float32)
    hits = index.search(query, 50)
    assert {hit.id for hit in hits} == set(expected)
    for hit in hits:
        assert hit.score == pytest.approx(float(expected[hit.id] @ query / np.linalg.norm(query)), abs=1e-5)


def test_searching_while_writing(encoder):
    index = Index(encoder)
    index.add(TEXTS[:5])
    failures = []

    def search():
        for _ in range(60):
            hits = index.search("dog", 3)
            if hits[0].text != "dog" or hits[0].score < 0.999:
                failures.append(hits)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(40):
        index.add([f"cat {i}"])
        if i % 5 == 0:
            index.delete([4 + i])
    for thread in threads:
        thread.join()
    assert failures == []


def test_the_shipped_model_by_name():
    index = Index("cse-en")
    index.add(["A man is playing a guitar.", "The stock market fell sharply."])
    assert index.search("Someone plays an instrument.", k=1)[0].id == 0
    assert index.info()["encoder"] == "cse-en"
    assert Index(sentenc.load("cse-en")).info()["encoder"] == "cse-en"


@pytest.mark.parametrize("store", ["float32", "float16"])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_coarse_codes_do_not_change_the_best_items(tmp_path, store, metric, monkeypatch):
    monkeypatch.setattr(segments, "_MIN_COARSE_ROWS", 100)
    rng = np.random.default_rng(3)
    # Many items are nearly or exactly the same, so that coarse codes cannot tell them apart.
    vectors = clustered(3000, dim=48, seed=1)
    vectors[1000:2000] = vectors[:1000] + 1e-4 * rng.normal(size=(1000, 48))
    vectors[2000:2500] = vectors[:500]
    vectors[2900] *= 100
    index = Index(dim=48, metric=metric, store=store)
    index.add(vectors=vectors[:2000])
    index.save(tmp_path / "index")
    index.add(vectors=vectors[2000:])
    index.save()
    index.add(vectors=vectors[:50])
    index.delete(list(range(0, 3000, 7)))
    assert any(segment.coarse is not None for segment in index._snapshot.segments)
    queries = np.concatenate([vectors[:20], clustered(20, dim=48, seed=5), np.zeros((1, 48))])
    together = index.search(queries, 10)
    apart = [index.search(query, 10) for query in queries]
    for hits, expected in zip(apart, together, strict=True):
        np.testing.assert_allclose([h.score for h in hits], [h.score for h in expected], rtol=1e-5, atol=1e-6)
        assert len({hit.id for hit in hits}) == 10
    ranked = [hit.id for hit in index.search(vectors[1], 500)]
    assert ranked.index(1) < ranked.index(2001)
    assert len(index.search(vectors[1], 10_000)) == len(index)
    opened = Index.open(tmp_path / "index")
    opened.verify()
    assert sum(segment.coarse is not None for segment in opened._snapshot.segments) > 0


def test_the_error_of_coarse_products_is_bounded(tmp_path):
    vectors = clustered(500, dim=40) * np.linspace(0.01, 100, 40, dtype=np.float32)
    codes = CoarseCodes.of(vectors, plain(40))
    codes.write(tmp_path)
    for own in (codes, CoarseCodes.read(tmp_path)):
        for query in [
            *clustered(5, dim=40, seed=4),
            np.zeros(40, np.float32),
            vectors[3],
            np.eye(40)[7].astype("f"),
        ]:
            products, error = own.products(query)
            assert np.abs(products - vectors.astype(np.float64) @ query).max() <= error
