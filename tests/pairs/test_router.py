"""Pairs and the Router of sentence-transformers."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import sentenc
from sentenc import (
    CSE,
    BertEncoder,
    CheckpointError,
    NotBertError,
    PairEncoder,
    SentenceTransformerEncoder,
)
from sentenc.encoders.static_embedding import static_embedding_as_cse
from tests.support.models import (
    make_bert,
    make_cse,
    make_sentence_transformer,
    word_spec,
    wordpiece_spec,
)
from tests.support.pairs import in_space, make_pair, with_prompts

TEXTS = ["a man is playing the guitar", "someone plays an instrument!", "dog", "Crème, NAÏVE ☃ straße"]
CLOSE = {"rtol": 0, "atol": 1e-5}
UNIT = {"normalize_embeddings": True}

sentence_transformers = pytest.importorskip("sentence_transformers")


def with_bias(encoder, token_weight=0.7):
    """The same model with equal weights of all tokens, and a bias that turns its vectors."""
    weights = dict(encoder._weights)
    weights["token_weights"] = np.full_like(weights["token_weights"], token_weight)
    weights["bias"] = np.linspace(-2, 3, encoder.dim, dtype=np.float32)
    return CSE(encoder.config, weights, encoder.tokenizer, tables=encoder.tables)


def stock(folder):
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu", local_files_only=True)


@pytest.mark.parametrize(
    "queries",
    [
        lambda: make_cse(widths=()),
        lambda: make_cse("int8", widths=()).compressed(),
        lambda: make_cse("int8", widths=(), unknown="row").compressed(),
        lambda: make_cse(widths=(), embedding_dim=7, output_dim=24),
        lambda: make_cse(widths=(), embedding_dim=7, output_dim=24).compressed(),
        lambda: with_bias(make_cse(widths=(), bias=True)),
        lambda: with_bias(make_cse("int8", widths=(), bias=True).compressed()),
        lambda: with_bias(make_cse(spec=word_spec(), widths=(), bias=True)),
    ],
)
def test_sentence_transformers_loads_a_pair_with_words_alone(queries, tmp_path):
    pair = PairEncoder(in_space(make_bert(normalize=False)), in_space(queries()))
    pair.save(tmp_path / "pair")
    model = stock(tmp_path / "pair")
    np.testing.assert_allclose(model.encode_query(TEXTS), pair.encode_query(TEXTS, **UNIT), **CLOSE)
    np.testing.assert_allclose(model.encode_document(TEXTS), pair.encode_document(TEXTS), **CLOSE)
    np.testing.assert_allclose(model.encode(TEXTS), pair.encode(TEXTS), **CLOSE)


def test_sentence_transformers_uses_the_prompts_of_both_encoders(tmp_path):
    documents = with_prompts(in_space(make_bert()), query="dog ", document="the ")
    pair = PairEncoder(documents, in_space(make_cse(widths=())))
    pair.save(tmp_path / "pair")
    model = stock(tmp_path / "pair")
    np.testing.assert_allclose(model.encode_query(TEXTS), pair.encode_query(TEXTS, **UNIT), **CLOSE)
    np.testing.assert_allclose(model.encode_document(TEXTS), pair.encode_document(TEXTS), **CLOSE)


@pytest.mark.parametrize(
    "queries",
    [
        lambda: make_cse(widths=(), bias=True),  # the weights of tokens differ
        lambda: make_cse(widths=(), embedding_dim=7, output_dim=24, bias=True),
        lambda: make_cse(widths=(2,)),
        lambda: make_cse(widths=(), average_dim=3),
        lambda: make_bert(num_hidden_layers=1),
    ],
)
def test_no_router_is_written_if_its_vectors_would_differ(queries, tmp_path):
    PairEncoder(in_space(make_bert()), in_space(queries())).save(tmp_path / "pair")
    assert not (tmp_path / "pair" / "modules.json").exists()
    assert not (tmp_path / "pair" / "queries" / "static").exists()


def test_no_router_is_written_for_a_reference(tmp_path):
    queries = in_space(make_cse(embedding_dim=384, widths=()), sentenc.load("tinybert4-en").space)
    pair = sentenc.pair("tinybert4-en", queries)
    pair.save(tmp_path / "pair", references=True)
    assert not (tmp_path / "pair" / "router_config.json").exists()
    router = make_pair()
    router.save(tmp_path / "pair")
    assert json.loads((tmp_path / "pair" / "router_config.json").read_text())["structure"]["query"]


# Folders of sentence-transformers ---------------------------------------------------------------


def static_embedding(spec=None, dim=24):
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    content = json.loads(spec or wordpiece_spec())
    content["added_tokens"] = []
    tokenizer = Tokenizer.from_str(json.dumps(content))
    rows = np.random.default_rng(3).normal(size=(tokenizer.get_vocab_size(), dim)).astype(np.float32)
    return StaticEmbedding(tokenizer, embedding_weights=rows)


def routed(queries, documents, folder, after=(), **options):
    from sentence_transformers.sentence_transformer.modules import Router

    router = Router.for_query_document(list(queries), list(documents))
    model = sentence_transformers.SentenceTransformer(modules=[router, *after], device="cpu", **options)
    model.save(str(folder))
    return stock(folder)


@pytest.fixture
def bert(tmp_path):
    return make_sentence_transformer(tmp_path)


def normalize():
    from sentence_transformers.sentence_transformer.modules import Normalize

    return Normalize()


def dense(inner, outer):
    import torch
    from sentence_transformers.sentence_transformer.modules import Dense

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Dense(inner, outer, bias=False, activation_function=torch.nn.Identity())


@pytest.mark.parametrize("after", [True, False])
def test_a_router_is_a_pair(bert, tmp_path, after, monkeypatch):
    own = [] if after else [normalize()]
    model = routed(
        [static_embedding(), *own], [*bert, *own], tmp_path / "router", [normalize()] if after else [],
        prompts={"query": "dog ", "document": "the "},
    )  # fmt: skip
    expected = [model.encode_query(TEXTS), model.encode_document(TEXTS), model.encode(TEXTS)]
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)  # neither half needs it
    pair = sentenc.load(tmp_path / "router", threads=1)
    assert isinstance(pair, PairEncoder)
    assert isinstance(pair.queries, CSE)
    assert isinstance(pair.documents, BertEncoder)
    assert pair.queries.space == pair.documents.space
    np.testing.assert_allclose(pair.encode_query(TEXTS, **UNIT), expected[0], **CLOSE)
    np.testing.assert_allclose(pair.encode_document(TEXTS), expected[1], **CLOSE)
    np.testing.assert_allclose(pair.encode(TEXTS), expected[2], **CLOSE)
    pair.save(tmp_path / "pair")
    twin = sentenc.load(tmp_path / "pair")
    np.testing.assert_array_equal(twin.encode_query(TEXTS), pair.encode_query(TEXTS))
    np.testing.assert_array_equal(twin.encode_document(TEXTS), pair.encode_document(TEXTS))
    with pytest.raises(ValueError, match="neither pooling, max_tokens nor prompts"):
        sentenc.load(tmp_path / "router", query_prompt="cat ")


def test_a_route_of_another_kind_is_wrapped(bert, tmp_path):
    from sentence_transformers.sentence_transformer.modules import Pooling

    model = routed([static_embedding()], [bert[0], Pooling(24, pooling_mode="max")], tmp_path / "router")
    pair = sentenc.load(tmp_path / "router")
    assert isinstance(pair.documents, SentenceTransformerEncoder)
    assert isinstance(pair.queries, CSE)
    np.testing.assert_allclose(pair.encode_document(TEXTS), model.encode_document(TEXTS), **CLOSE)
    np.testing.assert_allclose(pair.encode_query(TEXTS), model.encode_query(TEXTS), **CLOSE)
    with pytest.raises(NotBertError, match="pools by max"):
        sentenc.load(tmp_path / "router", backend="onnx")


@pytest.mark.parametrize(
    ("spec", "after"),
    [
        (wordpiece_spec, ()),
        (wordpiece_spec, (normalize,)),
        (wordpiece_spec, (lambda: dense(24, 5), normalize)),
        (word_spec, ()),
    ],
)
def test_a_static_embedding_is_words_alone(spec, after, tmp_path, monkeypatch):
    modules = [static_embedding(spec()), *(make() for make in after)]
    sentence_transformers.SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "static"))
    expected = stock(tmp_path / "static").encode(TEXTS)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    encoder = sentenc.load(tmp_path / "static")
    assert isinstance(encoder, CSE)
    is_unit = normalize in after
    np.testing.assert_allclose(encoder.encode(TEXTS, normalize_embeddings=is_unit), expected, **CLOSE)
    for option in ({"compute": "int8"}, {"pooling": "mean"}, {"max_tokens": 5}):
        with pytest.raises(ValueError, match="words alone"):
            sentenc.load(tmp_path / "static", **option)
    prompted = sentenc.load(tmp_path / "static", query_prompt="dog ")
    np.testing.assert_allclose(
        prompted.encode_query(TEXTS), encoder.encode([f"dog {text}" for text in TEXTS]), **CLOSE
    )


def test_the_rows_of_model2vec_are_read():
    rng = np.random.default_rng(0)
    size = len(json.loads(word_spec())["model"]["vocab"])
    rows = rng.integers(-100, 100, (9, 4)).astype(np.int8)
    mapping, factors = rng.integers(0, 9, size), rng.random(size).astype(np.float32)
    tensors = {"embeddings": rows, "mapping": mapping, "weights": factors}
    encoder = static_embedding_as_cse(tensors, word_spec(), source=Path("model"))
    np.testing.assert_allclose(
        encoder.encode("dog"), rows[mapping[encoder.tokenizer.vocabulary["dog"]]] * factors[
            encoder.tokenizer.vocabulary["dog"]
        ], rtol=1e-5,
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="model has the weights mapping, expected embedding"):
        static_embedding_as_cse({"mapping": mapping}, word_spec(), source=Path("model"))
    with pytest.raises(CheckpointError, match=r"expected ids below the number of rows, 9"):
        static_embedding_as_cse({"embeddings": rows}, word_spec(), source=Path("model"))


def test_a_tokenizer_of_another_kind_is_refused(tmp_path):
    spec = json.loads(word_spec())
    spec["pre_tokenizer"] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    model = sentence_transformers.SentenceTransformer(
        modules=[static_embedding(json.dumps(spec))], device="cpu"
    )
    model.save(str(tmp_path / "static"))
    with pytest.raises(CheckpointError, match="pre_tokenizer of type ByteLevel"):
        sentenc.load(tmp_path / "static")


def test_a_damaged_router_is_refused(bert, tmp_path):
    routed([static_embedding()], list(bert), tmp_path / "router")
    path = tmp_path / "router" / "router_config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"structure": {"query": [], "document": []}}))
    with pytest.raises(CheckpointError, match=r"router_config.json has the route document \[\]"):
        sentenc.load(tmp_path / "router")
    path.write_text(json.dumps({"types": {}}))
    with pytest.raises(CheckpointError, match="no types and structure"):
        sentenc.load(tmp_path / "router")
