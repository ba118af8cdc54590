"""Folders of other libraries: those that can be read, and the errors for the others."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import sentenc
from sentenc import BertEncoder, SentenceTransformerEncoder
from sentenc.encoders.bert.reading import read_bert_folder
from sentenc.errors import NotBertError, PoolingWarning
from tests.support.models import dense_weights, make_bert, wordpiece_spec

TEXTS = [
    "a man is playing the guitar",
    "Crème, NAÏVE straße",
    "",
    "DOG Cat",
    "東京 is new",
    "not good at all",
]
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture
def folder(tmp_path):
    make_bert().save(tmp_path / "model")
    return tmp_path / "model"


def change(path, **values):
    """Sets keys of a JSON file, or removes those that are ``...``."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    content |= values
    kept = {key: value for key, value in content.items() if value is not ...}
    path.write_text(json.dumps(kept), encoding="utf-8")


def modules(*kinds, package="sentence_transformers.models"):
    return [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"{package}.{kind}"}
        for i, kind in enumerate(kinds)
    ]


def set_modules(folder, *kinds, **options):
    (folder / "modules.json").write_text(json.dumps(modules(*kinds, **options)))


def published(folder, *, suffix="bin", gamma=True, prefix="bert."):
    """Writes the layout of published TinyBERTs: no model_type, heads outside "bert.", and only vocab.txt."""
    torch = pytest.importorskip("torch")
    for name in ("1_Pooling", "2_Normalize"):
        shutil.rmtree(folder / name)
    for name in (
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ):
        (folder / name).unlink()
    values = json.loads((folder / "config.json").read_text())
    for name in (
        "model_type",
        "architectures",
        "position_embedding_type",
        "torch_dtype",
        "pad_token_id",
        "layer_norm_eps",
    ):
        del values[name]
    values |= {"cell": {}, "emb_size": 24, "pre_trained": "", "structure": []}
    (folder / "config.json").write_text(json.dumps(values))
    weights = load_file(folder / "model.safetensors")
    state = {}
    for name, value in weights.items():
        if gamma:
            name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            )
        state[prefix + name] = value
    for name in ("cls.predictions.bias", "cls.seq_relationship.weight", "fit_dense.weight",
                 "fit_denses.0.bias", f"{prefix}pooler.dense.weight", f"{prefix}pooler.dense.bias"):  # fmt: skip
        state[name] = np.ones((4, 4), np.float32)
    (folder / "model.safetensors").unlink()
    tensors = {name: torch.from_numpy(value) for name, value in state.items()}
    tensors[f"{prefix}embeddings.position_ids"] = torch.arange(64)[None]
    if suffix == "bin":
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        from safetensors.torch import save_file as save

        save({name: value.clone() for name, value in tensors.items()}, folder / "model.safetensors")


def pooled(encoder):
    """Returns the model with mean pooling alone, as it is read from a folder without modules."""
    config = type(encoder.config).from_dict(encoder.config.to_dict() | {"normalize": False, "max_tokens": 64})
    return BertEncoder(config, dense_weights(encoder), encoder.tokenizer)


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
@pytest.mark.parametrize("prefix", ["bert.", ""])
def test_published_tinyberts_are_read(folder, suffix, prefix):
    expected = pooled(make_bert())
    published(folder, suffix=suffix, prefix=prefix)
    loaded = sentenc.load(folder, pooling="mean")
    assert isinstance(loaded, BertEncoder)
    assert loaded.config == expected.config
    np.testing.assert_array_equal(loaded.encode(TEXTS), expected.encode(TEXTS))


