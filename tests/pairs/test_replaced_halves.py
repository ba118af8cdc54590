"""Pairs of which an encoder was replaced after they were saved."""

import json
import shutil

import numpy as np
import pytest

import sentenc
from sentenc import CheckpointError, PairEncoder
from sentenc.encoders.table_encoder import TableEncoder
from tests.support.models import make_bert, make_cse, make_mpnet, make_sentence_transformer, make_static
from tests.support.pairs import in_space, make_pair, with_prompts

TEXTS = ["a man is playing the guitar", "", "dog"]


@pytest.fixture
def saved(tmp_path):
    make_pair().save(tmp_path / "pair")
    return tmp_path / "pair"


@pytest.mark.parametrize("compute", [None, "int8"])
@pytest.mark.parametrize("name", ["documents", "queries"])
def test_a_replaced_encoder_is_refused_when_it_is_loaded(saved, name, compute):
    stated = json.loads((saved / "config.json").read_text())["config"][name]["fingerprint"]
    other = in_space(make_bert(num_hidden_layers=1) if name == "documents" else make_cse(widths=()))
    shutil.rmtree(saved / name)
    other.save(saved / name)
    pair = sentenc.load(saved, compute=compute)
    # The other encoder is the one of the folder, and the replaced one is not loaded yet.
    use, use_other = (
        (pair.encode, pair.encode_query) if name == "documents" else (pair.encode_query, pair.encode)
    )
    assert use_other(TEXTS).shape == (3, 24)
    message = (
        rf"pair/{name} has the fingerprint {other.fingerprint()}, expected {stated}, which .*config\.json"
    )
    with pytest.raises(CheckpointError, match=message):
        use(TEXTS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_cse("int8", widths=(2,)).compressed(bits=4),
        lambda: make_static(),
        lambda: make_bert("int8").compressed(bits=4),
        lambda: make_bert(pooling="cls", normalize=False),
        lambda: make_mpnet(),
        lambda: with_prompts(make_bert(), query="dog ", document="the "),
        lambda: sentenc.hybrid(make_bert(), columns=8),
    ],
)
def test_every_kind_of_encoder_is_the_same_after_it_was_saved(make, tmp_path):
    encoder = make()
    PairEncoder(encoder, encoder).save(tmp_path / "pair")
    pair = sentenc.load(tmp_path / "pair")
    fingerprints = {pair.documents.fingerprint(), pair.queries.fingerprint()}
    assert fingerprints == {encoder.fingerprint()}


def test_a_wrapped_model_that_was_replaced_is_refused(tmp_path):
    pytest.importorskip("sentence_transformers")
    documents = sentenc.SentenceTransformerEncoder(make_sentence_transformer(tmp_path), "wrapped")
    PairEncoder(documents, in_space(make_cse(widths=()), documents.space)).save(tmp_path / "pair")
    assert sentenc.load(tmp_path / "pair").encode("dog").shape == (24,)
    shutil.rmtree(tmp_path / "pair" / "documents")
    make_bert().save(tmp_path / "pair" / "documents")
    with pytest.raises(CheckpointError, match="documents has the fingerprint"):
        sentenc.load(tmp_path / "pair").encode("dog")


def test_a_shipped_pair_is_loaded_without_a_fingerprint_of_its_own_folder(monkeypatch):
    pair = sentenc.load("pair-en")
    monkeypatch.setattr(TableEncoder, "_digest", lambda *_, **__: pytest.fail("a fingerprint was computed"))
    assert np.linalg.norm(pair.encode_query("dog")) > 0
