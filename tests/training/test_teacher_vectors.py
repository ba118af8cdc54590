"""The teacher's cache: what it holds, what it refuses, how it goes on."""

import json
from hashlib import blake2b

import numpy as np
import pytest

from sentenc import MissingVectorError
from sentenc.training.teachers import embedding_cache as teacher_vectors
from sentenc.training.teachers.embedding_cache import EmbeddingCache
from tests.support.models import make_cse

TEXTS = [
    f"{a} {b} {c}" for a in ("the dog", "a cat") for b in ("runs", "fell") for c in ("in the park", "on", "")
]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(teacher_vectors, "SHARD", 4)
    monkeypatch.setattr(teacher_vectors, "_PIECE", 3)


@pytest.fixture(scope="module")
def teacher():
    return make_cse(embedding_dim=24)


class Counting:
    """An encoder's stand-in that notes what it is asked, and can be interrupted."""

    dim = 2

    def __init__(self, stop_after=10**9):
        self.asked, self.stop_after = [], stop_after

    def fingerprint(self):
        return "counting"

    def encode(self, texts, *, normalize_embeddings, on_overflow):
        if len(self.asked) + len(texts) > self.stop_after:
            raise KeyboardInterrupt
        self.asked += texts
        return np.array([[0.6, 0.8]] * len(texts), np.float32)


def test_lookup_gives_each_text_its_own_vector_in_any_order(tmp_path, teacher):
    vectors = EmbeddingCache(tmp_path, teacher)
    assert vectors.add(iter([*TEXTS, *TEXTS])) == 12
    assert len(vectors) == 12
    asked = [TEXTS[i] for i in (7, 0, 11, 7, 3)]
    expected = teacher.encode(asked, normalize_embeddings=True)
    for cache in (vectors, EmbeddingCache(tmp_path, None), EmbeddingCache(tmp_path, teacher)):
        found = cache.lookup(asked)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-3)
        assert cache.dim == 24
    assert vectors.lookup([]).shape == (0, 24)


def test_format(tmp_path, teacher):
    EmbeddingCache(tmp_path, teacher).add(TEXTS[:6])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "keys-00000.npy", "keys-00001.npy", "teacher.json", "vectors-00000.npy", "vectors-00001.npy",
    ]  # fmt: skip
    assert json.loads((tmp_path / "teacher.json").read_text()) == {
        "fingerprint": teacher.fingerprint(),
        "dim": 24,
    }
    keys, rows = np.load(tmp_path / "keys-00001.npy"), np.load(tmp_path / "vectors-00001.npy")
    assert (keys.shape, keys.dtype, rows.shape, rows.dtype) == ((2, 16), np.uint8, (2, 24), np.float16)
    # The second shard has texts 4 and 5, the shorter first.
    assert keys[0].tobytes() == blake2b(TEXTS[5].encode(), digest_size=16).digest()
    np.testing.assert_allclose(np.linalg.norm(rows.astype(float), axis=1), 1, atol=1e-3)


def test_only_what_is_missing_is_computed_and_a_stopped_run_goes_on(tmp_path):
    stopped = Counting(stop_after=9)
    cache = EmbeddingCache(tmp_path, stopped)
    with pytest.raises(KeyboardInterrupt):
        cache.add(TEXTS)
    assert len(cache) == 8
    again = Counting()
    cache = EmbeddingCache(tmp_path, again)
    assert cache.has(TEXTS).tolist() == [True] * 8 + [False] * 4
    assert cache.add(["a new one", *TEXTS, "a new one"]) == 5
    assert sorted(again.asked) == sorted(["a new one", *TEXTS[8:]])
    assert cache.add(TEXTS) == 0
    assert EmbeddingCache(tmp_path, None).has([*TEXTS, "a new one", "never seen"]).tolist() == [True] * 13 + [
        False
    ]


def test_one_str_is_not_taken_for_its_characters(tmp_path):
    with pytest.raises(TypeError, match="texts is str"):
        EmbeddingCache(tmp_path, Counting()).add("dog")


