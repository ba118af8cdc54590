"""The contract that every encoder keeps, whatever its model is."""

import copy
import enum
import pickle
import random
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sentenc
from sentenc import SentenceTransformerEncoder, TextTooLongError, TruncationWarning

TEXTS = [
    "a man is playing the guitar", "someone plays an instrument!", "", "dog", "the stock market fell",
    "Crème, NAÏVE straße", "東京 is new", "hello   world\t\n", "not good at all", "you and the cat in the park",
]  # fmt: skip
CLOSE = {"rtol": 0, "atol": 1e-5}


def test_str_gives_vector(encoder):
    vector = encoder.encode(TEXTS[0])
    assert vector.shape == (encoder.dim,)
    np.testing.assert_allclose(vector, encoder.encode([TEXTS[0]])[0], **CLOSE)


def test_list_gives_matrix_of_distinct_rows(encoder):
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.dim)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    known = [row for text, row in zip(TEXTS, vectors, strict=True) if text]
    assert len(np.unique(np.round(known, 4), axis=0)) >= len(known) - 1


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_empty_list_has_shape_0_dim_and_dtype(encoder, dtype):
    vectors = encoder.encode([], dtype=dtype)
    assert vectors.shape == (0, encoder.dim)
    assert vectors.dtype == dtype


@pytest.mark.parametrize("text", ["", " ", "\t\n\r ", "\0", "\u200b", "\u2003", "\ufffd"])
def test_text_without_tokens_is_zero_also_when_normalized(encoder, text):
    for normalize in (False, True):
        assert not encoder.encode([text, "dog"], normalize_embeddings=normalize)[0].any()


def test_all_unknown_is_zero(encoder):
    assert not encoder.encode("☃ ☃☃").any()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (["a", float("nan")], r"texts\[1\] is float \(nan\), expected str"),
        (["a", "b", None], r"texts\[2\] is NoneType \(None\), expected str"),
        ([b"a"], r"texts\[0\] is bytes, expected str"),
        ([["a"]], r"texts\[0\] is list, expected str"),
        ({"a": "b"}, "texts is dict"),
        ({"a"}, "texts is set"),
        (b"abc", "texts is bytes"),
        (None, r"texts is NoneType \(None\)"),
        (7, r"texts is int \(7\)"),
        (np.array([["a"]]), r"shape \(1, 1\)"),
        (pd.DataFrame({"text": ["a"]}), r"DataFrame of shape \(1, 1\)"),
    ],
)
def test_bad_texts_are_named(encoder, bad, message):
    with pytest.raises(TypeError, match=message):
        encoder.encode(bad)
    with pytest.raises(TypeError, match=message):
        list(encoder.encode_iter(bad))


@pytest.mark.parametrize(
    "kind", [tuple, np.array, lambda t: np.array(t, object), pd.Series, iter, lambda t: (x for x in t)]
)
def test_any_ordered_collection_is_taken(encoder, kind):
    np.testing.assert_allclose(encoder.encode(kind(TEXTS)), encoder.encode(TEXTS), **CLOSE)


def test_batch_size_order_and_neighbors_do_not_matter(encoder):
    expected = encoder.encode(TEXTS)
    order = random.Random(1).sample(range(len(TEXTS)), len(TEXTS))
    for batch_size in (1, 2, 3, 64):
        vectors = encoder.encode([TEXTS[i] for i in order], batch_size=batch_size)
        np.testing.assert_allclose(vectors, expected[order], **CLOSE)
    long = [TEXTS[1], "word " * 40]
    np.testing.assert_allclose(encoder.encode(long)[0], expected[1], **CLOSE)


def test_overflow_warns_once_with_count_and_longest(encoder):
    long = "dog " * (encoder.max_tokens + 5)
    longest = int(encoder.count_tokens([long])[0])
    with pytest.warns(
        TruncationWarning, match=rf"2 texts .*max_tokens={encoder.max_tokens} .*has {longest}"
    ) as seen:
        encoder.encode([long, "dog", long], batch_size=1)
    assert len(seen) == 1
    assert seen[0].filename == __file__
    with pytest.warns(TruncationWarning, match=r"1 text .*max_tokens=") as seen:
        encoder.encode(long)
    assert seen[0].filename == __file__


def test_overflow_error_and_ignore(encoder):
    long = "dog " * (encoder.max_tokens + 5)
    out = np.full((2, encoder.dim), 7, np.float32)
    with pytest.raises(TextTooLongError, match=r"1 text .*max_tokens="):
        encoder.encode(["dog", long], on_overflow="error", out=out)
    assert (out == 7).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode(["dog", long], on_overflow="ignore")
        encoder.encode(["dog"], on_overflow="error")


def test_tokens_that_are_cut_off_do_not_count(encoder):
    extra = int(encoder.count_tokens("")[0])
    full = "dog cat " * 100
    kept = " ".join(full.split()[: encoder.max_tokens - extra])
    np.testing.assert_allclose(encoder.encode(full, on_overflow="ignore"), encoder.encode(kept), **CLOSE)


