"""Pairs and the Router of sentence-transformers."""

import json

import numpy as np
import pytest

import sentenc
from sentenc import CSE, PairEncoder
from tests.support.models import make_bert, make_cse, word_spec
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
