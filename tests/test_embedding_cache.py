"""The embedding cache: storage, resuming, damaged files and refusals."""

import json
import re
from hashlib import blake2b
from itertools import product

import numpy as np
import pytest

from sentenc import embedding_cache
from sentenc.embedding_cache import EmbeddingCache
from sentenc.errors import CacheError, MissingVectorError, SentencError
from tests.support.models import make_cse

TEXTS = [
    f"{a} {b} {c}" for a, b, c in product(("the dog", "a cat"), ("runs", "fell"), ("in the park", "on", ""))
]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(embedding_cache, "_TEXTS_PER_SHARD", 4)
    monkeypatch.setattr(embedding_cache, "_TEXTS_PER_CALL", 3)


class Counting:
    """A stand-in for an encoder that records the texts it encodes, and can be interrupted."""

    def __init__(self, stop_after=10**9):
        self.encoded, self.stop_after = [], stop_after

    def __call__(self, texts):
        if len(self.encoded) + len(texts) > self.stop_after:
            raise KeyboardInterrupt
        self.encoded += texts
        return np.array([[len(text), 0.5] for text in texts], np.float32)


class Bar:
    def __init__(self):
        self.steps = 0

    def update(self, n_steps):
        self.steps += n_steps


def filled(folder, texts=TEXTS, fingerprint="counting", **options):
    cache = EmbeddingCache(folder, fingerprint, **options)
    cache.fill(texts, Counting())
    return cache


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_lookup_returns_the_vector_of_each_text_in_any_order(tmp_path, dtype):
    encoder = make_cse(embedding_dim=24)
    cache = EmbeddingCache(tmp_path, encoder.fingerprint(), dtype=dtype)
    assert cache.dim is None
    assert cache.fill(iter([*TEXTS, *TEXTS]), encoder.encode) == 12
    assert len(cache) == 12
    texts = [TEXTS[i] for i in (7, 0, 11, 7, 3)]
    expected = encoder.encode(texts).astype(dtype).astype(np.float32)
    readers = [
        EmbeddingCache(tmp_path, fingerprint, dtype=dtype) for fingerprint in (None, encoder.fingerprint())
    ]
    for reader in (cache, *readers):
        vectors = reader.lookup(texts)
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, expected)
        assert reader.dim == 24
    assert cache.lookup([]).shape == (0, 24)


def test_files_in_the_folder(tmp_path):
    filled(tmp_path, TEXTS[:6], dtype="float16")
    assert json.loads((tmp_path / "cache.json").read_text()) == {"fingerprint": "counting", "dim": 2}
    shards = sorted(tmp_path.glob("vectors-*.npy"))
    assert {path.name for path in tmp_path.iterdir()} == {
        "cache.json",
        *(path.name for path in shards),
        *(path.name.replace("vectors", "keys") for path in shards),
    }
    contents = {}
    for path in shards:
        keys, vectors = np.load(path.with_name(path.name.replace("vectors", "keys"))), np.load(path)
        assert (keys.dtype, keys.shape[1], vectors.dtype, vectors.shape[1]) == (np.uint8, 16, np.float16, 2)
        assert blake2b(keys.tobytes(), digest_size=16).hexdigest() in path.name
        contents[len(keys)] = keys
    # The second shard contains texts 4 and 5, the shorter first.
    assert sorted(contents) == [2, 4]
    assert contents[2][0].tobytes() == blake2b(TEXTS[5].encode(), digest_size=16).digest()


def test_without_a_folder_vectors_are_kept_in_memory():
    cache = EmbeddingCache(None)
    encode = Counting()
    assert cache.fill(TEXTS, encode) == 12
    assert cache.fill([*TEXTS, "more"], encode) == 1
    assert cache.has([TEXTS[3], "more", "never seen"]).tolist() == [True, True, False]
    np.testing.assert_array_equal(cache.lookup(["more", TEXTS[0]])[:, 0], [4, len(TEXTS[0])])