def test_vocab_txt_is_read_with_its_settings(folder):
    published(folder)
    change(folder / "tokenizer_config.json", do_lower_case=False, model_max_length=30)
    loaded = sentenc.load(folder, pooling="mean")
    cased = make_bert(spec=wordpiece_spec(lowercase=False), normalize=False)
    assert loaded.max_tokens == 30
    np.testing.assert_array_equal(loaded.encode(TEXTS), cased.encode(TEXTS))


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_weights_of_other_types(folder, kind):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file as load
    from safetensors.torch import save_file as save

    weights = {
        name: value.to(getattr(torch, kind)) for name, value in load(folder / "model.safetensors").items()
    }
    save(weights, folder / "model.safetensors")
    content = read_bert_folder(folder)
    name = "encoder.layer.1.output.dense.weight"
    assert content.weights[name].dtype == (np.float16 if kind == "float16" else np.float32)
    np.testing.assert_array_equal(content.weights[name].astype(np.float32), weights[name].float().numpy())
    expected = make_bert().encode(TEXTS)
    np.testing.assert_allclose(sentenc.load(folder).encode(TEXTS), expected, atol=0.05)


def test_max_tokens_defaults_to_the_limit_of_the_tokenizer_or_the_model(folder):
    change(folder / "sentence_bert_config.json", max_seq_length=...)
    assert sentenc.load(folder).max_tokens == 48
    change(folder / "tokenizer_config.json", model_max_length=10**30)
    assert sentenc.load(folder).max_tokens == 64
    change(folder / "sentence_bert_config.json", max_seq_length=512)
    assert sentenc.load(folder).max_tokens == 64


def test_older_and_newer_spellings(folder):
    expected = make_bert().encode(TEXTS)
    # Version 6 of sentence-transformers.
    set_modules(
        folder, "Transformer", "Pooling", "Normalize", package="sentence_transformers.base.modules.any"
    )
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"embedding_dimension": 24, "pooling_mode": "mean", "include_prompt": True})
    )
    (folder / "sentence_bert_config.json").write_text(json.dumps({
        "transformer_task": "feature-extraction", "module_output_name": "token_embeddings",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    }))  # fmt: skip
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "", "document": ""}, "default_prompt_name": None})
    )
    np.testing.assert_array_equal(sentenc.load(folder).encode(TEXTS), expected)
    # The first versions had the transformer in a separate folder.
    inner = folder / "0_BERT"
    inner.mkdir()
    for path in list(folder.iterdir()):
        if path.is_file() and path.name != "modules.json":
            path.rename(inner / path.name)
    values = modules("BERT", "Pooling", "Normalize")
    values[0]["path"] = "0_BERT"
    (folder / "modules.json").write_text(json.dumps(values))
    np.testing.assert_array_equal(sentenc.load(folder).encode(TEXTS), expected)


def pools_by(*modes):
    return lambda f: change(
        f / "1_Pooling" / "config.json", pooling_mode=list(modes), pooling_mode_mean_tokens=False
    )


def with_dense(**values):
    def make(folder):
        set_modules(folder, "Transformer", "Pooling", "Normalize", "Dense")
        (folder / "3_Dense").mkdir()
        settings = {
            "in_features": 24,
            "out_features": 8,
            "bias": False,
            "activation_function": "torch.nn.Identity",
        }
        change(folder / "3_Dense" / "config.json", **settings | values)
        save_file({"linear.weight": np.ones((8, 24), np.float32)}, folder / "3_Dense" / "model.safetensors")

    return make