def test_no_time_still_finishes_one_shard(tmp_path):
    cache = EmbeddingCache(tmp_path, Counting())
    assert cache.add(TEXTS, minutes=0.0) == 4
    assert cache.has(TEXTS).sum() == 4


def test_the_first_missing_text_is_named(tmp_path):
    cache = EmbeddingCache(tmp_path, Counting())
    cache.add(TEXTS)
    with pytest.raises(
        MissingVectorError, match=r"no vectors of 2 of 4 texts.*\(index 1\) 'never seen'"
    ) as error:
        cache.lookup([TEXTS[0], "never seen", TEXTS[1], "nor this"])
    assert isinstance(error.value, KeyError)


def test_another_teachers_folder_is_refused(tmp_path, teacher):
    EmbeddingCache(tmp_path, Counting()).add(TEXTS)
    with pytest.raises(ValueError, match="another teacher: fingerprint counting, expected"):
        EmbeddingCache(tmp_path, teacher)
    (tmp_path / "teacher.json").write_text("[]")
    with pytest.raises(ValueError, match=r"teacher\.json is damaged"):
        EmbeddingCache(tmp_path, teacher)
    (tmp_path / "teacher.json").unlink()
    with pytest.raises(ValueError, match=r"teacher\.json is missing"):
        EmbeddingCache(tmp_path, Counting())
    alone = EmbeddingCache(tmp_path, None)
    assert alone.has(TEXTS).all()
    with pytest.raises(ValueError, match="without a teacher"):
        alone.add(["more"])


def test_unfinished_and_foreign_files_do_not_count_and_damaged_ones_are_named(tmp_path):
    EmbeddingCache(tmp_path, Counting()).add(TEXTS[:8])
    (tmp_path / "vectors-00007.tmp.npy").write_bytes(b"half")
    np.save(tmp_path / "keys-00002.npy", np.zeros((4, 16), np.uint8))
    cache = EmbeddingCache(tmp_path, Counting())
    assert len(cache) == 8
    assert cache.add(TEXTS[8:]) == 4
    assert EmbeddingCache(tmp_path, None).has(TEXTS).all()
    np.save(tmp_path / "keys-00001.npy", np.zeros((3, 16), np.uint8))
    with pytest.raises(ValueError, match=r"keys-00001\.npy \(3, 16\) uint8, expected"):
        EmbeddingCache(tmp_path, None)
    (tmp_path / "keys-00001.npy").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        EmbeddingCache(tmp_path, None)


def test_vectors_that_are_not_finite_are_refused(tmp_path):
    class Broken(Counting):
        def encode(self, texts, **_):
            return np.array([[np.nan, 0.0] if text == "bad" else [1.0, 0.0] for text in texts], np.float32)

    with pytest.raises(ValueError, match="'bad' has values that are not finite"):
        EmbeddingCache(tmp_path, Broken()).add(["good", "bad"])
    assert len(EmbeddingCache(tmp_path, None)) == 0


def test_keys_that_share_their_first_half_are_told_apart(tmp_path, monkeypatch):
    # As if BLAKE2b had put three texts on one 64-bit number.
    halves = {"a": (7, 1), "b": (7, 2), "c": (7, 3), "d": (9, 1)}
    monkeypatch.setattr(
        teacher_vectors,
        "_keys",
        lambda texts: np.array([halves[text] for text in texts], np.uint64).view(np.uint8).reshape(-1, 16),
    )

    class Letters(Counting):
        def encode(self, texts, **_):
            return np.array([[ord(text), 0.0] for text in texts], np.float32)

    cache = EmbeddingCache(tmp_path, Letters())
    cache.add(["a", "c"])
    assert cache.has(["a", "b", "c", "d"]).tolist() == [True, False, True, False]
    cache.add(["d", "b"])
    assert cache.lookup(["c", "b", "a", "d"])[:, 0].tolist() == [99, 98, 97, 100]


def test_a_lone_surrogate_is_a_text_like_any_other(tmp_path, teacher):
    cache = EmbeddingCache(tmp_path, teacher)
    cache.add(["do\ud800g", ""])
    assert cache.lookup(["", "do\ud800g"])[0].tolist() == [0.0] * 24
