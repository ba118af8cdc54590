"""Models that compute like a BERT under other names: a DistilBERT, and an MPNet, which has biases for distances."""

import json
import pickle
import shutil
import sys

import numpy as np
import pytest

import sentenc
from sentenc import BertEncoder, CheckpointError
from sentenc.encoders.bert.config import DISTANCES, BertConfig
from sentenc.encoders.bert.onnx_graph import distance_groups
from sentenc.training.students.bert import BertStudent
from tests.support.models import make_bert, make_mpnet, mpnet_spec, random_bert_weights, wordpiece_spec

transformers = pytest.importorskip("transformers")
sentence_transformers = pytest.importorskip("sentence_transformers")
torch = pytest.importorskip("torch")

TEXTS = ["the dog", "a cat and the dog", "", "\u6771", "dog " * 150, "a [SEP] </s> <mask> <unk> cat"]
SIZES = {
    "mpnet": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40},
    "distilbert": {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40},
}


def write_tokenizer(folder, kind):
    names = {
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    spec = json.loads(wordpiece_spec())
    if kind == "mpnet":
        spec = mpnet_spec()
        names |= {"pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>",
                  "bos_token": "<s>", "eos_token": "</s>"}  # fmt: skip
    tokens = spec["model"]["vocab"]
    (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    class_name = "MPNetTokenizer" if kind == "mpnet" else "DistilBertTokenizer"
    settings = {"tokenizer_class": class_name, "do_lower_case": True, "model_max_length": 512, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(tokens)


def make_folder(folder, kind, *, head=False, pooling="mean"):
    """A folder of sentence-transformers with a prompt; with a head of pretraining or without."""
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    plain = folder.with_name(f"{folder.name}-plain")
    plain.mkdir()
    name = "MPNet" if kind == "mpnet" else "DistilBert"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(
            vocab_size=write_tokenizer(plain, kind), max_position_embeddings=256, initializer_range=0.4,
            **SIZES[kind],
        )  # fmt: skip
        getattr(transformers, f"{name}{'ForMaskedLM' if head else 'Model'}")(config).save_pretrained(plain)
    write_tokenizer(plain, kind)
    modules = [Transformer(str(plain)), Pooling(24, pooling_mode=pooling), Normalize()]
    prompts = {"query": "find "}
    model = sentence_transformers.SentenceTransformer(modules=modules, prompts=prompts, device="cpu")
    model.save(str(folder))
    return folder


@pytest.fixture(scope="module", params=SIZES)
def folder(request, tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("names") / request.param, request.param)


@pytest.fixture(scope="module")
def expected(folder):
    return sentenc.load(folder, backend="torch")


def assert_same(encoder, expected, atol=2e-6):
    for method in ("encode", "encode_query"):
        vectors = getattr(encoder, method)(TEXTS, on_overflow="ignore")
        theirs = getattr(expected, method)(TEXTS, on_overflow="ignore")
        np.testing.assert_allclose(vectors, theirs, rtol=0, atol=atol)


def test_vectors_equal_those_of_sentence_transformers(folder, expected):
    encoder = sentenc.load(folder)
    assert isinstance(encoder, BertEncoder)
    assert encoder.max_tokens == expected.max_tokens
    np.testing.assert_array_equal(encoder.count_tokens(TEXTS), expected.count_tokens(TEXTS))
    assert_same(encoder, expected)
    assert_same(
        sentenc.load(folder, pooling=None, max_tokens=20),
        sentenc.load(folder, backend="torch", max_tokens=20),
    )
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(encoder)).encode(TEXTS[:4]), encoder.encode(TEXTS[:4])
    )


def test_int8_has_nearly_the_same_vectors(folder, expected):
    vectors = sentenc.load(folder, compute="int8").encode(TEXTS, on_overflow="ignore")
    theirs = expected.encode(TEXTS, on_overflow="ignore")
    rows = theirs.any(1)
    assert ((vectors * theirs).sum(1)[rows] > 0.99).all()
    assert not vectors[~rows].any()


def test_a_saved_folder_has_the_same_vectors(folder, expected, tmp_path):
    encoder = sentenc.load(folder)
    encoder.save(tmp_path / "saved")
    saved = sentenc.load(tmp_path / "saved")
    assert (saved.space, saved.fingerprint()) == (encoder.space, encoder.fingerprint())
    assert_same(saved, expected)
    assert_same(sentenc.load(tmp_path / "saved", backend="torch"), expected)
    if encoder.config.is_mpnet:
        # Servers that parse the file themselves require this entry.
        assert (
            json.loads((tmp_path / "saved" / "config.json").read_text())["relative_attention_num_buckets"]
            == 32
        )
    encoder.save_compact(tmp_path / "compact")
    assert sentenc.verify(tmp_path / "compact").max_difference < 1e-6
    compact = sentenc.load(tmp_path / "compact")
    assert compact.config == encoder.config
    vectors, theirs = compact.encode(TEXTS, on_overflow="ignore"), encoder.encode(TEXTS, on_overflow="ignore")
    assert ((vectors * theirs).sum(1)[theirs.any(1)] > 0.99).all()


def test_an_exported_file_has_the_same_vectors(folder, tmp_path):
    report = sentenc.load(folder).export_onnx(tmp_path / "model.onnx", texts=["the dog", "a cat"])
    assert report["dim"] == 24
    assert (tmp_path / "model.onnx").exists()


def test_weights_go_to_torch_and_back(folder, expected):
    encoder = sentenc.load(folder)
    model, tokenizer = encoder.torch_model()
    assert type(model).__name__ == ("MPNetModel" if encoder.config.is_mpnet else "BertModel")
    assert tokenizer("the dog")["input_ids"] == expected.torch_model()[1]("the dog")["input_ids"]
    again = encoder.with_torch_weights(model)
    for name in encoder.config.shapes():
        np.testing.assert_array_equal(again.weight(name), encoder.weight(name))


@pytest.mark.parametrize("kind", SIZES)
def test_the_first_state_may_be_pooled(kind, tmp_path):
    folder = make_folder(tmp_path / "model", kind, pooling="cls")
    encoder = sentenc.load(folder)
    assert encoder.config.pooling == "cls"
    assert_same(encoder, sentenc.load(folder, backend="torch"))


def test_sentence_transformers_is_not_needed(folder, monkeypatch):
    for package in ("sentence_transformers", "transformers", "torch"):
        monkeypatch.setitem(sys.modules, package, None)
    assert sentenc.load(folder).encode("the dog").any()


def test_the_tokenizer_may_be_stated_in_other_files(folder, expected, tmp_path):
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    by_file = shutil.copytree(folder, tmp_path / "as-filed")
    (by_file / "tokenizer_config.json").write_text(
        json.dumps(settings | {"tokenizer_class": "PreTrainedTokenizerFast"})
    )
    by_vocabulary = shutil.copytree(folder, tmp_path / "vocabulary")
    (by_vocabulary / "tokenizer.json").unlink()
    (by_vocabulary / "vocab.txt").write_text(
        "".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.get))
    )
    for changed in (by_file, by_vocabulary):
        encoder = sentenc.load(changed, backend="onnx")
        np.testing.assert_allclose(encoder.encode(TEXTS[:4]), expected.encode(TEXTS[:4]), rtol=0, atol=2e-6)


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_transformers_computes_otherwise_is_left_to_it(tmp_path):
    folder = make_folder(tmp_path / "model", "mpnet")
    other = shutil.copytree(folder, tmp_path / "buckets")
    edit_json(other / "config.json", relative_attention_num_buckets=64)
    with pytest.raises(sentenc.NotBertError, match="relative_attention_num_buckets 64, expected 32"):
        sentenc.load(other, backend="onnx")
    # transformers counts positions from the id 1, whichever token has it.
    other = shutil.copytree(folder, tmp_path / "padding")
    spec = json.loads((other / "tokenizer.json").read_text())
    vocabulary = spec["model"]["vocab"]
    vocabulary["<pad>"], vocabulary["<s>"] = vocabulary["<s>"], vocabulary["<pad>"]
    (other / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(sentenc.NotBertError, match="<pad> as token 0, expected 1"):
        sentenc.load(other, backend="onnx")
    assert not isinstance(sentenc.load(other), BertEncoder)


def test_a_distilbert_becomes_a_bert_that_reads_pairs(tmp_path):
    folder = make_folder(tmp_path / "model", "distilbert")
    edit_json(folder / "config.json", layer_norm_eps=0.5, hidden_act="relu")
    encoder = sentenc.load(folder)
    assert_same(encoder, sentenc.load(folder, backend="torch"))
    model, _ = encoder.torch_model()
    ids, types = torch.tensor([[2, 6, 3, 7, 3]]), torch.tensor([[0, 0, 0, 1, 1]])
    with torch.inference_mode():
        states = [model(ids, token_type_ids=kinds).last_hidden_state for kinds in (types, 0 * types)]
    torch.testing.assert_close(*states)


def test_a_student_has_no_more_tokens_than_positions(tmp_path):
    encoder = sentenc.load(make_folder(tmp_path / "model", "mpnet"))
    model, tokenizer = encoder.torch_model()
    assert model.config.max_position_embeddings == 256
    BertStudent(model, tokenizer, max_tokens=254)
    with pytest.raises(ValueError, match="max_tokens is 255, expected 3 to 254, the model"):
        BertStudent(model, tokenizer, max_tokens=255)


@pytest.mark.parametrize("kind", SIZES)
def test_the_head_of_pretraining_is_left_out(kind, tmp_path):
    make_folder(tmp_path / "headed", kind, head=True)
    plain = tmp_path / "headed-plain"
    encoder = sentenc.load(plain, pooling="mean")
    assert isinstance(encoder, BertEncoder)
    stock = sentenc.load(plain, pooling="mean", backend="torch")
    np.testing.assert_allclose(encoder.encode("the dog"), stock.encode("the dog"), rtol=0, atol=2e-5)


def test_the_groups_of_distances_are_those_of_transformers():
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    distances = np.arange(-600, 601)
    expected = MPNetEncoder.relative_position_bucket(torch.from_numpy(distances)).numpy()
    np.testing.assert_array_equal(distance_groups(distances), expected)


def test_the_biases_change_the_vectors_by_the_order_of_words():
    encoder = make_mpnet()
    weights = random_bert_weights(encoder.config)
    weights["embeddings.position_embeddings.weight"][:] = 0
    ordered = BertEncoder(encoder.config, weights, encoder.tokenizer)
    weights = weights | {DISTANCES: np.zeros_like(weights[DISTANCES])}
    unordered = BertEncoder(encoder.config, weights, encoder.tokenizer)
    first, second = "the dog and a cat", "a cat and the dog"
    np.testing.assert_allclose(unordered.encode(first), unordered.encode(second), rtol=0, atol=1e-6)
    assert np.abs(ordered.encode(first) - ordered.encode(second)).max() > 1e-3


def test_an_mpnet_has_no_token_types_and_its_own_special_tokens():
    with pytest.raises(ValueError, match="type_vocab_size is 2, expected"):
        make_bert(model_type="mpnet")
    with pytest.raises(ValueError, match="model_type is 'roberta', expected"):
        make_bert(model_type="roberta")
    with pytest.raises(CheckpointError, match="lacks <pad>, <s>, </s> in its vocabulary"):
        make_bert(model_type="mpnet", type_vocab_size=0)


def test_a_bert_states_nothing_of_an_mpnet():
    # Its fingerprint depends on these values.
    config = make_bert().config
    assert "model_type" not in config.to_dict()
    assert BertConfig.from_dict(config.to_dict()) == config


def test_a_classifier_is_fine_tuned(folder):
    texts, labels = ["the dog", "a dog", "the cat", "a cat"] * 4, ["dog", "dog", "cat", "cat"] * 4
    classifier = sentenc.SentenceClassifier(sentenc.load(folder), fine_tune="all", epochs=2).fit(
        texts, labels
    )
    assert len(classifier.predict(texts)) == len(texts)
