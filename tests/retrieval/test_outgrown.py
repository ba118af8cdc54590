"""An index that has outgrown its encoder of queries."""

import numpy as np
import pytest

from sentenc import Index
from sentenc.encoders.cse.config import CSEConfig
from sentenc.encoders.cse.encoder import CSE
from sentenc.retrieval.outgrown import outgrown, unknown_share
from tests.retrieval.conftest import run
from tests.support.models import make_bert, make_cse


@pytest.fixture(scope="module")
def queries():
    """A CSE of words alone that has no vector for the word "dog"."""
    model = make_cse("int8")
    config = CSEConfig(
        vocab_size=model.config.vocab_size, embedding_dim=model.config.embedding_dim, widths=()
    )
    weights = {name: model.weight(name).copy() for name in ("embeddings", "token_weights")}
    weights["embeddings"][model.tokenizer.encode(["dog"])[0]] = 0
    return CSE(config, weights, model.tokenizer).compressed()


def test_share_of_tokens_without_a_vector(queries):
    assert unknown_share(queries, ["dog dog", "the park"]) == 0.5
    assert unknown_share(queries, ["the park"]) == 0
    assert unknown_share(queries, []) == 0
    assert unknown_share(make_bert(), ["dog"]) is None


def test_many_unknown_words(queries):
    info = {"query encoder": {"model": "mine", "items": 10}, "items": 11}
    warning = outgrown(info, queries, ["dog", "the park"])
    assert "mine: it does not know 33% of the word pieces" in warning
    assert outgrown(info, queries, ["the park"]) is None
    assert outgrown({"query encoder": None, "items": 11}, queries, ["dog"]) is None


def test_many_more_items(queries):
    info = {"query encoder": {"model": "mine", "items": 10}, "items": 20}
    assert outgrown(info, queries, ["the park"]) is None
    warning = outgrown(info | {"items": 21}, queries, ["the park"])
    assert "the index had 10 items when it was set, and has 21 now" in warning
    # An older index does not state the number.
    assert outgrown({"query encoder": {"model": "mine"}, "items": 21}, queries, ["the park"]) is None


def test_index_add_warns(queries, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    queries.save("mine")
    index = Index("mine")
    index.add(["the park"])
    index.set_query_encoder("mine")
    assert index.info()["query encoder"]["items"] == 1
    index.save("index")
    np.savetxt("more.txt", ["the park"], fmt="%s")
    _, err = run("index", "add", "index", "more.txt")
    assert "outgrown" not in err
    _, err = run("index", "add", "index", "more.txt")
    assert "warning: the index has outgrown its encoder of queries" in err
    assert "the index had 1 items when it was set, and has 3 now" in err
