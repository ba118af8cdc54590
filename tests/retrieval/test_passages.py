"""Long documents: items of several passages in an index."""

import json
import warnings

import numpy as np
import pytest

from sentenc import Index
from sentenc.errors import TruncationWarning
from sentenc.retrieval import compaction
from sentenc.retrieval.manifest import FORMAT_VERSION
from tests.retrieval.conftest import WORDS
from tests.support.models import make_bert, make_cse


def document(rng, n):
    return " ".join(rng.choice(WORDS, n)) + "."


@pytest.fixture
def documents():
    rng = np.random.default_rng(5)
    return [document(rng, int(n)) for n in rng.integers(1, 200, 60)]


def filled(documents, **options):
    index = Index(make_cse("float32"), **options)
    payloads = [{"n": i, "even": i % 2 == 0} for i in range(len(documents))]
    names = [f"d{i}" for i in range(len(documents))]
    index.add(documents, ids=names, payloads=payloads, chunk_tokens=16, overlap=4)
    return index


def best_of_all(index, query, mode):
    """The score of the best passage of every item, from an index of the passages alone."""
    snapshot = index._snapshot
    alive = np.flatnonzero(~snapshot.deleted)
    texts = [item.text for item in snapshot.items(alive)]
    spans = [span or (0, len(text)) for text, span in zip(texts, snapshot.spans(alive), strict=True)]
    passages = [text[a:b] for text, (a, b) in zip(texts, spans, strict=True)]
    owners = [item.id for item in snapshot.items(alive)]
    flat = Index(index.encoder, words=index._manifest.words is not None)
    flat.add(passages)
    best = {}
    for hit in flat.search(query, len(passages), mode=mode):
        best.setdefault(owners[hit.id], (hit.score, hit.text))
    return best


@pytest.mark.parametrize("mode", ["vector", "lexical", "hybrid"])
def test_items_are_ranked_by_their_best_passage(documents, mode):
    index = filled(documents)
    expected = best_of_all(index, "dog guitar", mode)
    for k in (1, 7, 60, 1000):
        hits = index.search("dog guitar", k, mode=mode)
        assert len(hits) == len({hit.id for hit in hits}) == min(k, len(expected))
        assert [hit.score for hit in hits] == pytest.approx(
            sorted((score for score, _ in expected.values()), reverse=True)[:k], abs=1e-5
        )
        for hit in hits:
            score, passage = expected[hit.id]
            assert hit.score == pytest.approx(score, abs=1e-5)
            assert hit.passage == (hit.text if hit.span is None else hit.text[slice(*hit.span)])
            assert hit.passage == passage or mode != "hybrid"
            assert index.encoder.count_tokens(hit.passage)[0] <= 16


def test_one_item_with_most_passages_leaves_room_for_others():
    index = Index(make_cse("float32"), words=False)
    index.add(["dog cat " * 3000, *["stock market"] * 5], chunk_tokens=16, overlap=8)
    hits = index.search("dog cat", 4)
    assert [hit.id for hit in hits] == [0, 1, 2, 3]
    assert [hit.id for hit in index.search("stock", 10)] == [1, 2, 3, 4, 5, 0]


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_ann_indexes_return_each_item_once(documents, kind):
    index = filled(documents * 4, kind=kind)
    index.optimize()
    assert index.info()["searched by"] == kind
    for k in (1, 10, 240):
        hits = index.search("dog in the park", k, mode="vector")
        assert len({hit.id for hit in hits}) == len(hits) == k


def test_numbers_count_items(documents):
    index = filled(documents)
    info = index.info()
    assert len(index) == info["items"] == 60
    assert info["passages"] == len(index._snapshot.deleted) > 120
    assert [item.id for item in index] == [f"d{i}" for i in range(60)]
    assert [item.text for item in index.get(["d3", "d59"])] == [documents[3], documents[59]]
    assert "d3" in index
    assert "d60" not in index


def test_filters_count_items(documents):
    index = filled(documents)
    where = {"n": {"in": [4, 31, 32]}, "even": True}
    assert index.describe_filter(where)["items"] == 2
    assert index.describe_filter(where)["fields"]["n"]["number"] == 60
    assert sorted(hit.id for hit in index.search("dog", 10, where=where)) == ["d32", "d4"]


def test_update_and_delete_act_on_all_passages(tmp_path, documents):
    index = filled(documents)
    index.save(tmp_path / "index")
    longest = max(range(60), key=lambda i: len(documents[i]))
    for _ in range(2):
        index.update([f"d{longest}"], payloads=[{"new": True}])
        (item,) = index.get([f"d{longest}"])
        assert (item.text, item.payload) == (documents[longest], {"new": True})
        assert index.info()["passages"] == filled(documents).info()["passages"]
    index.update(["d0"], ["guitar " * 100])
    assert index.search("guitar", 1)[0].id == "d0"
    assert index.search("guitar", 1)[0].span is not None
    index.delete([f"d{i}" for i in range(10, 60)])
    assert len(index) == 10 == len(index.search("dog", 100, mode="vector"))
    expected = [(hit.id, hit.score, hit.span) for hit in index.search("guitar in the park", 10)]
    index.optimize()
    index.save()
    index.verify()
    opened = Index.open(tmp_path / "index", index.encoder)
    for each in (index, opened):
        assert [item.id for item in each] == [f"d{i}" for i in (*range(1, 10), 0)] or longest < 10
        hits = each.search("guitar in the park", 10)
        assert [hit.id for hit in hits] == [name for name, _, _ in expected]
        # The passages of d0 have equal texts, and rounding decides which is the best.
        spans = {name: span for name, _, span in expected if name != "d0"}
        assert {hit.id: hit.span for hit in hits if hit.id != "d0"} == spans
        assert [hit.score for hit in hits] == pytest.approx([score for _, score, _ in expected], abs=1e-5)
    # Not a single row of the deleted items is left.
    assert len(opened._snapshot.deleted) == opened.info()["passages"]


