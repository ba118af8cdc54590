import numpy as np
import pytest

from sentenc.evaluation.embedder import CachedEmbedder, as_embedder
from tests.evaluation.conftest import WordAverage


def test_each_distinct_text_is_encoded_once(encoder):
    store = CachedEmbedder(as_embedder(encoder))
    vectors = store.encode(["a b", "c", "a b", ""])
    store.encode(["c", "d"])
    assert sorted(encoder.encoded) == ["", "a b", "c", "d"]
    np.testing.assert_array_equal(vectors[0], vectors[2])
    np.testing.assert_array_equal(vectors, encoder.encode(["a b", "c", "a b", ""]))
    assert vectors.dtype == np.float32


def test_vectors_are_cached_across_runs(tmp_path):
    texts = ["one", "two \ud800", "three"]
    first = CachedEmbedder(as_embedder(WordAverage()), tmp_path).encode(texts)
    again = WordAverage()
    store = CachedEmbedder(as_embedder(again), tmp_path)
    assert store.count_missing([*texts, "four", "four"]) == 1
    np.testing.assert_array_equal(store.encode(texts[::-1]), first[::-1])
    assert again.encoded == []


@pytest.mark.parametrize(
    "other",
    [
        lambda: as_embedder(WordAverage(seed=1)),
        lambda: as_embedder(WordAverage(dim=8)),
        lambda: as_embedder(WordAverage(), normalize_embeddings=True),
        lambda: as_embedder(WordAverage(), truncate_dim=4),
    ],
    ids=["fingerprint", "dim", "normalize", "truncate"],
)
def test_other_vectors_are_never_mixed_up(tmp_path, other):
    CachedEmbedder(as_embedder(WordAverage()), tmp_path).encode(["one"])
    assert CachedEmbedder(other(), tmp_path).count_missing(["one"]) == 1


def test_batch_size_and_name_do_not_matter_to_the_cache(tmp_path):
    CachedEmbedder(as_embedder(WordAverage()), tmp_path).encode(["one"])
    other = as_embedder(WordAverage(name="x"), batch_size=2)
    assert CachedEmbedder(other, tmp_path).count_missing(["one"]) == 0


def test_a_plain_function_is_never_cached_on_disk(tmp_path):
    def lengths(texts):
        return [[len(text), 1] for text in texts]

    store = CachedEmbedder(as_embedder(lengths), tmp_path)
    np.testing.assert_array_equal(store.encode(["ab", "c"]), [[2, 1], [1, 1]])
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_cache_file_is_reported_and_encoded_again(tmp_path):
    CachedEmbedder(as_embedder(WordAverage()), tmp_path).encode(["one"])
    (file,) = tmp_path.rglob("vectors-*.npy")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.warns(UserWarning, match=rf"{file.name}.* cannot be read"):
        store = CachedEmbedder(as_embedder(WordAverage()), tmp_path)
    assert store.count_missing(["one"]) == 1
    np.testing.assert_array_equal(store.encode(["one"]), WordAverage().encode(["one"]))
    assert CachedEmbedder(as_embedder(WordAverage()), tmp_path).count_missing(["one"]) == 0


def test_an_interrupted_run_keeps_what_it_encoded(tmp_path, monkeypatch):
    monkeypatch.setattr("sentenc.embedding_cache._TEXTS_PER_CALL", 2)
    monkeypatch.setattr("sentenc.embedding_cache._TEXTS_PER_SHARD", 4)
    texts = [f"w{number}" for number in range(9)]

    class Interrupted(WordAverage):
        def _encode_block(self, texts, batch_size, out):
            if "w6" in texts:
                raise KeyboardInterrupt
            return super()._encode_block(texts, batch_size, out)

    with pytest.raises(KeyboardInterrupt):
        CachedEmbedder(as_embedder(Interrupted()), tmp_path).encode(texts)
    store = CachedEmbedder(as_embedder(WordAverage()), tmp_path)
    assert store.count_missing(texts) == 3
    np.testing.assert_array_equal(store.encode(texts), WordAverage().encode(texts))
    assert not list(tmp_path.rglob("*.tmp"))


def test_bad_vectors_are_refused_with_the_text():
    with pytest.raises(ValueError, match=r"mine .*\(1, 2\).* 2 texts"):
        CachedEmbedder(as_embedder(lambda texts: np.zeros((1, 2)), name="mine")).encode(["a", "b"])
    broken = as_embedder(lambda texts: [[0.0] if t == "a" else [np.nan] for t in texts], name="mine")
    with pytest.raises(ValueError, match=r"mine .*NaN.* 1 of 2 texts.*'b'"):
        CachedEmbedder(broken).encode(["a", "b"])


def test_objects_that_cannot_encode_are_refused(encoder):
    with pytest.raises(TypeError, match="encoder is str, expected an Encoder"):
        as_embedder("cse-en")
    with pytest.raises(ValueError, match=r"truncate_dim.* function"):
        as_embedder(lambda texts: texts, truncate_dim=3)
    assert as_embedder(encoder).name == "word-average"
    assert as_embedder(encoder, name="mine").name == "mine"