def test_only_missing_texts_are_computed_and_a_stopped_run_is_resumed(tmp_path):
    cache = EmbeddingCache(tmp_path, "counting")
    with pytest.raises(KeyboardInterrupt):
        cache.fill(TEXTS, Counting(stop_after=9))
    assert len(cache) == 8
    encode = Counting()
    cache = EmbeddingCache(tmp_path, "counting")
    assert cache.has(TEXTS).tolist() == [True] * 8 + [False] * 4
    assert cache.fill(["a new one", *TEXTS, "a new one"], encode) == 5
    assert sorted(encode.encoded) == sorted(["a new one", *TEXTS[8:]])
    assert cache.fill(TEXTS, encode) == 0
    reader = EmbeddingCache(tmp_path)
    assert reader.has(TEXTS).all()
    assert reader.has(["a new one", "never seen"]).tolist() == [True, False]
    assert not list(tmp_path.glob("*.tmp"))


def test_a_resumed_run_makes_the_same_calls_as_one_that_was_not_stopped(tmp_path):
    calls = []
    EmbeddingCache(tmp_path / "whole", "x").fill(
        TEXTS, lambda texts: calls.append(texts) or Counting()(texts)
    )
    stopped = EmbeddingCache(tmp_path / "parts", "x")
    with pytest.raises(KeyboardInterrupt):
        stopped.fill(TEXTS, Counting(stop_after=6))
    assert len(stopped) == 4
    resumed = []
    stopped.fill(TEXTS, lambda texts: resumed.append(texts) or Counting()(texts))
    assert resumed == calls[2:]
    names = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("whole", "parts")]
    assert names[0] == names[1]


def test_what_was_computed_before_an_exception_is_kept(tmp_path):
    cache = EmbeddingCache(tmp_path, "counting")
    with pytest.raises(KeyboardInterrupt):
        cache.fill(TEXTS, Counting(stop_after=3))
    assert len(cache) == 3
    encode = Counting()
    resumed = EmbeddingCache(tmp_path, "counting")
    assert resumed.fill(TEXTS, encode) == 9
    assert len(encode.encoded) == 9
    np.testing.assert_array_equal(resumed.lookup(TEXTS)[:, 0], [len(text) for text in TEXTS])


def test_parts_may_come_in_any_order_and_are_kept_if_another_fails(tmp_path):
    def in_parts(texts):
        for row in reversed(range(len(texts))):
            if texts[row] == "poison":
                raise RuntimeError("failed")
            yield [row], np.array([[len(texts[row]), 0.5]], np.float32)

    cache = EmbeddingCache(tmp_path, "parts")
    with pytest.raises(RuntimeError, match="failed"):
        cache.fill(["poison", "a longer text", "longer than both"], in_parts)
    assert cache.has(["poison", "a longer text", "longer than both"]).tolist() == [False, True, True]
    np.testing.assert_array_equal(cache.lookup(["longer than both", "a longer text"])[:, 0], [16, 13])


def test_an_interrupt_within_a_part_leaves_a_readable_cache(tmp_path):
    class Interrupted(list):
        """Positions that are read once without an interrupt."""

        reads = 0

        def __iter__(self):
            self.reads += 1
            if self.reads == 2:
                raise KeyboardInterrupt
            return super().__iter__()

    def in_parts(texts):
        yield [0], np.array([[1, 0.5]], np.float32)
        yield Interrupted([1]), np.array([[2, 0.5]], np.float32)

    with pytest.raises(KeyboardInterrupt):
        EmbeddingCache(tmp_path, "parts").fill(["dog", "horse"], in_parts)
    assert EmbeddingCache(tmp_path, "parts").has(["dog", "horse"]).tolist() == [True, False]


def test_the_bar_is_advanced_by_every_text(tmp_path):
    cache = filled(tmp_path, TEXTS[:5])
    bar = Bar()
    cache.fill([*TEXTS, *TEXTS[:2], "new", "new"], Counting(), bar=bar)
    assert bar.steps == 16


def test_a_single_str_is_refused(tmp_path):
    with pytest.raises(TypeError, match="texts is str"):
        EmbeddingCache(tmp_path, "counting").fill("dog", Counting())


def test_at_least_one_shard_is_filled_when_the_time_is_up(tmp_path):
    cache = EmbeddingCache(tmp_path, "counting")
    assert cache.fill(TEXTS, Counting(), max_minutes=0.0) == 4
    assert cache.has(TEXTS).sum() == 4


