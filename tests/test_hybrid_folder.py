"""The folder of a hybrid encoder, and the encoder in it."""

import json
import shutil

import numpy as np
import pytest

import sentenc
from sentenc import CheckpointError, HybridEncoder
from tests.support.models import make_bert, make_cse, make_mpnet, make_sentence_transformer, make_static
from tests.support.pairs import with_prompts


def edited(folder, change):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content["config"])
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("compute", [None, "int8"])
def test_a_replaced_encoder_is_refused(tmp_path, compute):
    folder = tmp_path / "model"
    encoder, other = make_bert(), make_bert(num_hidden_layers=1)
    HybridEncoder(encoder, columns=8).save(folder)
    assert sentenc.load(folder, compute=compute).dim == 32
    shutil.rmtree(folder / "encoder")
    other.save(folder / "encoder")
    message = (
        rf"model/encoder has the fingerprint {other.fingerprint()}, expected {encoder.fingerprint()}, "
        r"which .*model/config\.json states"
    )
    with pytest.raises(CheckpointError, match=message):
        sentenc.load(folder, compute=compute)


def test_a_folder_without_a_fingerprint_is_loaded(tmp_path):
    # Older versions wrote none.
    hybrid = HybridEncoder(make_cse(), columns=8)
    hybrid.save(tmp_path / "model")
    edited(tmp_path / "model", lambda config: config.pop("fingerprint"))
    loaded = sentenc.load(tmp_path / "model")
    assert loaded.fingerprint() == hybrid.fingerprint()
    np.testing.assert_array_equal(loaded.encode("the dog"), hybrid.encode("the dog"))
    edited(tmp_path / "model", lambda config: config.update(print="0"))
    with pytest.raises(CheckpointError, match=r"bad config: keys .*'print'.* and optionally fingerprint"):
        sentenc.load(tmp_path / "model")


def test_a_hybrid_encoder_in_a_pair_is_checked_too(tmp_path):
    bert = make_bert()
    sentenc.hybrid(sentenc.pair(bert, bert), columns=8).save(tmp_path / "pair")
    inner = tmp_path / "pair" / "queries" / "encoder"
    shutil.rmtree(inner)
    make_bert(num_hidden_layers=1).save(inner)
    pair = sentenc.load(tmp_path / "pair")
    assert pair.encode("dog").shape == (32,)
    with pytest.raises(CheckpointError, match="queries/encoder has the fingerprint"):
        pair.encode_query("dog")


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_cse("int8", widths=(2,)).compressed(bits=4),
        lambda: make_static(),
        lambda: make_bert("int8"),
        lambda: make_bert("int8").compressed(bits=4),
        lambda: make_bert(pooling="cls", normalize=False),
        lambda: make_mpnet(),
        lambda: with_prompts(make_bert(), query="dog ", document="the "),
    ],
)
def test_every_kind_of_encoder_is_the_same_after_it_was_saved(make, tmp_path):
    encoder = make()
    HybridEncoder(encoder, columns=8).save(tmp_path / "model")
    assert sentenc.load(tmp_path / "model").encoder.fingerprint() == encoder.fingerprint()


def test_a_wrapped_model_that_was_replaced_is_refused(tmp_path):
    pytest.importorskip("sentence_transformers")
    wrapped = sentenc.SentenceTransformerEncoder(make_sentence_transformer(tmp_path), "wrapped")
    HybridEncoder(wrapped, columns=8).save(tmp_path / "model")
    assert sentenc.load(tmp_path / "model").encode("dog").shape == (32,)
    shutil.rmtree(tmp_path / "model" / "encoder")
    make_bert().save(tmp_path / "model" / "encoder")
    with pytest.raises(CheckpointError, match="encoder has the fingerprint"):
        sentenc.load(tmp_path / "model")
