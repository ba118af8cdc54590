"""Transformers that sentenc cannot read: they load through sentence-transformers, with its vectors."""

import pickle
import sys

import numpy as np
import pytest

import sentenc
from sentenc import CheckpointError, MissingExtraError, PoolingWarning, SentenceTransformerEncoder
from tests.support.models import wordpiece_spec

transformers = pytest.importorskip("transformers")
sentence_transformers = pytest.importorskip("sentence_transformers")
torch = pytest.importorskip("torch")

TEXTS = ["the dog", "a cat and the dog", "", "\u6771"]
LONG = "dog " * 100
SIZE = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
# The MPNet has the special tokens of a BERT.
KINDS = {"Roberta": SIZE, "MPNet": SIZE, "ModernBert": SIZE}


def make_folder(folder, kind):
    spec = folder / "spec.json"
    folder.mkdir()
    spec.write_text(wordpiece_spec(), encoding="utf-8")
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(spec), mask_token="[MASK]", model_max_length=64, **names
    )
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"[{name.upper()}]")
        for name in ("pad", "cls", "sep")
    }
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), max_position_embeddings=32, **ids, **KINDS[kind]
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    spec.unlink()
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_other_transformers_load_with_and_without_a_stated_pooling(kind, tmp_path):
    folder = make_folder(tmp_path / "plain", kind)
    stock = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    expected = stock.encode(TEXTS[:2])
    with pytest.warns(PoolingWarning, match="pass pooling='mean'"):
        loaded = sentenc.load(folder)
    assert isinstance(loaded, SentenceTransformerEncoder)
    np.testing.assert_allclose(loaded.encode(TEXTS[:2]), expected, rtol=0, atol=1e-5)
    assert not loaded.encode(TEXTS)[2].any()
    # The positions of RoBERTa and MPNet begin after that of the padding, which is 0 or 1.
    assert 28 <= loaded.max_tokens <= 32
    assert np.isfinite(loaded.encode(LONG, on_overflow="ignore")).all()
    first = sentenc.load(folder, pooling="cls", query_prompt="dog ")
    assert first.pooling() == "cls"
    assert not np.allclose(first.encode("the dog"), expected[0], atol=1e-3)
    first.save(tmp_path / "stated")
    again = sentenc.load(tmp_path / "stated")
    np.testing.assert_allclose(again.encode_query(TEXTS), first.encode_query(TEXTS), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(again)).encode(TEXTS), again.encode(TEXTS))


def test_settings_that_no_weight_shows_change_the_fingerprint(tmp_path):
    folder = make_folder(tmp_path / "plain", "Roberta")

    def wrapped(**settings):
        model = sentence_transformers.SentenceTransformer(str(folder), device="cpu", **settings)
        return SentenceTransformerEncoder(model, "plain")

    prompts = {"query": "dog "}
    encoders = {
        "mean": sentenc.load(folder, pooling="mean"),
        "cls": sentenc.load(folder, pooling="cls"),
        "truncated": wrapped(truncate_dim=4),
        "prompts": wrapped(prompts=prompts),
        "default prompt": wrapped(prompts=prompts, default_prompt_name="query"),
    }
    fingerprints = {name: encoder.fingerprint() for name, encoder in encoders.items()}
    assert len(set(fingerprints.values())) == len(encoders)
    assert wrapped().fingerprint() == fingerprints["mean"]
    spaces = {name: encoder.space for name, encoder in encoders.items()}
    assert len({spaces["mean"], spaces["cls"], spaces["truncated"]}) == 3
    assert spaces["mean"] == spaces["prompts"] == spaces["default prompt"]


def test_the_missing_extra_is_named(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "plain", "Roberta")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(
        MissingExtraError, match=r"plain, which is no BERT, .*sentenc\[sentence-transformers\]"
    ):
        sentenc.load(folder, pooling="mean")


def test_a_folder_that_sentence_transformers_cannot_load_is_named(tmp_path):
    folder = make_folder(tmp_path / "plain", "Roberta")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="plain cannot be loaded by sentence-transformers: "):
        sentenc.load(folder, pooling="mean")