def test_count_tokens(encoder):
    counts = encoder.count_tokens(["", "dog", "dog cat dog"])
    assert counts.dtype == np.int64
    assert (counts - counts[0]).tolist() == [0, 1, 3]
    assert encoder.count_tokens("dog cat").shape == (1,)
    assert encoder.count_tokens([]).shape == (0,)


def test_vectors_come_with_token_counts(encoder):
    texts = [*TEXTS, "dog " * (encoder.max_tokens + 5)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vectors, counts = encoder.encode_with_token_counts(texts, normalize_embeddings=True, truncate_dim=5)
    expected = encoder.encode(texts, normalize_embeddings=True, truncate_dim=5, on_overflow="ignore")
    assert np.array_equal(vectors, expected)
    assert np.array_equal(counts, encoder.count_tokens(texts))
    assert counts.dtype == np.int64
    assert [len(part) for part in encoder.encode_with_token_counts([])] == [0, 0]
    with pytest.raises(TypeError, match="texts is str"):
        encoder.encode_with_token_counts("a dog")


def test_order_is_truncate_normalize_cast(encoder):
    raw = encoder.encode(TEXTS)
    vectors = encoder.encode(TEXTS, truncate_dim=5, normalize_embeddings=True, dtype="float16")
    cut = raw[:, :5].astype(np.float64)
    norms = np.linalg.norm(cut, axis=1, keepdims=True)
    assert vectors.dtype == np.float16
    np.testing.assert_allclose(vectors, cut / np.where(norms == 0, 1, norms), rtol=0, atol=2e-3)
    np.testing.assert_allclose(encoder.encode(TEXTS, truncate_dim=5), raw[:, :5], **CLOSE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncate_dim": 10_000}, "truncate_dim is 10000"),
        ({"truncate_dim": 0}, "truncate_dim is 0"),
        ({"truncate_dim": True}, "truncate_dim is True"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"dtype": "nonsense"}, "dtype is 'nonsense'"),
        ({"on_overflow": "cut"}, "on_overflow is 'cut'"),
    ],
)
def test_bad_options_are_named(encoder, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        encoder.encode(TEXTS, **options)
    with pytest.raises((TypeError, ValueError), match=message):
        encoder.encode_iter(TEXTS, **options)


def test_unknown_keyword_is_typeerror(encoder):
    with pytest.raises(TypeError, match="convert_to_tensor"):
        encoder.encode(TEXTS, convert_to_tensor=True)


def test_out_memmap_is_filled(encoder, tmp_path):
    out = np.lib.format.open_memmap(
        tmp_path / "v.npy", mode="w+", dtype=np.float32, shape=(len(TEXTS), encoder.dim)
    )
    assert encoder.encode(TEXTS, out=out) is out
    out.flush()
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), encoder.encode(TEXTS), **CLOSE)
    strided = np.zeros((2 * len(TEXTS), encoder.dim), np.float16)[::2]
    encoder.encode(TEXTS, out=strided, dtype="float16", normalize_embeddings=True)
    np.testing.assert_allclose(strided, encoder.encode(TEXTS, normalize_embeddings=True), rtol=0, atol=2e-3)
    vector = np.zeros(encoder.dim, np.float32)
    assert encoder.encode("dog", out=vector) is vector
    np.testing.assert_allclose(vector, encoder.encode("dog"), **CLOSE)


def test_bad_out_is_refused(encoder):
    for out in (np.zeros((3, encoder.dim), np.float32), np.zeros((len(TEXTS), encoder.dim)), [[0.0]]):
        with pytest.raises(ValueError, match="out"):
            encoder.encode(TEXTS, out=out)
    with pytest.raises(ValueError, match="out is list"):
        encoder.encode("dog", out=[0.0] * encoder.dim)
    frozen = np.zeros((len(TEXTS), encoder.dim), np.float32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        encoder.encode(TEXTS, out=frozen)


def test_encode_iter_equals_encode_and_reads_no_further_than_it_must(encoder):
    many = [TEXTS[i % len(TEXTS)] for i in range(2 * encoder._block_size(2) + 7)]
    taken = 0

    def stream():
        nonlocal taken
        for text in many:
            taken += 1
            yield text

    blocks = encoder.encode_iter(stream(), batch_size=2, truncate_dim=3, normalize_embeddings=True)
    first = next(blocks)
    assert taken == len(first) < len(many)
    vectors = np.concatenate([first, *blocks])
    np.testing.assert_allclose(
        vectors, encoder.encode(many, truncate_dim=3, normalize_embeddings=True), **CLOSE
    )
    assert list(encoder.encode_iter([])) == []
    with pytest.raises(TypeError, match="use encode"):
        encoder.encode_iter("one text")


def test_similarity(encoder):
    vectors = encoder.encode(TEXTS)
    matrix = encoder.similarity(vectors, vectors[:3])
    assert matrix.shape == (len(TEXTS), 3)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(np.diag(matrix)[:2], 1, atol=3e-6)
    assert not matrix[:, 2].any()  # TEXTS[2] is empty
    assert encoder.similarity(vectors[0], vectors[1]).shape == (1, 1)
    with pytest.raises(ValueError, match="dimensions"):
        encoder.similarity(vectors, vectors[:, :3])


def test_eight_threads_agree(encoder):
    expected = encoder.encode(TEXTS)
    with ThreadPoolExecutor(8) as pool:
        for vectors in pool.map(lambda _: encoder.encode(TEXTS), range(24)):
            np.testing.assert_allclose(vectors, expected, **CLOSE)


def test_pickle_and_deepcopy(encoder):
    for twin in (pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder)):
        np.testing.assert_allclose(twin.encode(TEXTS), encoder.encode(TEXTS), **CLOSE)
        assert twin.fingerprint() == encoder.fingerprint()