def test_the_first_missing_text_is_named(tmp_path):
    cache = filled(tmp_path)
    with pytest.raises(MissingVectorError, match=r"2 of 4 texts.*\[1\].*'never seen'") as error:
        cache.lookup([TEXTS[0], "never seen", TEXTS[1], "nor this"])
    assert isinstance(error.value, KeyError)
    assert isinstance(error.value, SentencError)
    assert "\\" not in str(error.value)


def test_the_folder_of_another_encoder_is_refused(tmp_path):
    filled(tmp_path)
    with pytest.raises(CacheError, match=r"another encoder.* counting, expected other"):
        EmbeddingCache(tmp_path, "other")
    (tmp_path / "cache.json").write_text("[]")
    with pytest.raises(CacheError, match=r"cache\.json is damaged"):
        EmbeddingCache(tmp_path, "counting")
    (tmp_path / "cache.json").unlink()
    with pytest.raises(ValueError, match=r"cache\.json is missing"):
        EmbeddingCache(tmp_path, "counting")
    reader = EmbeddingCache(tmp_path)
    assert reader.has(TEXTS).all()
    with pytest.raises(ValueError, match="for reading"):
        reader.fill(["more"], Counting())


def test_unfinished_and_foreign_files_do_not_count(tmp_path):
    filled(tmp_path, TEXTS[:8])
    (tmp_path / "vectors-00007.tmp.npy").write_bytes(b"half")
    # A process was killed after the keys of a shard, before its vectors.
    np.save(tmp_path / f"keys-{'0' * 32}.npy", np.zeros((4, 16), np.uint8))
    cache = EmbeddingCache(tmp_path, "counting")
    assert len(cache) == 8
    assert cache.fill(TEXTS, Counting()) == 4
    assert EmbeddingCache(tmp_path).has(TEXTS).all()


@pytest.mark.parametrize("damage", ["other keys", "no keys", "cut", "other dtype"])
def test_a_damaged_shard_is_named_or_skipped(tmp_path, damage):
    filled(tmp_path, TEXTS[:4])
    first = next(tmp_path.glob("vectors-*.npy"))
    keys = first.with_name(first.name.replace("vectors", "keys"))
    filled(tmp_path)
    if damage == "other keys":
        np.save(keys, np.zeros((3, 16), np.uint8))
    elif damage == "no keys":
        keys.unlink()
    elif damage == "cut":
        first.write_bytes(first.read_bytes()[:-3])
    else:
        np.save(first, np.zeros((4, 2)))
    with pytest.raises(CacheError, match=first.name):
        EmbeddingCache(tmp_path)
    with pytest.warns(UserWarning, match=first.name):
        cache = EmbeddingCache(tmp_path, "counting", on_damage="skip")
    assert cache.has(TEXTS).tolist() == [False] * 4 + [True] * 8
    assert cache.fill(TEXTS, Counting()) == 4
    np.testing.assert_array_equal(EmbeddingCache(tmp_path).lookup(TEXTS)[:, 0], [len(text) for text in TEXTS])


def test_two_writers_do_not_disturb_each_other(tmp_path):
    first, second = EmbeddingCache(tmp_path, "counting"), EmbeddingCache(tmp_path, "counting")
    first.fill(TEXTS[:6], Counting())
    assert second.fill(TEXTS[2:], Counting()) == 10
    reader = EmbeddingCache(tmp_path)
    assert len(reader) == 12
    np.testing.assert_array_equal(reader.lookup(TEXTS)[:, 0], [len(text) for text in TEXTS])


def test_a_reader_may_keep_to_the_shards_that_it_began_with(tmp_path):
    first = filled(tmp_path, TEXTS[:6])
    names = first.shard_names()
    assert names == sorted(path.name for path in tmp_path.glob("vectors-*"))
    filled(tmp_path)
    reader = EmbeddingCache(tmp_path, shards=names)
    assert reader.has(TEXTS).tolist() == [True] * 6 + [False] * 6
    assert reader.shard_names() == names
    assert len(EmbeddingCache(tmp_path).shard_names()) == 4
    assert len(EmbeddingCache(tmp_path, shards=[])) == 0
    (tmp_path / names[0]).unlink()
    with pytest.raises(CacheError, match=re.escape(names[0])):
        EmbeddingCache(tmp_path, shards=names)


