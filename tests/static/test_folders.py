"""Folders of static models: the vectors are those of their own library."""

import json
import shutil
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sentenc
from sentenc import CSE, CheckpointError, MissingExtraError, NotStaticError, StaticEncoder
from tests.support.models import package_spec, unigram_spec, whitespace_spec, word_spec, wordpiece_spec
from tests.support.static import dense, normalize, static_embedding, tokenizer_and_rows

TEXTS = [
    "a man is playing the guitar", "someone plays an instrument!", "dog", "Crème, NAÏVE ☃ straße", "",
    "the [UNK] dog[SEP]cat [PAD] <new>dog", "東京 is new", "with an unwordable word for you",
]  # fmt: skip
CLOSE = {"rtol": 0, "atol": 1e-5}
ADDED = (("[UNK]", 1), ("[SEP]", 3))


def model2vec_folder(folder, spec, *, dtype="float32", weights=False, clusters=None, added=(), **options):
    model2vec = pytest.importorskip("model2vec")
    from model2vec.model import quantize_model

    tokenizer, rows = tokenizer_and_rows(spec, added=added)
    factors = np.random.default_rng(1).uniform(0.2, 2, len(rows)).astype(np.float32) if weights else None
    mapping = np.random.default_rng(2).integers(0, clusters, len(rows)) if clusters else None
    model = model2vec.StaticModel(
        rows[:clusters], tokenizer, weights=factors, token_mapping=mapping, **options
    )
    if dtype != "float32":
        model = quantize_model(model, quantize_to=dtype)
    model.save_pretrained(folder)
    return model2vec.StaticModel.from_pretrained(folder)


def save_modules(modules, folder):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    sentence_transformers.SentenceTransformer(modules=modules, device="cpu").save(str(folder))
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def test_vectors_are_those_of_model2vec(tmp_path):
    cases = [
        (wordpiece_spec(), {"added": ADDED}),
        # Only tokenizers has tokens outside of the vocabulary.
        (wordpiece_spec(), {"added": [("<new>", len(json.loads(wordpiece_spec())["model"]["vocab"]))]}),
        (wordpiece_spec(), {"normalize": True, "weights": True}),
        (wordpiece_spec(), {"dtype": "int8", "normalize": True}),
        (wordpiece_spec(), {"dtype": "int8", "clusters": 20}),
        (word_spec(), {"clusters": 20, "max_length": None}),
        (package_spec(), {"weights": True}),
        (unigram_spec(), {"normalize": True}),
    ]
    for number, (spec, options) in enumerate(cases):
        model = model2vec_folder(tmp_path / str(number), spec, **options)
        encoder = sentenc.load(tmp_path / str(number))
        assert isinstance(encoder, StaticEncoder)
        np.testing.assert_allclose(encoder.encode(TEXTS), model.encode(TEXTS), rtol=1e-6, atol=1e-5)
        # Releases before 0.4 wrote no files for sentence-transformers.
        expected = encoder.encode(TEXTS)
        (tmp_path / str(number) / "modules.json").unlink()
        np.testing.assert_array_equal(sentenc.load(tmp_path / str(number)).encode(TEXTS), expected)


def test_float16_is_computed_in_float32(tmp_path):
    model = model2vec_folder(tmp_path / "half", wordpiece_spec(), dtype="float16", normalize=True)
    vectors = sentenc.load(tmp_path / "half").encode(TEXTS)
    assert model.encode(TEXTS).dtype == np.float16
    np.testing.assert_allclose(vectors, model.encode(TEXTS), rtol=0, atol=1e-3)


