"""Folders of BERT encoders: in the format of sentence-transformers, and in the compact one of sentenc."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import sentenc
from sentenc import BertEncoder, CheckpointError, SentenceTransformerEncoder
from sentenc.cli import cli
from tests.support.bert import CLOSE, KNOWN, TEXTS, cosines
from tests.support.models import dense_weights, make_bert, make_cse, make_sentence_transformer, wordpiece_spec

SHAPES = {
    "normalized": {},
    "mean": {"normalize": False},
    "linear": {"linear": True},
    "linear mean": {"linear": True, "normalize": False},
    "relu": {"hidden_act": "relu"},
    "cased": {"spec": wordpiece_spec(lowercase=False)},
    "other unknown": {"spec": wordpiece_spec(unknown="<unk>")},
    "long words": {"spec": wordpiece_spec().replace('per_word": 100', 'per_word": 9')},
    "cls": {"pooling": "cls"},
    "cls unnormalized": {"pooling": "cls", "normalize": False},
    "heads": {"num_attention_heads": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-6, "num_hidden_layers": 1},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_saved_folders_are_loaded_by_sentence_transformers(shape, tmp_path):
    transformers = pytest.importorskip("sentence_transformers")
    encoder = make_bert(**shape)
    encoder.save(tmp_path / "model")
    stock = transformers.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert stock.max_seq_length == encoder.max_tokens
    np.testing.assert_allclose(stock.encode(KNOWN), encoder.encode(KNOWN, on_overflow="ignore"), **CLOSE)
    loaded = sentenc.load(tmp_path / "model")
    assert loaded.config == encoder.config
    assert loaded.fingerprint() == encoder.fingerprint()
    np.testing.assert_array_equal(loaded.encode(TEXTS), encoder.encode(TEXTS))


def test_sentence_transformers_uses_the_prompts_of_a_folder(tmp_path):
    transformers = pytest.importorskip("sentence_transformers")
    encoder = make_bert(pooling="cls")
    prompts = {"query": "the word: ", "document": "good "}
    encoder.metadata = {"prompts": prompts, "space": "joint"}
    encoder.save(tmp_path / "model")
    stock = transformers.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert stock.prompts == prompts
    np.testing.assert_allclose(stock.encode_query(KNOWN), encoder.encode_query(KNOWN), **CLOSE)
    np.testing.assert_allclose(stock.encode_document(KNOWN), encoder.encode_document(KNOWN), **CLOSE)
    np.testing.assert_allclose(stock.encode(KNOWN), encoder.encode(KNOWN), **CLOSE)
    # In a folder that sentence-transformers writes, they are read again.
    stock.save(str(tmp_path / "again"))
    assert dict(sentenc.load(tmp_path / "again").prompts) == prompts
    assert json.loads((tmp_path / "model" / "metadata.json").read_text()) == {"space": "joint"}
    assert sentenc.load(tmp_path / "model").metadata == encoder.metadata


def test_sentence_transformers_computes_the_same_vectors_of_a_folder(tmp_path):
    pytest.importorskip("sentence_transformers")
    encoder = make_bert(linear=True).compressed()
    encoder.save(tmp_path / "model")
    slow = sentenc.load(tmp_path / "model", backend="torch")
    assert isinstance(slow, SentenceTransformerEncoder)
    texts = [*TEXTS, "dog " * 100]
    np.testing.assert_allclose(
        slow.encode(texts, on_overflow="ignore"), encoder.encode(texts, on_overflow="ignore"), **CLOSE
    )
    np.testing.assert_array_equal(slow.count_tokens(texts), encoder.count_tokens(texts))


def test_a_model_of_sentence_transformers_is_loaded(tmp_path):
    pytest.importorskip("sentence_transformers")
    stock = make_sentence_transformer(tmp_path)
    stock.save(str(tmp_path / "model"))
    encoder = sentenc.load(tmp_path / "model")
    assert isinstance(encoder, BertEncoder)
    assert encoder.max_tokens == 48
    assert not encoder.config.normalize
    np.testing.assert_allclose(encoder.encode(KNOWN), stock.encode(KNOWN), **CLOSE)
    np.testing.assert_allclose(
        encoder.encode(TEXTS), SentenceTransformerEncoder(stock).encode(TEXTS), **CLOSE
    )


def test_a_folder_contains_metadata_card_and_compute(tmp_path):
    encoder = make_bert("int8")
    encoder.metadata, encoder.card = {"summary": "tiny"}, "# A card\n"
    encoder.save(tmp_path / "full")
    encoder.save_compact(tmp_path / "compact")
    for folder in ("full", "compact"):
        loaded = sentenc.load(tmp_path / folder)
        assert (loaded.metadata, loaded.card, loaded.compute) == (encoder.metadata, encoder.card, "int8")
        assert loaded.max_tokens == 48
        assert sentenc.load(tmp_path / folder, compute="float32").compute == "float32"
        assert sentenc.load(tmp_path / folder, threads=3).threads == 3
    names = {path.name for path in (tmp_path / "full").iterdir()}
    assert names == {
        "1_Pooling",
        "2_Normalize",
        "README.md",
        "config.json",
        "metadata.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    }
    modules = json.loads((tmp_path / "full" / "modules.json").read_text())
    assert [module["type"] for module in modules] == [
        f"sentence_transformers.models.{kind}" for kind in ("Transformer", "Pooling", "Normalize")
    ]
    pooling = json.loads((tmp_path / "full" / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"] is True


@pytest.mark.parametrize("compute", ["float32", "int8"])
def test_a_compact_folder_is_small_and_verified(tmp_path, compute):
    encoder = make_bert(compute, hidden_size=64)
    encoder.save(tmp_path / "full")
    encoder.save_compact(tmp_path / "compact")
    full, compact = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "compact"))
    assert compact < 0.35 * full
    assert sentenc.verify(tmp_path / "compact").texts == 8
    loaded = sentenc.load(tmp_path / "compact")
    assert cosines(loaded.encode(KNOWN), encoder.encode(KNOWN)).min() > 0.98
    # Writing it again changes nothing.
    loaded.save_compact(tmp_path / "again")
    names = ("config.json", "model.safetensors", "tokenizer.json", "golden.json")
    assert all(
        (tmp_path / "again" / n).read_bytes() == (tmp_path / "compact" / n).read_bytes() for n in names
    )


def test_a_model_with_other_vectors_is_not_verified(tmp_path):
    encoder = make_bert()
    encoder.save_compact(tmp_path / "compact")
    checkpoint = sentenc.checkpoint.read_checkpoint(tmp_path / "compact")
    checkpoint.tensors["embeddings.LayerNorm.bias"][:] += 0.5
    sentenc.checkpoint.write_checkpoint(tmp_path / "other", checkpoint)
    with pytest.raises(CheckpointError, match="golden text"):
        sentenc.verify(tmp_path / "other")
    for key, value in (("compute", "int4"), ("depth", 3)):
        changed = replace(checkpoint, config={**checkpoint.config, key: value})
        sentenc.checkpoint.write_checkpoint(tmp_path / "other", changed)
        with pytest.raises(CheckpointError, match=f"bad config: .*{key}"):
            sentenc.load(tmp_path / "other")


def test_encoding_a_folder_needs_no_torch(tmp_path):
    make_bert().save(tmp_path / "full")
    make_bert().save_compact(tmp_path / "compact")
    code = (
        "import sys\nfor name in ('torch', 'transformers', 'sentence_transformers', 'scipy', 'sklearn'):\n"
        "    sys.modules[name] = None\n"
        "import sentenc\nfor folder in sys.argv[1:]:\n"
        "    encoder = sentenc.load(folder)\n    print(encoder.encode(['a man', 'a dog']).shape)\n"
        "    encoder.save(folder + '-again')\n    encoder.export_onnx(folder + '.onnx')\n"
        "try:\n    encoder.torch_model()\nexcept sentenc.MissingExtraError as error:\n    print(error.extra)\n"
        "try:\n    sentenc.load(sys.argv[1], backend='torch')\n"
        "except sentenc.MissingExtraError as error:\n    print(error.extra)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "full"), str(tmp_path / "compact")],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert result.stdout == "(2, 24)\n(2, 24)\ntrain\nsentence-transformers\n"
    assert result.stderr == ""


def test_info_of_a_folder(tmp_path):
    encoder = make_bert()
    encoder.save(tmp_path / "full")
    encoder.save_compact(tmp_path / "compact")
    parameters = sum(value.size for value in dense_weights(encoder).values())
    for folder in ("full", "compact"):
        result = CliRunner().invoke(cli, ["info", str(tmp_path / folder), "--json"])
        info = json.loads(result.output)
        assert (info["kind"], info["dim"], info["parameters"]) == ("tinybert", 24, parameters)
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(cli, ["info", str(tmp_path / "empty")])
    assert result.exit_code == 1
    assert str(tmp_path / "empty") in result.output


def test_compute_on_the_command_line(tmp_path):
    bert = make_bert()
    bert.save_compact(tmp_path / "bert")
    make_cse().save(tmp_path / "cse")
    (tmp_path / "texts.txt").write_text("the dog runs\nhello world\n")
    call = [
        "encode",
        str(tmp_path / "texts.txt"),
        "-q",
        "-o",
        str(tmp_path / "vectors.npy"),
        "--compute",
        "int8",
    ]
    result = CliRunner().invoke(cli, [*call, "-m", str(tmp_path / "bert")])
    assert result.exit_code == 0, result.output
    expected = bert.compressed().with_compute("int8").encode(["the dog runs", "hello world"])
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), expected, rtol=0, atol=1e-6)
    result = CliRunner().invoke(cli, [*call, "-m", str(tmp_path / "cse")])
    assert result.exit_code == 2
    assert "compute='int8' is not supported for a CSE" in result.output
