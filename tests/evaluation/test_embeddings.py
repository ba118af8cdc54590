import numpy as np
import pytest

from sentenc.evaluation.embedding_store import EmbeddingStore, as_embedder
from tests.evaluation.conftest import WordAverage


def test_each_distinct_text_is_encoded_once(encoder):
    store = EmbeddingStore(as_embedder(encoder))
    vectors = store.vectors(["a b", "c", "a b", ""])
    store.vectors(["c", "d"])
    assert encoder.encoded == ["a b", "c", "", "d"]
    np.testing.assert_array_equal(vectors[0], vectors[2])
    np.testing.assert_array_equal(vectors, encoder.encode(["a b", "c", "a b", ""]))
    assert vectors.dtype == np.float32


def test_vectors_outlive_the_run(tmp_path):
    texts = ["one", "two \ud800", "three"]
    first = EmbeddingStore(as_embedder(WordAverage()), tmp_path).vectors(texts)
    again = WordAverage()
    store = EmbeddingStore(as_embedder(again), tmp_path)
    assert store.count_missing([*texts, "four", "four"]) == 1
    np.testing.assert_array_equal(store.vectors(texts[::-1]), first[::-1])
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
    EmbeddingStore(as_embedder(WordAverage()), tmp_path).vectors(["one"])
    assert EmbeddingStore(other(), tmp_path).count_missing(["one"]) == 1


def test_batch_size_and_name_do_not_matter_to_the_cache(tmp_path):
    EmbeddingStore(as_embedder(WordAverage()), tmp_path).vectors(["one"])
    other = as_embedder(WordAverage(name="x"), batch_size=2)
    assert EmbeddingStore(other, tmp_path).count_missing(["one"]) == 0


def test_a_plain_function_is_never_cached_on_disk(tmp_path):
    def lengths(texts):
        return [[len(text), 1] for text in texts]

    store = EmbeddingStore(as_embedder(lengths), tmp_path)
    np.testing.assert_array_equal(store.vectors(["ab", "c"]), [[2, 1], [1, 1]])
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_cache_file_is_reported_and_encoded_again(tmp_path):
    EmbeddingStore(as_embedder(WordAverage()), tmp_path).vectors(["one"])
    (file,) = tmp_path.rglob("*.npy")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.warns(UserWarning, match="not a readable embedding cache"):
        store = EmbeddingStore(as_embedder(WordAverage()), tmp_path)
    assert store.count_missing(["one"]) == 1


def test_an_interrupted_run_keeps_what_it_encoded(tmp_path, monkeypatch):
    monkeypatch.setattr("sentenc.evaluation.embedding_store._BLOCK", 2)
    monkeypatch.setattr("sentenc.evaluation.embedding_store._BLOCKS_PER_FILE", 2)
    texts = [f"w{number}" for number in range(9)]

    class Interrupted(WordAverage):
        def _encode_block(self, texts, batch_size, out):
            if "w6" in texts:
                raise KeyboardInterrupt
            return super()._encode_block(texts, batch_size, out)

    with pytest.raises(KeyboardInterrupt):
        EmbeddingStore(as_embedder(Interrupted()), tmp_path).vectors(texts)
    store = EmbeddingStore(as_embedder(WordAverage()), tmp_path)
    assert store.count_missing(texts) == 5
    np.testing.assert_array_equal(store.vectors(texts), WordAverage().encode(texts))
    assert not list(tmp_path.rglob("*.tmp"))


def test_bad_vectors_are_refused_with_the_text():
    with pytest.raises(ValueError, match=r"returned shape \(1, 2\) for 2 texts"):
        EmbeddingStore(as_embedder(lambda texts: np.zeros((1, 2)))).vectors(["a", "b"])
    with pytest.raises(ValueError, match="NaN or infinity for 1 texts, the first being 'b'"):
        EmbeddingStore(as_embedder(lambda texts: [[0.0] if t == "a" else [np.nan] for t in texts])).vectors(
            ["a", "b"]
        )


def test_what_cannot_encode_is_refused(encoder):
    with pytest.raises(TypeError, match="encoder is str, expected an Encoder"):
        as_embedder("cse-en")
    with pytest.raises(ValueError, match="a function returns what it returns"):
        as_embedder(lambda texts: texts, truncate_dim=3)
    assert as_embedder(encoder).name == "word-average"
    assert as_embedder(encoder, name="mine").name == "mine"