def test_long_texts_are_cut_as_by_model2vec(tmp_path):
    model = model2vec_folder(tmp_path / "m", word_spec(), max_length=5)
    encoder = sentenc.load(tmp_path / "m")
    characters = 5 * model.median_token_length
    texts = [
        "dog cat man good all the new", "☃ ☃ ☃ dog ☃ cat", "x" * (characters - 1) + " dog", "a b c dog e cat",
        "a " * characters + "dog", "dog cat",
    ]  # fmt: skip
    np.testing.assert_allclose(encoder.encode(texts, on_overflow="ignore"), model.encode(texts), **CLOSE)
    assert encoder.max_tokens == 5
    # An unknown word is a token, and a text that is cut by its characters has more than max_tokens.
    assert encoder.count_tokens(["☃ dog", "dog cat", "x" * (characters + 1)]).tolist() == [2, 2, 6]
    with pytest.warns(sentenc.TruncationWarning, match=r"1 text .*max_tokens=5"):
        encoder.encode(["x" * (characters + 1)])


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=5),
    st.data(),
)
def test_ids_are_those_of_tokenizers(texts, data):
    tokenizers = pytest.importorskip("tokenizers")
    spec = json.loads(wordpiece_spec())
    spec["added_tokens"] = [
        {"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for i, name in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    ]  # fmt: skip
    pieces = data.draw(st.lists(st.sampled_from(["[SEP]", "[UNK]", "[sep]", "[[UNK]]", "[PAD", " ", *texts])))
    texts = ["".join(pieces), *texts]
    from sentenc.encoders.static.token_ids import NativeTokenIds

    ids, ends, _ = NativeTokenIds(json.dumps(spec)).encode(texts, 2**31 - 1)
    reference = tokenizers.Tokenizer.from_str(json.dumps(spec))
    expected = [one.ids for one in reference.encode_batch(texts, add_special_tokens=False)]
    assert [part.tolist() for part in np.split(ids, ends[:-1])] == expected


def test_a_static_embedding_has_the_vectors_of_its_library(tmp_path, monkeypatch):
    cases = [
        (wordpiece_spec(), ADDED, ()),
        (wordpiece_spec(), (), (normalize(),)),
        (wordpiece_spec(), (), (dense(24, 5), normalize())),
        (word_spec(), (), ()),
        (package_spec(), (), ()),
        (unigram_spec(), (), (dense(24, 5),)),
    ]
    models = []
    for number, (spec, added, after) in enumerate(cases):
        models.append(save_modules([static_embedding(spec, added=added), *after], tmp_path / str(number)))
    expected = [model.encode(TEXTS) for model in models]
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    for number, vectors in enumerate(expected):
        encoder = sentenc.load(tmp_path / str(number))
        assert isinstance(encoder, StaticEncoder)
        np.testing.assert_allclose(encoder.encode(TEXTS), vectors, **CLOSE)
        # A text without a known token has the zero vector, and not the row of the unknown token.
        assert not encoder.encode(["☃", "☃ ☃☃"]).any()
    for option in ({"compute": "int8"}, {"pooling": "mean"}, {"max_tokens": 5}):
        with pytest.raises(ValueError, match="static model"):
            sentenc.load(tmp_path / "0", **option)
    prompted = sentenc.load(tmp_path / "0", query_prompt="dog ")
    expected = prompted.encode([f"dog {text}" for text in TEXTS]) * (np.array(TEXTS) != "")[:, None]
    np.testing.assert_allclose(prompted.encode_query(TEXTS), expected, **CLOSE)


def test_a_tokenizer_that_cuts_texts_does_so(tmp_path):
    spec = json.loads(wordpiece_spec())
    spec["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    model = save_modules([static_embedding(json.dumps(spec))], tmp_path / "cut")
    encoder = sentenc.load(tmp_path / "cut")
    assert encoder.max_tokens == 3
    np.testing.assert_allclose(encoder.encode(TEXTS, on_overflow="ignore"), model.encode(TEXTS), **CLOSE)
    spec["truncation"]["direction"] = "Left"
    (tmp_path / "cut" / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(NotStaticError, match="expected one that keeps the first tokens"):
        sentenc.load(tmp_path / "cut")


def test_normalize_before_dense_keeps_directions(tmp_path):
    model = save_modules([static_embedding(), normalize(), dense(24, 5)], tmp_path / "m")
    encoder = sentenc.load(tmp_path / "m")
    assert isinstance(encoder, CSE)
    np.testing.assert_allclose(
        encoder.encode(TEXTS[:4], normalize_embeddings=True),
        model.encode(TEXTS[:4], normalize_embeddings=True), **CLOSE,
    )  # fmt: skip


def word_embeddings(pooling):
    from sentence_transformers.sentence_transformer.modules import Pooling, WordEmbeddings
    from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer

    tokenizer = WhitespaceTokenizer(**json.loads(whitespace_spec()))
    rows = np.random.default_rng(3).normal(size=(len(tokenizer.vocab), 9)).astype(np.float32)
    return [WordEmbeddings(tokenizer, rows, max_seq_length=6), Pooling(9, pooling)]


def test_word_embeddings_have_the_vectors_of_their_library(tmp_path, monkeypatch):
    pytest.importorskip("sentence_transformers")
    poolings = ["mean", "max", "mean_sqrt_len_tokens"]
    texts = [text for text in TEXTS if text] + ["DOG, (cat)! !!! New York", "with for"]
    models = [save_modules([*word_embeddings(p), normalize()], tmp_path / p) for p in poolings]
    expected = [model.encode(texts[:-1]) for model in models]
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    for pooling, vectors in zip(poolings, expected, strict=True):
        encoder = sentenc.load(tmp_path / pooling)
        encoded = encoder.encode(texts, on_overflow="ignore")
        np.testing.assert_allclose(encoded[:-1], vectors, **CLOSE)
        assert not encoded[-1].any()
        assert encoder.max_tokens == 6


@pytest.mark.parametrize("cumulative", [True, False])
def test_a_bag_of_words_has_the_vectors_of_its_library(tmp_path, cumulative):
    pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import BoW

    words = ["dog", "Dog", "cat", "the", "New"]
    weights = {"dog": 2.5, "the": 0.1}
    module = BoW(words, weights, unknown_word_weight=0.5, cumulative_term_frequency=cumulative)
    model = save_modules([module], tmp_path / "bow")
    texts = ["the dog, the dog; DOG Dog", "New the", "nothing", ""]
    encoder = sentenc.load(tmp_path / "bow")
    np.testing.assert_allclose(encoder.encode(texts), model.encode(texts), **CLOSE)
    encoder.save(tmp_path / "own")
    np.testing.assert_array_equal(sentenc.load(tmp_path / "own").encode(texts), encoder.encode(texts))


def test_other_modules_are_refused_by_name(tmp_path):
    pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import CNN, Pooling

    words, _ = word_embeddings("mean")
    save_modules([words, CNN(9, 4, [1]), Pooling(4)], tmp_path / "cnn")
    with pytest.raises(
        NotStaticError, match="WordEmbeddings, CNN, Pooling, expected WordEmbeddings, Pooling"
    ):
        sentenc.load(tmp_path / "cnn")
    with pytest.raises(
        CheckpointError, match="tokenizer is a WhitespaceTokenizer, expected the tokenizer of a tr"
    ):
        sentenc.load(tmp_path / "cnn", backend="torch")
    save_modules(word_embeddings("weightedmean"), tmp_path / "weighted")
    with pytest.raises(NotStaticError, match="pools by weightedmean, expected one of mean, max"):
        sentenc.load(tmp_path / "weighted")
    save_modules(word_embeddings("mean"), tmp_path / "phrases")
    path = tmp_path / "phrases" / "wordembedding_config.json"
    path.write_text(path.read_text().replace("WhitespaceTokenizer", "PhraseTokenizer"))
    with pytest.raises(NotStaticError, match="has the tokenizer PhraseTokenizer"):
        sentenc.load(tmp_path / "phrases")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    model2vec_folder(tmp_path / "m", unigram_spec())
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r'pip install "sentenc\[tokenizers\]"'):
        sentenc.load(tmp_path / "m")


def test_damaged_folders_are_refused(tmp_path):
    from safetensors.numpy import save_file

    model2vec_folder(tmp_path / "m", wordpiece_spec())
    size = len(json.loads(wordpiece_spec())["model"]["vocab"])
    rows = np.ones((9, 4), np.float32)
    for tensors, message in (
        (
            {"mapping": np.zeros(size, np.int64)},
            "has the weights mapping, expected embedding.weight or embeddings",
        ),
        ({"embeddings": rows}, "expected ids below the number of rows, 9"),
        ({"embeddings": rows * np.nan}, "expected finite rows"),
        ({"embeddings": rows, "mapping": np.full(size, 9)}, "expected the number of a row, from 0 to 8"),
        (
            {"embeddings": rows, "weights": np.ones(3, np.float32)},
            r"weights of shape \(3,\), expected \(9,\)",
        ),
    ):
        save_file(tensors, tmp_path / "m" / "model.safetensors")
        with pytest.raises(CheckpointError, match=message):
            sentenc.load(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        sentenc.load(tmp_path / "m")
    shutil.rmtree(tmp_path / "m")
    model2vec_folder(tmp_path / "m", wordpiece_spec())
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_length": "long"}))
    with pytest.raises(CheckpointError, match="max_length 'long', expected a number of tokens"):
        sentenc.load(tmp_path / "m")
