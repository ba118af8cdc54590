"""The settings of a tokenizer in BERT folders of other libraries: letter case and length."""

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


@pytest.mark.parametrize("lowercase", [True, False])
def test_settings_of_the_transformer_are_respected(tmp_path, lowercase):
    pytest.importorskip("sentence_transformers")
    folder = tmp_path / "model"
    make_bert(spec=wordpiece_spec(lowercase)).save(folder)
    change(folder / "sentence_bert_config.json", do_lower_case=True, max_seq_length=7)
    loaded, reference = sentenc.load(folder), sentenc.load(folder, backend="torch")
    assert loaded.max_tokens == reference.max_tokens == 7
    texts = [*TEXTS, "dog Cat " * 10]
    np.testing.assert_allclose(
        loaded.encode(texts, on_overflow="ignore"), reference.encode(texts, on_overflow="ignore"), **CLOSE
    )
