"""Hybrid search compared with z-scores over all items."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from sentenc import Index
from sentenc.retrieval import ann, fusion
from sentenc.retrieval.moments import Moments
from tests.retrieval.test_index import clustered, unit
from tests.retrieval.test_lexical import bm25_by_formula, random_texts
from tests.support.models import make_cse


def z_scores(scores):
    std = scores.std()
    return (scores - scores.mean()) / std if std > 1e-9 else np.zeros_like(scores)


def fused(vectors, texts, query, vector, alpha, analyzer):
    """The parts of the scores of all items, computed from their definition."""
    lexical = np.array(bm25_by_formula(query, texts, analyzer))
    return alpha * z_scores(vectors @ vector), (1 - alpha) * z_scores(lexical)


def filled(n=200, seed=0, **options):
    texts = [text or "" for text in random_texts(n, seed)]
    index = Index(dim=16, language="en", **options)
    index.add(texts, vectors=clustered(n, seed=seed), ids=[f"n{i}" for i in range(n)])
    return index


def assert_fused(index, query, vector, alpha, k=10, **options):
    """Checks a search against z-scores over all items of the index."""
    items = list(index)
    vectors = index._snapshot.vectors(np.flatnonzero(~index._snapshot.deleted)).astype(np.float64)
    parts = fused(
        vectors, [item.text for item in items], query, unit(vector[None])[0], alpha, index._state.analyzer
    )
    order = np.argsort(-(parts[0] + parts[1]), kind="stable")[:k]
    hits = index.search(query, k, vectors=vector, alpha=alpha, **options)
    assert [hit.id for hit in hits] == [items[i].id for i in order]
    for hit, i in zip(hits, order, strict=True):
        assert hit.semantic == pytest.approx(parts[0][i], abs=1e-4)
        assert hit.lexical == pytest.approx(parts[1][i], abs=1e-4)
        assert hit.score == pytest.approx(hit.semantic + hit.lexical, abs=1e-6)


@pytest.mark.parametrize("store", ["float32", "float16", "int8", "binary"])
def test_hybrid_scores_are_sums_of_z_scores(tmp_path, store):
    index = filled(1500, store=store)
    index.save(tmp_path / "index")
    query = clustered(1, seed=9)[0]
    for alpha in (0.0, 0.3, 1.0):
        assert_fused(index, "w1 w2 w2 w40", query, alpha)
    # Items come and go, in memory and on disk.
    index.delete([f"n{i}" for i in range(0, 900, 2)])
    index.update(["n1", "n3"], ["w1 w1", ""], vectors=clustered(2, seed=3))
    index.add(["w1"], vectors=clustered(1, seed=4))
    index.add(vectors=clustered(2, seed=5))
    assert_fused(index, "w1 w40", query, 0.4)
    index.save()
    assert_fused(Index.open(tmp_path / "index"), "w1 w40", query, 0.4)
    index.optimize()
    index.save()
    assert_fused(index, "w1 w40", query, 0.4)
    assert_fused(Index.open(tmp_path / "index"), "w1 w40", query, 0.4)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_ann_indexes_fuse_as_exact_ones(kind):
    index, exact = filled(3000, kind=kind), filled(3000, kind="exact")
    index.optimize()
    for each in (index, exact):
        each.add(["w1 w2 w3", "w9"], vectors=clustered(2, seed=5))
        each.delete(["n7"])
    queries = clustered(20, seed=6)
    texts = [f"w{i} w{i + 7} w{i + 20}" for i in range(20)]
    answers, others = (each.search(texts, 10, vectors=queries) for each in (index, exact))
    shared = 0
    for hits, expected in zip(answers, others, strict=True):
        assert len({hit.id for hit in hits}) == 10
        parts = {hit.id: (hit.score, hit.semantic, hit.lexical) for hit in expected}
        for hit in hits:
            if hit.id in parts:
                shared += 1
                assert (hit.score, hit.semantic, hit.lexical) == pytest.approx(parts[hit.id], abs=1e-4)
    assert shared >= 190


def test_binary_codes_fuse_as_exact_ones(monkeypatch):
    monkeypatch.setattr(ann, "EXACT_ROWS", 100)
    index = filled(1500, store="binary", kind="auto")
    exact = filled(1500, store="binary", kind="exact")
    query = clustered(1, seed=6)[0]
    assert [hit.id for hit in index.search("w1 w2", 5, vectors=query)] == [
        hit.id for hit in exact.search("w1 w2", 5, vectors=query)
    ]


def test_a_query_without_a_known_word_is_ranked_by_vectors():
    index = filled()
    vector = clustered(1, seed=2)[0]
    hits = index.search("xyz", 10, vectors=vector)
    assert [hit.id for hit in hits] == [hit.id for hit in index.search(vector, 10)]
    assert all(hit.lexical == 0 and hit.words == () for hit in hits)
    assert all(hit.score == pytest.approx(hit.semantic) for hit in hits)


def test_a_query_without_a_vector_is_ranked_by_words():
    index = filled()
    answers = index.search(["w1 w2", "w1 w2"], 200, vectors=np.stack([np.zeros(16), clustered(1)[0]]))
    by_words = index.search("w1 w2", 200, mode="lexical")
    assert [hit.id for hit in answers[0]] == [hit.id for hit in by_words]
    assert all(hit.semantic == 0 and hit.score == pytest.approx(hit.lexical) for hit in answers[0])
    assert len(answers[1]) == 200
    allowed = index.search("w1 w2", 200, vectors=np.zeros(16), where={"no": "field"})
    assert allowed == []


def test_texts_are_searched_by_both_by_default():
    encoder = make_cse("int8")
    index = Index(encoder)
    index.add(["the dog runs in the park", "a cat", "stock market"], payloads=[{"n": i} for i in range(3)])
    hit = (
        index.search("dogs", 1)[0] if index.info()["words"]["language"] == "en" else index.search("dog", 1)[0]
    )
    assert (hit.id, hit.words) == (0, ("dog",))
    assert set(hit.to_dict()) == {"score", "id", "text", "payload", "semantic", "lexical", "words"}
    json.dumps(hit.to_dict())
    assert [hit.id for hit in index.search("cat", 5, where={"n": {"gte": 1}})] == [1, 2]
    assert index.search("cat", 1, mode="vector")[0].lexical is None
    assert index.search("cat", 1, mode="lexical")[0].semantic is None


def test_vectors_without_texts_stay_as_they_are(tmp_path):
    encoder = make_cse("int8")
    index = Index(encoder)
    index.add(vectors=encoder.encode(["dog", "cat"]))
    index.save(tmp_path / "index")
    assert not list((tmp_path / "index").glob("**/words-*"))
    assert not list((tmp_path / "index").glob("moments-*"))
    assert index.search("dog", 1)[0].score == pytest.approx(1)
    assert [hit.id for hit in index.search("dog", 2, mode="hybrid")] == [0, 1]
    # The first text makes the index hybrid; the vectors before it count in the z-scores.
    index.add(["dog", "the"], vectors=encoder.encode(["park", "market"]))
    index.save()
    assert_fused(Index.open(tmp_path / "index", encoder), "dog", encoder.encode("dog"), 0.4, k=4)


def test_an_index_without_words_can_add_them(tmp_path):
    index = filled(1500, words=False, store="int8")
    index.save(tmp_path / "index")
    assert index.info()["words"] is None
    with pytest.raises(ValueError, match="index_words"):
        index.search("w1", vectors=clustered(1)[0], mode="hybrid")
    assert index.search("w1", 1, vectors=clustered(1)[0])[0].lexical is None
    opened = Index.open(tmp_path / "index")
    opened.delete(["n3"])
    opened.index_words("en")
    opened.save()
    again = Index.open(tmp_path / "index")
    again.verify()
    assert_fused(again, "w1 w2", clustered(1, seed=8)[0], 0.4)


def test_folders_of_version_1_open_as_vectors_alone(tmp_path):
    index = filled(30, words=False)
    index.save(tmp_path / "index")
    path = tmp_path / "index" / "index.json"
    content = json.loads(path.read_text())
    for key in ("words", "moments", "chunking", "reranker", "query_encoder"):
        assert content.pop(key) is None
    path.write_text(json.dumps(content | {"format_version": 1}))
    opened = Index.open(tmp_path / "index")
    assert opened.search("w1", 1, vectors=clustered(1)[0])[0].lexical is None
    opened.add(["w1"], vectors=clustered(1))
    opened.save()
    assert len(Index.open(tmp_path / "index")) == 31


def test_another_stemmer_is_named(tmp_path):
    index = filled(5)
    index.save(tmp_path / "index")
    path = tmp_path / "index" / "index.json"
    content = json.loads(path.read_text())
    content["words"]["stemmer"] = "2.0"
    path.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"PyStemmer 2\.0.*index_words"):
        Index.open(tmp_path / "index")


def test_arguments_of_hybrid_search():
    index = filled(5)
    vector = clustered(1)[0]
    for options, message in [
        ({"mode": "both"}, "mode is 'both'"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"alpha": True}, "alpha is True"),
        ({"vectors": np.stack([vector, vector])}, "2 vectors for 1 queries"),
        ({"vectors": vector[:3]}, r"shape \(1, 3\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            index.search("w1", **({"vectors": vector} | options))
    with pytest.raises(ValueError, match="needs texts"):
        index.search(vector, mode="hybrid")
    with pytest.raises(ValueError, match="vectors"):
        index.search(vector, vectors=vector)
    with pytest.raises(ValueError, match="language is 'english'"):
        Index(dim=2, language="english")


def test_empty_indexes_and_single_items():
    index = Index(dim=16)
    assert index.search("w1", vectors=np.ones(16)) == []
    assert index.search(["w1"], vectors=np.ones((1, 16)), mode="hybrid") == [[]]
    assert index.search([], vectors=np.zeros((0, 16)), mode="hybrid") == []
    assert index.search("w1", mode="lexical") == []
    index.add(["w1 w2"], vectors=np.ones((1, 16)))
    hit = index.search("w1", vectors=np.ones(16))[0]
    assert (hit.id, hit.score, hit.words) == (0, 0.0, ("w1",))
    assert index.search([], vectors=np.zeros((0, 16)), mode="hybrid") == []


def test_moments_equal_those_of_all_similarities():
    vectors, queries = clustered(3000), clustered(7, seed=1)
    moments = Moments.of(lambda block: vectors[block], len(vectors), 16)
    part = Moments.of(lambda block: vectors[:1000][block], 1000, 16)
    for own, rows in [(moments, vectors), (moments.minus(part), vectors[1000:])]:
        mean, std = own.mean_and_std(queries)
        similarities = queries.astype(np.float64) @ rows.T
        np.testing.assert_allclose(mean, similarities.mean(axis=1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(std, similarities.std(axis=1), rtol=1e-5)
    assert Moments.of(lambda block: vectors[:1][block], 1, 16).mean_and_std(queries)[1].tolist() == [0] * 7


def with_large_vectors(n=50):
    """An index of n items, and of 100 more whose vectors are a million times as long."""
    rng = np.random.default_rng(0)
    index = Index(dim=8, metric="dot", language="en")
    index.add([f"w{i}" for i in range(n)], vectors=rng.normal(size=(n, 8)))
    expected = semantic_parts(index)
    index.add(["large"] * 100, vectors=1e6 * rng.normal(size=(100, 8)))
    return index, expected


def semantic_parts(index):
    hits = index.search("w3", 50, vectors=np.linspace(-1, 1, 8))
    return {hit.id: hit.semantic for hit in hits}


def test_large_vectors_leave_nothing_when_they_are_deleted(tmp_path):
    index, expected = with_large_vectors()
    index.delete(range(50, 100))
    index.delete(range(100, 150))
    assert semantic_parts(index) == pytest.approx(expected, abs=1e-5)
    index.save(tmp_path / "index")
    assert semantic_parts(Index.open(tmp_path / "index")) == pytest.approx(expected, abs=1e-5)


def test_many_small_deletions_lose_no_precision():
    # Each of them leaves a large share of the squares, and all of them a very small one.
    index = Index(dim=8, metric="dot", language="en")
    rng = np.random.default_rng(0)
    index.add([f"w{i}" for i in range(50)], vectors=rng.normal(size=(50, 8)))
    expected = semantic_parts(index)
    scales = 10.0 ** np.arange(10, 1, -1)
    index.add(["large"] * 9, vectors=scales[:, None] * rng.normal(size=(9, 8)))
    for i in range(50, 59):
        index.delete([i])
    assert semantic_parts(index) == pytest.approx(expected, abs=1e-5)


def test_compaction_computes_the_moments_again(tmp_path):
    index, expected = with_large_vectors()
    index.delete(range(50, 150))
    # Such moments are in folders that older versions have saved.
    damaged = Moments(index._snapshot.moments.sums + 1e5)
    index._snapshot = replace(index._snapshot, moments=damaged)
    index.save(tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    assert semantic_parts(opened) != pytest.approx(expected, abs=1e-2)
    opened.optimize()
    assert semantic_parts(opened) == pytest.approx(expected, abs=1e-5)
    # Moments of no items have the dimensions of the index.
    opened.delete(range(50))
    opened.optimize()
    opened.save()
    assert semantic_parts(Index.open(tmp_path / "index")) == {}


def test_sums_of_large_and_small_vectors_are_precise():
    vectors = clustered(1000).astype(np.float32)
    vectors[::2, :8] *= np.float32(1e6)
    vectors[::2, 8:] = 0
    query = np.zeros((1, 16), np.float32)
    query[:, 8:] = clustered(1)[:, 8:]
    mean, std = Moments.of(lambda block: vectors[block], len(vectors), 16).mean_and_std(query)
    similarities = query.astype(np.float64) @ vectors.T
    np.testing.assert_allclose([mean[0], std[0]], [similarities.mean(), similarities.std()], rtol=1e-10)


def test_scores_of_few_queries_are_in_memory_at_once(monkeypatch):
    index = filled(300)
    index.delete(["n7", "n8"])
    queries = [f"w{i % 9} w{i} w{2 * i}" for i in range(40)] + ["xyz"]
    vectors = np.concatenate([np.zeros((1, 16)), clustered(40, seed=6)])
    expected = index.search(queries, 20, vectors=vectors)
    together, n_together = [], []
    search = type(index._snapshot).search

    def searched(self, queries, *args, **kwargs):
        together.append(sum(len(own.rows) for own in kwargs["added"]))
        n_together.append(len(queries))
        return search(self, queries, *args, **kwargs)

    monkeypatch.setattr(type(index._snapshot), "search", searched)
    monkeypatch.setattr(fusion, "_SCORES_AT_ONCE", 500)
    answers = index.search(queries, 20, vectors=vectors)
    assert sum(n_together) == 41
    assert len(together) > 3
    # The last query of a block may match every row.
    assert max(together) < 500 + 300
    for hits, others in zip(answers, expected, strict=True):
        assert [hit.id for hit in hits] == [hit.id for hit in others]
        for hit, other in zip(hits, others, strict=True):
            parts = (other.score, other.semantic, other.lexical)
            assert (hit.score, hit.semantic, hit.lexical) == pytest.approx(parts, abs=1e-5)
    monkeypatch.setattr(fusion, "_SCORES_AT_ONCE", 1)
    assert index.search([], vectors=np.zeros((0, 16)), mode="hybrid") == []
    assert [len(hits) for hits in index.search(queries, 400, vectors=vectors)][1:] == [298] * 40


def test_hits_are_pickled_with_their_words():
    index = Index(make_cse(), language="en")
    index.add(["the dogs ran", "a cat"])
    hit = index.search("a dog", k=1, mode="lexical")[0]
    copy = pickle.loads(pickle.dumps(hit))
    assert copy == hit
    assert copy.words == hit.words == ("dogs",)


def test_a_query_without_vector_and_words_has_no_hits():
    for options in ({}, {"chunk_tokens": 16}):
        index = Index(make_cse(), language="en", **options)
        index.add(["the dog runs in the park " * 9, "a cat", "stock market"])
        assert index.search("") == index.search(" ", where={"no": "field"}) == []
        assert index.search("", rerank=make_cse()) == []
        assert index.search("xyzzy", vectors=np.zeros(index.dim)) == []
        assert [len(hits) for hits in index.search(["", "cat", " "])] == [0, 3, 0]


def test_words_are_indexed_again_with_the_settings_of_the_index(tmp_path):
    index = Index(make_cse(), language="de")
    index.add(["die Hunde laufen im Park", "eine Katze"])
    index._manifest.words["alpha"] = 0.7
    index.save(tmp_path / "index")
    before = [hit.to_dict() for hit in index.search("Hund")]
    assert before[0]["words"] == ["Hunde"]
    opened = Index.open(tmp_path / "index", make_cse())
    opened.index_words()
    assert opened.info()["words"] == index.info()["words"]
    assert [hit.to_dict() for hit in opened.search("Hund")] == before
    opened.index_words("en")
    assert (opened.info()["words"]["language"], opened.info()["words"]["alpha"]) == ("en", 0.7)
