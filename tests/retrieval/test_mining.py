"""Mining against a plain comparison of every pair, and its independence of blocks and threads."""

import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentenc.errors import MissingExtraError
from sentenc.retrieval import mining
from sentenc.retrieval.mining import group_pairs, mine_pairs
from sentenc.retrieval.top_pairs import TopPairs
from tests.support.models import make_cse


def clusters(n, dim=16, spread=0.4, seed=0):
    """Returns vectors in clusters of about four, with different norms, some of them zero."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(n // 4 + 1, dim))
    vectors = centers[rng.integers(len(centers), size=n)] + spread * rng.normal(size=(n, dim))
    vectors *= rng.uniform(0.01, 100, (n, 1))
    vectors[rng.random(n) < 0.05] = 0
    return vectors.astype(np.float32)


def all_pairs(vectors, threshold):
    """Returns every pair in order as (score, left, right), computed in double precision."""
    values = vectors.astype(np.float64)
    pairs = []
    for i in range(len(values)):
        for j in range(i + 1, len(values)):
            norms = np.linalg.norm(values[i]) * np.linalg.norm(values[j])
            if norms and np.float32(values[i] @ values[j] / norms) >= np.float32(threshold):
                pairs.append((float(np.float32(values[i] @ values[j] / norms)), i, j))
    return sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))


def assert_same(pairs, expected):
    assert [pair[1:] for pair in pairs] == [pair[1:] for pair in expected]
    np.testing.assert_allclose([pair[0] for pair in pairs], [pair[0] for pair in expected], rtol=1e-6)


@pytest.mark.parametrize("threshold", [-1, -0.2, 0, 0.5, 0.8, 0.93])
def test_exact_mining_compares_every_pair(threshold):
    vectors = clusters(150)
    pairs = mine_pairs(vectors, threshold=threshold, block_size=32)
    expected = all_pairs(vectors, threshold)
    assert_same(pairs, expected)
    assert pairs.exact
    assert pairs.total == len(pairs) == len(expected) > 0
    assert (pairs.scores.dtype, pairs.left.dtype, pairs.right.dtype) == (np.float32, np.int64, np.int64)
    assert (pairs.left < pairs.right).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_vectors_may_have_any_number_type(dtype):
    vectors = (clusters(60) * 3).clip(-1000, 1000).astype(dtype)
    assert_same(mine_pairs(vectors, threshold=0.8), all_pairs(vectors.astype(np.float32), 0.8))


def test_blocks_and_threads_change_nothing(monkeypatch):
    vectors = clusters(400, dim=37)
    whole = mine_pairs(vectors, threshold=0.7)
    threadpoolctl = pytest.importorskip("threadpoolctl")
    for block_size, columns in [(1, 50), (7, 3), (128, 4096), (400, 400)]:
        monkeypatch.setattr(mining, "_COLUMNS_PER_BLOCK", columns)
        with threadpoolctl.threadpool_limits(1 + block_size % 2):
            pairs = mine_pairs(vectors, threshold=0.7, block_size=block_size)
        for side in ("scores", "left", "right", "total"):
            np.testing.assert_array_equal(getattr(pairs, side), getattr(whole, side))


def test_threshold_is_inclusive():
    vectors = np.array([[3, 4], [1, 0], [0, 7]], np.float32)
    for threshold, count in [(0.6, 2), (np.nextafter(np.float32(0.6), 1), 1), (0.8, 1), (0.81, 0)]:
        assert len(mine_pairs(vectors, threshold=float(threshold))) == count
    rng = np.random.default_rng(0)
    # Vectors of the same direction have a cosine of exactly 1.
    directions = rng.normal(size=(50, 1, 33)).astype(np.float32)
    vectors = (directions * np.array([1, 2], np.float32)[:, None]).reshape(100, 33)
    pairs = mine_pairs(vectors, threshold=1)
    assert list(pairs) == [(1.0, 2 * i, 2 * i + 1) for i in range(50)]


def test_the_best_pairs_are_kept_and_all_are_counted(monkeypatch):
    monkeypatch.setattr("sentenc.retrieval.top_pairs._SLACK", 3)
    monkeypatch.setattr(mining, "_PAIRS_PER_BLOCK", 11)
    vectors = np.concatenate([clusters(90), np.ones((20, 16), np.float32)])
    everything = all_pairs(vectors, 0.3)
    for limit in (1, 5, 190, 200, len(everything), len(everything) + 1):
        pairs = mine_pairs(vectors, threshold=0.3, max_pairs=limit, block_size=8)
        assert_same(pairs, everything[:limit])
        assert pairs.total == len(everything)


def test_zero_vectors_have_no_pairs():
    vectors = np.zeros((4, 3), np.float32)
    assert len(mine_pairs(vectors, threshold=-1)) == 0
    vectors[1] = vectors[3] = 1e-30
    assert list(mine_pairs(vectors, threshold=-1)) == [(1.0, 1, 3)]


@pytest.mark.parametrize("method", ["exact", "approximate"])
@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_rows_have_no_pairs(method, count):
    if method == "approximate":
        pytest.importorskip("faiss")
    pairs = mine_pairs(np.ones((count, 3)), method=method)
    assert len(pairs) == pairs.total == 0
    assert list(pairs) == []


def test_texts_are_encoded_and_compared():
    encoder = make_cse()
    texts = ["a dog", "the stock market fell", "", "a dog", "the dog", "", "a dog", "東 word"]
    pairs = mine_pairs(texts, encoder=encoder, threshold=0.2)
    distinct = [0, 1, 4, 7]
    distinct_pairs = [
        (s, distinct[i], distinct[j])
        for s, i, j in all_pairs(encoder.encode([texts[i] for i in distinct]), 0.2)
    ]
    expected = sorted([(1.0, 0, 3), (1.0, 0, 6), *distinct_pairs], key=lambda pair: (-pair[0], pair[1:]))
    assert_same(pairs, expected)
    assert_same(mine_pairs((text for text in texts), encoder=encoder, threshold=0.2), expected)
    assert len(mine_pairs([], encoder=encoder)) == 0


def test_each_copy_is_one_pair():
    encoder = make_cse()
    texts = ["a dog runs"] * 10_000 + ["", ""]
    pairs = mine_pairs(texts, encoder=encoder)
    assert pairs.total == len(pairs) == 9_999
    assert set(pairs.left.tolist()) == {0}
    assert pairs.right.tolist() == list(range(1, 10_000))
    assert mine_pairs(texts, encoder=encoder, max_pairs=7).right.tolist() == list(range(1, 8))


def test_memory_does_not_grow_with_the_number_of_pairs():
    vectors = clusters(6000, dim=8)
    tracemalloc.start()
    try:
        pairs = mine_pairs(vectors, threshold=0.99999, block_size=256)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pairs.exact
    # The matrix of all cosines would have 144 MB.
    assert peak < 40e6


def test_approximate_mining_finds_nearly_all_pairs():
    pytest.importorskip("faiss")
    vectors = clusters(3000, dim=24, spread=0.2)
    exact = mine_pairs(vectors)
    pairs = mine_pairs(vectors, method="approximate", block_size=500)
    assert not pairs.exact
    scores = {(left, right): score for score, left, right in exact}
    assert len(pairs) > 0.9 * len(exact) > 1000
    assert all(scores[left, right] == score for score, left, right in pairs)
    assert_same(pairs, sorted(pairs, key=lambda pair: (-pair[0], pair[1:])))
    assert len({pair[1:] for pair in pairs}) == len(pairs)


def test_many_rows_are_mined_approximately(monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(mining, "EXACT_ROWS", 100)
    assert mine_pairs(clusters(99)).exact
    vectors = clusters(150)
    vectors = vectors[vectors.any(axis=1)]
    pairs = mine_pairs(vectors)
    assert not pairs.exact
    # With so few rows, the index compares all of them.
    assert_same(pairs, all_pairs(vectors, 0.9))
    assert mine_pairs(vectors, method="exact").exact


def test_approximate_mining_without_faiss_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"sentenc\[retrieval\]"):
        mine_pairs(np.ones((5, 2)), method="approximate")


@pytest.mark.parametrize(
    ("items", "options", "error", "message"),
    [
        (np.ones((3, 2)), {"threshold": 1.1}, ValueError, "threshold is 1.1"),
        (np.ones((3, 2)), {"threshold": float("nan")}, ValueError, "threshold is nan"),
        (np.ones((3, 2)), {"max_pairs": 0}, ValueError, "max_pairs is 0"),
        (np.ones((3, 2)), {"block_size": 1.5}, ValueError, "block_size is 1.5"),
        (np.ones((3, 2)), {"neighbors": True}, ValueError, "neighbors is True"),
        (np.ones((3, 2)), {"method": "fast"}, ValueError, "method is 'fast'"),
        (np.ones(3), {}, ValueError, r"items has shape \(3,\)"),
        (np.array([[1, 2], [3, np.nan]]), {}, ValueError, "vector 1 .*NaN"),
        (np.array([[1, 1e300]]), {}, ValueError, "vector 0 .*infinity"),
        (["a"], {}, TypeError, "encoder"),
        (np.ones((3, 2)), {"encoder": make_cse()}, TypeError, "items are vectors.* encoder"),
        (["a", 3], {"encoder": make_cse()}, TypeError, r"texts\[1\] is int"),
    ],
)
def test_invalid_arguments_are_named(items, options, error, message):
    with pytest.raises(error, match=message):
        mine_pairs(items, **options)


def test_top_pairs_exclude_pairs_by_the_bounds_of_their_scores():
    best = TopPairs(2)
    scores = np.array([0.5, 0.9, 0.7], np.float32)
    assert best.may_enter(scores, scores, scores).all()
    best.add(scores, np.array([0, 1, 2]), np.array([5, 6, 7]))
    assert [part.tolist() for part in best.result()[1:]] == [[1, 2], [6, 7]]
    bounds = np.array([0.6, 0.7, 0.7, 0.7, 0.8], np.float32)
    may = best.may_enter(bounds, np.array([0, 1, 2, 3, 9]), np.array([1, 9, 8, 9, 10]))
    assert may.tolist() == [False, True, False, False, True]


edges = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=40)
    )
)


@settings(deadline=None)
@given(edges)
def test_groups_are_the_connected_components(graph):
    n, pairs = graph
    # Spreads the smallest row along the edges until nothing changes.
    label = list(range(n))
    while True:
        before = list(label)
        for a, b in pairs:
            label[a] = label[b] = min(label[a], label[b])
        if label == before:
            break
    groups = [[row for row in range(n) if label[row] == root] for root in range(n)]
    expected = [group for group in groups if len(group) > 1]
    assert group_pairs(n, [a for a, _ in pairs], [b for _, b in pairs]) == expected


def test_a_long_chain_is_one_group():
    n = 50_000
    assert group_pairs(n, np.arange(n - 1)[::-1], np.arange(1, n)[::-1]) == [list(range(n))]


def test_invalid_pairs_are_named():
    with pytest.raises(ValueError, match=r"left\[1\] is -1, .*4"):
        group_pairs(5, [0, -1], [1, 1])
    with pytest.raises(ValueError, match=r"right\[0\] is 5"):
        group_pairs(5, [0], [5])
    with pytest.raises(ValueError, match=r"left has shape \(2,\) and right \(1,\)"):
        group_pairs(5, [0, 1], [1])