def test_consecutive_ids_and_many_segments(tmp_path, documents, monkeypatch):
    monkeypatch.setattr(compaction, "_MAX_CHANGED_SHARE", 0.0)
    index = Index(make_cse("float32"))
    # The first commits have items of one passage alone.
    index.add(["dog", "cat"])
    index.save(tmp_path / "index")
    names = [0, 1]
    for i in range(0, 60, 7):
        names += index.add(documents[i : i + 7], chunk_tokens=16)
        index.save()
        index = Index.open(tmp_path / "index", make_cse("float32"))
        assert [item.id for item in index] == names == list(range(len(names)))
        assert [item.text for item in index] == ["dog", "cat", *documents[: i + 7]]
    assert index.delete([1, 5, 40]) == 3
    index.optimize()
    index.save()
    opened = Index.open(tmp_path / "index", make_cse("float32"))
    kept = [name for name in names if name not in (1, 5, 40)]
    assert [item.id for item in opened] == kept
    for hit in opened.search("dog", 100, mode="vector"):
        assert hit.text == (["dog", "cat", *documents])[hit.id]
        assert hit.passage in hit.text


def test_the_setting_is_remembered(tmp_path):
    long = "dog cat " * 30
    index = Index(make_cse("float32"))
    assert index.add([long]) == [0]
    assert index.search("dog", 1)[0].span is None
    assert index.search("dog", 1)[0].passage == long
    index.add([long], chunk_tokens=16, overlap=2)
    index.save(tmp_path / "index")
    opened = Index.open(tmp_path / "index", make_cse("float32"))
    assert opened.info()["chunking"] == {"tokens": 16, "overlap": 2}
    opened.add([long])
    opened.update([0], [long])
    assert None not in [hit.span for hit in opened.search("dog", 3)]
    opened.add([long], overlap=0)
    assert opened.info()["chunking"] == {"tokens": 16, "overlap": 0}
    opened.add([long], chunk_tokens=0)
    assert opened.info()["chunking"] is None
    assert {hit.id: hit.span for hit in opened.search("dog", 5)}[4] is None


def test_bad_options_change_nothing():
    index = Index(make_cse("float32"))
    for options, message in [
        ({"chunk_tokens": 4}, "chunk_tokens is 4"),
        ({"chunk_tokens": 10**6}, "chunk_tokens is 1000000"),
        ({"chunk_tokens": 32, "overlap": 17}, "overlap is 17"),
        ({"overlap": 3}, "overlap is 3 without chunk_tokens"),
        ({"chunk_tokens": 32, "vectors": np.ones((1, index.dim))}, "pass texts alone"),
    ]:
        with pytest.raises(ValueError, match=message):
            index.add(["dog"], **options)
    assert len(index) == 0
    assert index.info()["chunking"] is None
    with pytest.raises(ValueError, match="the index has no encoder"):
        Index(dim=3).add(["dog"], chunk_tokens=32)


def test_nothing_is_cut_silently():
    bert = make_bert()
    long = "dog cat " * bert.max_tokens
    index = Index(bert)
    with pytest.warns(TruncationWarning, match="1 text is longer than max_tokens"):
        index.add([long])
    with pytest.warns(TruncationWarning, match="1 text is longer than max_tokens"):
        index.update([0], [long])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index.add([long], chunk_tokens="auto")
        index.update([0], [long])


def test_texts_are_stored_once(tmp_path, documents):
    index = filled(documents)
    index.save(tmp_path / "index")
    size = sum(path.stat().st_size for path in (tmp_path / "index").rglob("items.jsonl"))
    assert size < 1.5 * sum(len(text) + 40 for text in documents)


def test_folders_without_passages_open(tmp_path):
    index = Index(make_cse("float32"))
    index.add(["dog", "cat"])
    index.save(tmp_path / "index")
    path = tmp_path / "index" / "index.json"
    content = json.loads(path.read_text())
    assert content["format_version"] == FORMAT_VERSION
    assert content["chunking"] is content["reranker"] is None
    assert not list((tmp_path / "index").rglob("spans.npy"))


def test_a_vector_replaces_all_passages():
    index = Index(make_cse("float32"))
    index.add(["dog cat " * 40, "stock"], chunk_tokens=16)
    vector = index._snapshot.vectors(np.array([0]))
    index.update([0], vectors=vector)
    assert index.info()["passages"] == 2
    (hit,) = index.search(vector[0], 1)
    assert (hit.id, hit.passage) == (0, "dog cat " * 40)
