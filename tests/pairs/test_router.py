"""Pairs and the Router of sentence-transformers."""

import json
import sys

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
from tests.support.models import (
    make_bert,
    make_cse,
    make_sentence_transformer,
    word_spec,
)
from tests.support.pairs import in_space, make_pair, with_prompts
from tests.support.static import normalize, static_embedding

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


def routed(queries, documents, folder, after=(), **options):
    from sentence_transformers.sentence_transformer.modules import Router

    router = Router.for_query_document(list(queries), list(documents))
    model = sentence_transformers.SentenceTransformer(modules=[router, *after], device="cpu", **options)
    model.save(str(folder))
    return stock(folder)


@pytest.fixture
def bert(tmp_path):
    return make_sentence_transformer(tmp_path)


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


def test_a_card_that_is_not_utf8_keeps_no_router_from_loading(bert, tmp_path):
    routed([static_embedding()], [*bert], tmp_path / "router")
    (tmp_path / "router" / "README.md").write_bytes(b"# A mod\xe8le")
    assert sentenc.load(tmp_path / "router").card == "# A mod\ufffdle"


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