def test_only_one_of_two_encoders_fills_a_new_folder(tmp_path):
    first, second = EmbeddingCache(tmp_path, "first"), EmbeddingCache(tmp_path, "second")
    first.fill(TEXTS[:6], Counting())
    encode = Counting()
    with pytest.raises(CacheError, match=r"another encoder.* first, expected second"):
        second.fill(TEXTS, encode)
    with pytest.raises(CacheError, match=r"first, expected second"):
        second.add(["more"], np.ones((1, 2)))
    # Nothing was computed in vain, or stored.
    assert (encode.encoded, len(second)) == ([], 0)
    reader = EmbeddingCache(tmp_path, "first")
    assert (len(reader), reader.stored_fingerprint()) == (6, "first")


def test_an_encoder_that_is_overtaken_while_it_computes_stores_nothing(tmp_path):
    second = EmbeddingCache(tmp_path, "second")

    def overtaken(texts):
        filled(tmp_path, TEXTS[:4], "first")
        return Counting()(texts)

    with pytest.raises(CacheError, match=r"first, expected second"):
        second.fill(TEXTS[:2], overtaken)
    assert len(EmbeddingCache(tmp_path, "first")) == 4


def test_a_file_system_without_links_has_the_manifest_of_the_first_encoder(tmp_path, monkeypatch):
    def link(_source, _target):
        raise PermissionError("the file system has no links")

    monkeypatch.setattr("os.link", link)
    first, second = EmbeddingCache(tmp_path, "first"), EmbeddingCache(tmp_path, "second")
    first.fill(TEXTS[:2], Counting())
    with pytest.raises(CacheError, match=r"first, expected second"):
        second.fill(TEXTS, Counting())


def test_bad_vectors_are_refused_and_not_stored(tmp_path):
    cache = EmbeddingCache(tmp_path, "broken")

    def broken(texts):
        return np.array([[np.nan, 0.0] if text == "bad" else [1.0, 0.0] for text in texts], np.float32)

    with pytest.raises(ValueError, match=r"the teacher .*NaN.* 1 of 2 texts.*'bad'"):
        cache.fill(["good", "bad"], broken, source="the teacher")
    with pytest.raises(ValueError, match=r"\(1, 2\) for 2 texts"):
        cache.fill(["a", "b"], lambda texts: np.ones((1, 2)))
    assert len(EmbeddingCache(tmp_path)) == 0
    cache.fill(["a"], lambda texts: np.ones((len(texts), 2)))
    with pytest.raises(ValueError, match=r"\(1, 3\).*expected \(1, 2\)"):
        cache.fill(["b"], lambda texts: np.ones((len(texts), 3)))


def test_keys_with_the_same_first_half_are_distinguished(tmp_path, monkeypatch):
    # As if BLAKE2b had mapped three texts to the same 64-bit number.
    halves = {"a": (7, 1), "b": (7, 2), "c": (7, 3), "d": (9, 1)}
    monkeypatch.setattr(
        embedding_cache,
        "_keys",
        lambda texts: np.array([halves[text] for text in texts], np.uint64).view(np.uint8).reshape(-1, 16),
    )

    def encode(texts):
        return np.array([[ord(text), 0.0] for text in texts], np.float32)

    cache = EmbeddingCache(tmp_path, "letters")
    cache.fill(["a", "c"], encode)
    assert cache.has(["a", "b", "c", "d"]).tolist() == [True, False, True, False]
    cache.fill(["d", "b"], encode)
    for reader in (cache, EmbeddingCache(tmp_path)):
        assert reader.lookup(["c", "b", "a", "d"])[:, 0].tolist() == [99, 98, 97, 100]


def test_a_lone_surrogate_is_a_text_like_any_other(tmp_path):
    cache = filled(tmp_path, ["do\ud800g", ""])
    assert cache.lookup(["", "do\ud800g"])[:, 0].tolist() == [0, 4]