def edit_tokenizer(edit, **settings):
    def make(folder):
        spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        edit(spec)
        (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
        change(folder / "tokenizer_config.json", **settings)

    return make


def extra_weight(folder):
    weights = load_file(folder / "model.safetensors")
    save_file(
        weights | {"encoder.layer.0.adapter.weight": np.ones(3, np.float32)}, folder / "model.safetensors"
    )


def sharded(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")


def new_token(spec):
    spec["added_tokens"].append(spec["added_tokens"][0] | {"id": 244, "content": "covid", "special": False})


AS_FILED = {"tokenizer_class": "PreTrainedTokenizerFast"}
REFUSALS = {
    "other model": (lambda f: change(f / "config.json", model_type="roberta"),
                    "model_type 'roberta', expected 'bert' or 'distilbert' or 'mpnet'"),
    "relative": (lambda f: change(f / "config.json", position_embedding_type="relative_key"),
                 "'relative_key'"),
    "decoder": (lambda f: change(f / "config.json", is_decoder=True), "is_decoder True"),
    "activation": (lambda f: change(f / "config.json", hidden_act="gelu_new"), "hidden_act is 'gelu_new'"),
    "no shape": (lambda f: change(f / "config.json", hidden_size=...), "lacks hidden_size"),
    "heads": (lambda f: change(f / "config.json", num_attention_heads=5),
              "a multiple of num_attention_heads"),
    "max pooling": (pools_by("max"), "pools by max, expected mean or cls pooling"),
    "two poolings": (pools_by("mean", "max"), "pools by mean, max, expected"),
    "no pooling": (pools_by(), "pools by nothing, expected"),
    "prompt": (lambda f: change(f / "config_sentence_transformers.json",
                        prompts={"q": "find: "}, default_prompt_name="q"),
               "the default prompt 'q', expected none"),
    "shortened": (lambda f: change(f / "config_sentence_transformers.json", truncate_dim=8),
                  "truncate_dim 8"),
    "other modules": (lambda f: set_modules(f, "Transformer", "Pooling", "LayerNorm"),
                      "Transformer, Pooling, LayerNorm, exp"),
    "foreign module": (lambda f: set_modules(f, "Transformer", "Pooling", package="mine"),
                       "mine.Transformer, mine.Pooling"),
    "no modules": (lambda f: set_modules(f), "has the modules none, expected"),
    "setting": (lambda f: change(f / "sentence_bert_config.json", query_length=4), "query_length 4"),
    "bias": (with_dense(bias=True), "has bias True and activation Identity, expected a Dense without either"),
    "tanh": (with_dense(activation_function="torch.nn.modules.activation.Tanh"), "activation Tanh"),
    "narrow": (with_dense(), r"linear.weight of shape \(8, 24\), expected a square matrix"),
    "tokenizer": (edit_tokenizer(lambda _: None, tokenizer_class="BertJapaneseTokenizer"),
                  "'BertJapaneseTokenizer'"),
    "no special tokens": (edit_tokenizer(lambda s: s.update(post_processor=None), **AS_FILED),
                          r"puts \[\] around a text"),
    "other names": (edit_tokenizer(lambda _: None, cls_token="<s>"), r"cls_token '<s>', expected '\[CLS\]'"),
    "added token": (edit_tokenizer(new_token), "the added token 'covid'"),
    "normalizer": (edit_tokenizer(lambda s: s.update(normalizer={"type": "NFC"}), **AS_FILED),
                   "normalizer of type NFC"),
    "extra weight": (extra_weight, "weights that no BERT has: encoder.layer.0.adapter.weight"),
    "shards": (sharded, "its weights in several files"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSALS.values(), ids=REFUSALS)
def test_another_model_is_refused_with_the_difference(folder, make, message):
    make(folder)
    with pytest.raises(NotBertError, match=message):
        BertEncoder.from_folder(folder)
    with pytest.raises(NotBertError, match=message):
        sentenc.load(folder, backend="onnx")
    with pytest.raises(NotBertError, match=message):
        sentenc.load(folder, compute="float32")


def test_another_model_is_loaded_by_sentence_transformers(folder):
    pytest.importorskip("sentence_transformers")
    pools_by("max")(folder)
    change(folder / "1_Pooling" / "config.json", pooling_mode=..., pooling_mode_max_tokens=True)
    assert isinstance(sentenc.load(folder), SentenceTransformerEncoder)
    # Without modules, the mean is assumed, with a warning.
    (folder / "modules.json").unlink()
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "embedding_size": 24, "intermediate_size": 48, "max_position_embeddings": 64}
    config = transformers.ElectraConfig(vocab_size=244, num_hidden_layers=1, num_attention_heads=4, **sizes)
    transformers.ElectraModel(config).save_pretrained(folder)
    with pytest.raises(NotBertError, match="model_type 'electra'"):
        sentenc.load(folder, backend="onnx", pooling="mean")
    with pytest.warns(PoolingWarning, match="pass pooling='mean'"):
        assert sentenc.load(folder).model[1].pooling_mode == "mean"
    assert sentenc.load(folder, pooling="cls").model[1].pooling_mode == "cls"
