"""The pooling, the prompts and the length that ``sentenc.load`` takes in addition to what a folder states."""

import numpy as np
import pytest

import sentenc
from sentenc import CheckpointError, PoolingWarning, SentenceTransformerEncoder
from sentenc.errors import NotBertError
from sentenc.registry import pooling_required
from tests.bert.test_reading import CLOSE, TEXTS, change, pooled
from tests.support.models import make_bert, make_cse


@pytest.fixture
def folder(tmp_path):
    make_bert().save(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_without_modules_is_pooled_as_stated(folder):
    expected = pooled(make_bert())
    (folder / "modules.json").unlink()
    loaded = sentenc.load(folder, pooling="mean")
    assert loaded.max_tokens == 48
    np.testing.assert_array_equal(loaded.encode(TEXTS), expected.encode(TEXTS))
    first = sentenc.load(folder, pooling="cls", max_tokens=20)
    assert (first.config.pooling, first.max_tokens) == ("cls", 20)
    assert not np.allclose(first.encode(TEXTS), expected.encode(TEXTS), atol=0.01)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        sentenc.load(folder, pooling="mean")


@pytest.mark.parametrize("backend", [None, "onnx", "torch"])
def test_a_folder_that_states_no_pooling_has_mean_pooling_and_a_warning(folder, backend):
    if backend == "torch":
        pytest.importorskip("sentence_transformers")
    (folder / "modules.json").unlink()
    with pytest.warns(PoolingWarning, match=r"pass pooling='mean' .*pooling='cls' .*--pooling") as caught:
        loaded = sentenc.load(folder, backend=backend)
    assert caught[0].filename == __file__
    assert loaded.pooling() == "mean"
    with pytest.raises(CheckpointError, match="pass pooling='mean'"), pooling_required():
        sentenc.load(folder, backend=backend)
    with pytest.raises(CheckpointError, match="pass pooling='mean'"):
        sentenc.align(str(folder), queries=["a cat"])
    with pooling_required():
        assert sentenc.load(folder, pooling="cls").pooling() == "cls"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        (
            "config.json",
            {"architectures": ["BertForSequenceClassification"]},
            "a classifier of texts or a cross-encoder .*BertForSeq",
        ),
        ("config.json", {"architectures": ["RobertaForTokenClassification"]}, "a tagger of tokens"),
        (
            "config_sentence_transformers.json",
            {"model_type": "CrossEncoder"},
            r"a cross-encoder \(reranker\)",
        ),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "a sparse encoder"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"pooling": "mean"}, {"backend": "torch"}])
def test_a_model_of_another_kind_is_refused(folder, name, content, kind, options):
    if name == "config.json":
        (folder / "modules.json").unlink()
    else:
        (folder / name).write_text("{}", encoding="utf-8")
    change(folder / name, **content)
    with pytest.raises(CheckpointError, match=f"contains {kind}.*expected an encoder of sentences"):
        sentenc.load(folder, **options)


def test_a_sentence_encoder_may_begin_with_a_classifier(folder):
    # The weights of the classifier are left out, as sentence-transformers does.
    change(folder / "config.json", architectures=["BertForSequenceClassification"])
    np.testing.assert_array_equal(sentenc.load(folder).encode(TEXTS), make_bert().encode(TEXTS))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_sentence_transformers_pools_a_plain_folder_alike(folder, pooling):
    pytest.importorskip("sentence_transformers")
    (folder / "modules.json").unlink()
    options = {"pooling": pooling, "query_prompt": "the word: ", "max_tokens": 30}
    fast, slow = (sentenc.load(folder, backend=backend, **options) for backend in ("onnx", "torch"))
    assert isinstance(slow, SentenceTransformerEncoder)
    assert slow.max_tokens == fast.max_tokens == 30
    assert slow.pooling() == fast.pooling() == pooling
    np.testing.assert_allclose(slow.encode(TEXTS), fast.encode(TEXTS), **CLOSE)
    np.testing.assert_allclose(slow.encode_query(TEXTS), fast.encode_query(TEXTS), **CLOSE)


def test_a_folder_that_states_its_pooling_has_no_other(folder, tmp_path):
    assert sentenc.load(folder, pooling="mean").config.pooling == "mean"
    with pytest.raises(ValueError, match="pooling is 'cls', expected 'mean' or None"):
        sentenc.load(folder, pooling="cls")
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ValueError, match="pooling is 'mean', expected None"):
        sentenc.load(folder, pooling="mean", backend="torch")
    make_bert().save_compact(tmp_path / "compact")
    with pytest.raises(ValueError, match="pooling is 'cls', expected 'mean'"):
        sentenc.load(tmp_path / "compact", pooling="cls")
    with pytest.raises(ValueError, match="pooling is 'mean', expected None for"):
        sentenc.load("cse-en-tiny", pooling="mean")
    with pytest.raises(ValueError, match="pooling is 'max', expected 'mean' or 'cls'"):
        sentenc.load(folder, pooling="max")


@pytest.mark.parametrize("kind", ["folder", "compact", "torch", "cse"])
def test_prompts_and_max_tokens_are_options(folder, tmp_path, kind):
    if kind == "torch":
        pytest.importorskip("sentence_transformers")
    encoder = make_cse() if kind == "cse" else make_bert()
    encoder.metadata = {"prompts": {"query": "find: ", "other": "good "}, "name": "tiny"}
    encoder.save_compact(tmp_path / "m") if kind == "compact" else encoder.save(tmp_path / "m")
    backend = "torch" if kind == "torch" else None
    loaded = sentenc.load(
        tmp_path / "m", query_prompt="the word: ", document_prompt="of ", max_tokens=9, backend=backend
    )
    assert dict(loaded.prompts) == {"query": "the word: ", "document": "of ", "other": "good "}
    assert loaded.max_tokens == 9
    assert dict(sentenc.load(tmp_path / "m", query_prompt="", backend=backend).prompts) == {"other": "good "}
    with pytest.raises(TypeError, match="query_prompt is 3, expected a str"):
        sentenc.load(tmp_path / "m", query_prompt=3)
    with pytest.raises(TypeError, match="max_tokens is '9', expected an integer"):
        sentenc.load(tmp_path / "m", max_tokens="9", backend=backend)
    if kind != "cse":
        with pytest.raises(ValueError, match=r"max_tokens is 65, expected an integer from \d to 64"):
            sentenc.load(tmp_path / "m", max_tokens=65, backend=backend)


def test_prompts_that_pooling_leaves_out_are_left_to_sentence_transformers(folder):
    change(folder / "1_Pooling" / "config.json", include_prompt=False)
    with pytest.raises(NotBertError, match="leaves prompts out of the pooling"):
        sentenc.load(folder, backend="onnx")
