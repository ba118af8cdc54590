"""The settings of a tokenizer in BERT folders of other libraries: letter case and length."""

import json
import pickle

import numpy as np
import pytest

import sentenc
from tests.bert.test_reading import CLOSE, TEXTS, change
from tests.support.models import make_bert, wordpiece_spec


@pytest.mark.parametrize(
    "tokenizer_class", ["BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", None]
)
@pytest.mark.parametrize("stated", [True, False, None])
@pytest.mark.parametrize("lowercase", [True, False])
def test_case_is_folded_as_in_transformers(tmp_path, tokenizer_class, stated, lowercase):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "model"
    make_bert(spec=wordpiece_spec(lowercase)).save(folder)
    values = {"tokenizer_class": tokenizer_class or ..., "do_lower_case": ... if stated is None else stated}
    change(folder / "tokenizer_config.json", **values)
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    loaded = sentenc.load(folder)
    for text in TEXTS:
        ids, _, counts = loaded.tokenizer.encode([text])
        assert reference(text)["input_ids"][1:-1] == ids.tolist()
        assert counts[0] == len(ids)


SPECIAL = [
    "a [SEP] dog", "dog[SEP]cat", "[MASK]", "[MASK] dog [MASK][SEP]", "[sep] dog", "[UNK] [PAD] dog [CLS]",
    "[SEP [SEP]] [", "dog [SE", "P] cat", "", "caf\u00e9 [SEP] \u6771[MASK]\u4eac", "[unused] dog [unused1]",
]  # fmt: skip


def spec_with_special_tokens():
    spec = json.loads(wordpiece_spec())
    spec["model"]["vocab"] |= {token: len(spec["model"]["vocab"]) + i for i, token in enumerate(NEW)}
    return json.dumps(spec)


NEW = ["[unused]", "[unused1]"]


@pytest.mark.parametrize("tokenizer_class", ["BertTokenizer", "PreTrainedTokenizerFast"])
def test_special_tokens_in_texts_are_those_of_transformers(tmp_path, tokenizer_class):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "model"
    make_bert(spec=spec_with_special_tokens()).save(folder)
    change(folder / "tokenizer_config.json", tokenizer_class=tokenizer_class)
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    reference.add_special_tokens({"additional_special_tokens": ["[unused]"]})
    reference.save_pretrained(folder)
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer = sentenc.load(folder).tokenizer
    assert set(tokenizer.special_tokens) == set(reference.all_special_tokens)
    for most in (2**31 - 1, 3, 0):
        ids, ends, counts = pickle.loads(pickle.dumps(tokenizer)).encode(SPECIAL, most)
        rows = [reference(text, verbose=False)["input_ids"][1:-1] for text in SPECIAL]
        assert [row.tolist() for row in np.split(ids, ends)[:-1]] == [row[:most] for row in rows]
        assert counts.tolist() == [len(row) for row in rows]


def test_vectors_of_texts_with_special_tokens(tmp_path):
    pytest.importorskip("sentence_transformers")
    folder = tmp_path / "model"
    encoder = make_bert(spec=spec_with_special_tokens())
    encoder.save(folder)
    vectors = sentenc.load(folder).encode(SPECIAL)
    np.testing.assert_allclose(vectors, sentenc.load(folder, backend="torch").encode(SPECIAL), **CLOSE)
    np.testing.assert_allclose(vectors, encoder.encode(SPECIAL), **CLOSE)
    # Special tokens alone are no words.
    assert not vectors[SPECIAL.index("[MASK]")].any()
    assert encoder.count_tokens("dog [MASK]") == 4


@pytest.mark.parametrize("lowercase", [True, False])
def test_settings_of_the_transformer_are_respected(tmp_path, lowercase):
    pytest.importorskip("sentence_transformers")
    folder = tmp_path / "model"
    make_bert(spec=wordpiece_spec(lowercase)).save(folder)
    change(folder / "sentence_bert_config.json", do_lower_case=True, max_seq_length=7)
    loaded, reference = sentenc.load(folder), sentenc.load(folder, backend="torch")
    assert loaded.max_tokens == reference.max_tokens == 7
    texts = [*TEXTS, *SPECIAL, "dog Cat " * 10]
    np.testing.assert_allclose(
        loaded.encode(texts, on_overflow="ignore"), reference.encode(texts, on_overflow="ignore"), **CLOSE
    )