def test_a_copy_keeps_how_it_was_loaded(encoder, monkeypatch):
    monkeypatch.setattr(encoder, "loaded_as", ("folder", {"pooling": "cls"}), raising=False)
    for twin in (pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder)):
        assert twin.loaded_as == ("folder", {"pooling": "cls"})


def test_compute_and_max_tokens_are_no_other_space(encoder, tmp_path):
    if isinstance(encoder, sentenc.PairEncoder | sentenc.HybridEncoder | sentenc.EndpointEncoder):
        pytest.skip("it has the space of its encoders, or it is not loaded from a folder")
    backend = "torch" if isinstance(encoder, SentenceTransformerEncoder) else None
    encoder.save(tmp_path / "model")
    changed = sentenc.load(tmp_path / "model", max_tokens=8, backend=backend)
    assert changed.max_tokens == 8
    assert changed.fingerprint() != encoder.fingerprint()
    assert changed.space == encoder.space
    if isinstance(encoder, sentenc.BertEncoder):
        assert encoder.with_compute("int8").space == encoder.with_compute("float32").space
        assert encoder.with_compute("int8").fingerprint() != encoder.with_compute("float32").fingerprint()


def test_members_of_enumerations_are_their_values(encoder):
    class Word(str, enum.Enum):  # noqa: UP042 (its str() is not its value)
        DOG = "dog"
        CAT = "a cat"

    np.testing.assert_allclose(encoder.encode(list(Word)), encoder.encode(["dog", "a cat"]), **CLOSE)
    np.testing.assert_allclose(encoder.encode(Word.CAT), encoder.encode("a cat"), **CLOSE)
    blocks = np.concatenate(list(encoder.encode_iter(iter(Word))))
    np.testing.assert_allclose(blocks, encoder.encode(["dog", "a cat"]), **CLOSE)
    np.testing.assert_array_equal(encoder.count_tokens(list(Word)), encoder.count_tokens(["dog", "a cat"]))


def test_save_load_is_equal_to_the_bit(encoder, tmp_path):
    folder = tmp_path / "deep" / "model"
    backend = "torch" if isinstance(encoder, SentenceTransformerEncoder) else None
    for _ in range(2):  # the second time over the first
        encoder.save(folder)
        loaded = sentenc.load(folder, backend=backend)
        assert type(loaded) is type(encoder)
        np.testing.assert_array_equal(loaded.encode(TEXTS), encoder.encode(TEXTS))
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(sentenc.CheckpointError, match="not a model folder"):
        encoder.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_encode_prints_nothing_and_leaves_random_state(encoder, capfd):
    before = np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    encoder.encode(TEXTS, show_progress_bar=True)
    assert capfd.readouterr() == ("", "")
    assert before == (np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002


HARD = [
    "",
    "a",
    "é",
    "e\u0301",
    "👩‍👩‍👧",
    "東京",
    "\u200b",
    "\0",
    "a\0b",
    "\ud800",
    "x\udfffy",
    "☃",
    " \u3000",
    "A" * 300,
    "ﬁ",
    "İ",
    "한국",
]


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    texts=st.lists(
        st.one_of(st.sampled_from(HARD + TEXTS), st.text(st.characters(exclude_categories=[]), max_size=40)),
        max_size=6,
    ),
    batch_size=st.integers(1, 4),
)
def test_any_text_encodes_alone_as_among_others(encoder, texts, batch_size):
    vectors = encoder.encode(texts, batch_size=batch_size, on_overflow="ignore")
    assert vectors.shape == (len(texts), encoder.dim)
    assert np.isfinite(vectors).all()
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(encoder.encode(text, on_overflow="ignore"), vector, **CLOSE)


def test_a_megabyte_of_text(encoder):
    text = "dog cat " * 131_072
    assert len(text) == 2**20
    vector = encoder.encode(text, on_overflow="ignore")
    assert np.isfinite(vector).all()
    assert vector.any()
    assert np.isfinite(encoder.encode("x" * 2**20, on_overflow="ignore")).all()
