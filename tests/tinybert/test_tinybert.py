"""TinyBERT beyond the contract: tokens, batches, folders, the file for ONNX, and the way to torch."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

import sentenc
from sentenc import BertEncoder, CheckpointError, SentenceTransformerEncoder, TruncationWarning
from sentenc.encoders.bert.config import BertConfig
from sentenc.encoders.bert.quantization import quantized
from tests.support.models import make_cse, make_sentence_transformer, make_tinybert, wordpiece_spec

TEXTS = [
    "a man is playing the guitar", "someone plays an instrument!", "", "dog", "the stock market fell " * 7,
    "Crème, NAÏVE straße", "東京 is new", "hello   world\t\n", "not good at all", "☃", "☃ dog", "dog un\u0301playing",
]  # fmt: skip
CLOSE = {"rtol": 0, "atol": 1e-5}
KNOWN = [text for text in TEXTS if text not in ("", "☃")]


class Spy:
    """A session that keeps what it is given."""

    def __init__(self, session):
        self.session, self.seen = session, []

    def run(self, names, inputs):
        self.seen.append(inputs)
        return self.session.run(names, inputs)


def spied(encoder: BertEncoder) -> Spy:
    encoder.encode("dog")
    encoder._session = Spy(encoder._session)
    return encoder._session


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("lowercase", [True, False])
def test_ids_are_those_of_the_tokenizers_library(tmp_path, lowercase):
    from tokenizers import Tokenizer

    encoder = make_tinybert(spec=wordpiece_spec(lowercase))
    encoder.save(tmp_path / "model")
    reference = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    spy = spied(encoder)
    for text in KNOWN:
        encoder.encode(text, on_overflow="ignore")
        expected = reference.encode(text).ids
        assert spy.seen[-1]["input_ids"].tolist() == [expected]
        assert spy.seen[-1]["attention_mask"].tolist() == [[1] * len(expected)]
        assert encoder.count_tokens(text).tolist() == [len(expected)]


def test_long_texts_are_cut_before_the_last_special_token():
    encoder = make_tinybert(max_tokens=8)
    spy = spied(encoder)
    with pytest.warns(TruncationWarning, match=r"max_tokens=8 \(the longest has 42\)"):
        encoder.encode("dog cat " * 20)
    ids = spy.seen[-1]["input_ids"][0].tolist()
    vocabulary = encoder.tokenizer.vocabulary
    assert ids == [vocabulary[token] for token in ("[CLS]", *["dog", "cat"] * 3, "[SEP]")]
    # What is left of this has no known token.
    assert not encoder.encode("☃ " * 6 + "dog", on_overflow="ignore").any()
    assert encoder.encode("☃ " * 5 + "dog", on_overflow="ignore").any()


def test_batches_are_of_like_length_and_bounded():
    encoder = make_tinybert()
    spy = spied(encoder)
    texts = ["dog " * (1 + i % 40) for i in range(200)]
    found = encoder.encode(texts, batch_size=16)
    shapes = [inputs["input_ids"].shape for inputs in spy.seen]
    assert sum(rows for rows, _ in shapes) == len(texts)
    assert max(rows * length for rows, length in shapes) <= 16 * 8
    padding = 1 - np.concatenate([inputs["attention_mask"].ravel() for inputs in spy.seen]).mean()
    assert padding < 0.1
    np.testing.assert_allclose(found[7], encoder.encode(texts[7]), **CLOSE)


@pytest.mark.parametrize("compute", ["float32", "int8"])
def test_vectors_do_not_depend_on_threads(compute):
    texts = [TEXTS[i % len(TEXTS)] + " cat" * (i % 11) for i in range(300)]
    encoder = make_tinybert(compute)
    expected = encoder.with_compute(compute, threads=1).encode(texts, batch_size=4)
    for threads in (2, 5):
        many = encoder.with_compute(compute, threads=threads)
        np.testing.assert_array_equal(many.encode(texts, batch_size=4), expected)


def test_an_error_in_a_thread_is_raised():
    encoder = make_tinybert().with_compute("float32", threads=3)

    class Broken:
        def run(self, *_):
            raise RuntimeError("no memory")

    encoder._session = Broken()
    with pytest.raises(RuntimeError, match="no memory"):
        encoder.encode(["dog cat"] * 100, batch_size=1)


def test_the_session_is_made_when_it_is_needed_and_not_pickled():
    encoder = make_tinybert()
    assert encoder._session is None
    size = len(pickle.dumps(encoder))
    expected = encoder.encode(TEXTS)
    assert encoder._session is not None
    assert len(pickle.dumps(encoder)) == size
    twin = pickle.loads(pickle.dumps(encoder.compressed()))
    assert twin._session is None
    assert cosines(twin.encode(KNOWN), encoder.encode(KNOWN)).min() > 0.98
    np.testing.assert_array_equal(encoder.encode(TEXTS), expected)


SHAPES = {
    "normalized": {}, "mean": {"normalize": False}, "linear": {"linear": True},
    "linear mean": {"linear": True, "normalize": False}, "relu": {"hidden_act": "relu"},
    "cased": {"spec": wordpiece_spec(lowercase=False)}, "other unknown": {"spec": wordpiece_spec(unknown="<unk>")},
    "long words": {"spec": wordpiece_spec().replace('per_word": 100', 'per_word": 9')},
    "heads": {"num_attention_heads": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-6, "num_hidden_layers": 1},
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_stock_sentence_transformers_load_what_is_saved(shape, tmp_path):
    transformers = pytest.importorskip("sentence_transformers")
    encoder = make_tinybert(**shape)
    encoder.save(tmp_path / "model")
    stock = transformers.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert stock.max_seq_length == encoder.max_tokens
    np.testing.assert_allclose(stock.encode(KNOWN), encoder.encode(KNOWN, on_overflow="ignore"), **CLOSE)
    loaded = sentenc.load(tmp_path / "model")
    assert loaded.config == encoder.config
    assert loaded.fingerprint() == encoder.fingerprint()
    np.testing.assert_array_equal(loaded.encode(TEXTS), encoder.encode(TEXTS))


def test_a_folder_is_the_same_through_the_slow_way(tmp_path):
    pytest.importorskip("sentence_transformers")
    encoder = make_tinybert(linear=True).compressed()
    encoder.save(tmp_path / "model")
    torch_form = sentenc.load(tmp_path / "model", backend="torch")
    assert isinstance(torch_form, SentenceTransformerEncoder)
    texts = [*TEXTS, "dog " * 100]
    np.testing.assert_allclose(
        torch_form.encode(texts, on_overflow="ignore"), encoder.encode(texts, on_overflow="ignore"), **CLOSE
    )
    np.testing.assert_array_equal(torch_form.count_tokens(texts), encoder.count_tokens(texts))


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


def test_what_a_folder_keeps(tmp_path):
    encoder = make_tinybert("int8")
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
        "1_Pooling", "2_Normalize", "README.md", "config.json", "metadata.json", "model.safetensors", "modules.json",
        "sentence_bert_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
    }  # fmt: skip
    modules = json.loads((tmp_path / "full" / "modules.json").read_text())
    assert [module["type"] for module in modules] == [
        f"sentence_transformers.models.{kind}" for kind in ("Transformer", "Pooling", "Normalize")
    ]
    pooling = json.loads((tmp_path / "full" / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"] is True


@pytest.mark.parametrize("compute", ["float32", "int8"])
def test_a_compact_folder_is_small_and_verified(tmp_path, compute):
    encoder = make_tinybert(compute, hidden_size=64)
    encoder.save(tmp_path / "full")
    encoder.save_compact(tmp_path / "compact")
    full, compact = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "compact"))
    assert compact < 0.35 * full
    assert sentenc.verify(tmp_path / "compact").texts == 8
    found = sentenc.load(tmp_path / "compact")
    assert cosines(found.encode(KNOWN), encoder.encode(KNOWN)).min() > 0.98
    # Written again, nothing changes.
    found.save_compact(tmp_path / "again")
    names = ("config.json", "model.safetensors", "tokenizer.json", "golden.json")
    assert all(
        (tmp_path / "again" / n).read_bytes() == (tmp_path / "compact" / n).read_bytes() for n in names
    )


def test_a_model_that_gives_other_vectors_is_not_verified(tmp_path):
    encoder = make_tinybert()
    encoder.save_compact(tmp_path / "compact")
    checkpoint = sentenc.checkpoint.read_checkpoint(tmp_path / "compact")
    checkpoint.tensors["embeddings.LayerNorm.bias"][:] += 0.5
    sentenc.checkpoint.write_checkpoint(tmp_path / "other", checkpoint)
    with pytest.raises(CheckpointError, match="golden text"):
        sentenc.verify(tmp_path / "other")
    checkpoint.config["depth"] = 3
    sentenc.checkpoint.write_checkpoint(tmp_path / "other", checkpoint)
    with pytest.raises(CheckpointError, match=r"bad config: .*'depth'"):
        sentenc.load(tmp_path / "other")


def test_fingerprints_are_of_values_however_stored(tmp_path):
    encoder = make_tinybert()
    halves = {name: value.astype(np.float16) for name, value in encoder._weights.items()}
    half = BertEncoder(encoder.config, halves, encoder.tokenizer)
    full = BertEncoder(
        encoder.config, {n: v.astype(np.float32) for n, v in halves.items()}, encoder.tokenizer.spec
    )
    others = [encoder, encoder.compressed(), encoder.with_compute("int8"), make_tinybert(normalize=False)]
    assert half.fingerprint() == full.fingerprint()
    assert len({half.fingerprint(), *(other.fingerprint() for other in others)}) == 5
    np.testing.assert_allclose(half.encode(TEXTS), full.encode(TEXTS), **CLOSE)


def test_torch_model_is_the_same_model():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    encoder = make_tinybert().compressed()
    before = torch.random.get_rng_state()
    model, tokenizer = encoder.torch_model()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not model.training
    batch = tokenizer(KNOWN, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    mean = (states * mask).sum(1) / mask.sum(1)
    found = torch.nn.functional.normalize(mean, dim=1).numpy()
    np.testing.assert_allclose(found, encoder.encode(KNOWN, on_overflow="ignore"), **CLOSE)


def test_it_can_be_fine_tuned_and_stays_a_bert_encoder():
    torch = pytest.importorskip("torch")
    from sentenc.downstream.trainable_encoder import make_trainable, random_encoder

    encoder, rng = make_tinybert().with_compute("float32", threads=2), np.random.default_rng(0)
    student = make_trainable(encoder, KNOWN, rng=rng)
    with torch.no_grad():
        np.testing.assert_allclose(student(*student.tokenize(TEXTS)).numpy(), encoder.encode(TEXTS), **CLOSE)
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        finished = student.finished()
        assert isinstance(finished, BertEncoder)
        assert (finished.config, finished.threads) == (encoder.config, 2)
        np.testing.assert_allclose(student(*student.tokenize(TEXTS)).numpy(), finished.encode(TEXTS), **CLOSE)
    assert np.abs(finished.encode(KNOWN) - encoder.encode(KNOWN)).max() > 1e-3
    assert isinstance(random_encoder(encoder, rng), BertEncoder)
    with pytest.raises(ValueError, match="linear map after pooling"):
        make_trainable(make_tinybert(linear=True), KNOWN, rng=rng)


def test_as_a_teacher_it_is_what_the_torch_form_is(tmp_path):
    pytest.importorskip("sentence_transformers")
    from sentenc.tokenization.tokenizer import Tokenizer
    from sentenc.training.initialization.cse import average_from_teacher, token_vectors

    encoder = make_tinybert()
    encoder.save(tmp_path / "model")
    slow = sentenc.load(tmp_path / "model", backend="torch")
    tokens = ["dog", "##ing", "notatoken", "guitar", "[UNK]"]
    np.testing.assert_allclose(token_vectors(encoder, tokens), token_vectors(slow, tokens), **CLOSE)
    assert token_vectors(encoder, []).shape == token_vectors(encoder, ["zzz"])[:0].shape == (0, 24)
    tokenizer = Tokenizer(wordpiece_spec())
    np.testing.assert_allclose(
        average_from_teacher(encoder, tokenizer, 6), average_from_teacher(slow, tokenizer, 6), **CLOSE
    )


def test_encode_tokens():
    encoder = make_tinybert()
    ids = [encoder.tokenizer.vocabulary[token] for token in ("dog", "the", "cat")]
    np.testing.assert_allclose(encoder.encode_tokens(ids), encoder.encode(["dog", "the", "cat"]), **CLOSE)
    assert encoder.encode_tokens([]).shape == (0, 24)


def test_encoding_a_folder_needs_no_torch(tmp_path):
    make_tinybert().save(tmp_path / "full")
    make_tinybert().save_compact(tmp_path / "compact")
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
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert result.stdout == "(2, 24)\n(2, 24)\ntrain\nsentence-transformers\n"
    assert result.stderr == ""


def test_bad_options_are_named(tmp_path):
    encoder = make_tinybert()
    config, weights, tokenizer = encoder.config, encoder._weights, encoder.tokenizer
    with pytest.raises(ValueError, match="compute is 'int4', expected 'float32' or 'int8'"):
        BertEncoder(config, weights, tokenizer, compute="int4")
    with pytest.raises(ValueError, match="threads is 0, expected an integer >= 1"):
        BertEncoder(config, weights, tokenizer, threads=0)
    with pytest.raises(ValueError, match="skip_unknown is True, expected False"):
        BertEncoder(config, weights, sentenc.tokenization.tokenizer.Tokenizer(wordpiece_spec()))
    with pytest.raises(CheckpointError, match=r"lacks \[CLS\]"):
        BertEncoder(config, weights, wordpiece_spec().replace("[CLS]", "[cls]"))
    small = BertConfig.from_dict(config.to_dict() | {"vocab_size": 10})
    with pytest.raises(CheckpointError, match=r"ids up to .* vocab_size 10"):
        BertEncoder(small, weights, tokenizer)
    encoder.save_compact(tmp_path / "compact")
    make_cse().save(tmp_path / "cse")
    with pytest.raises(ValueError, match="compute is 'int4', expected"):
        sentenc.load(tmp_path / "compact", compute="int4")
    with pytest.raises(ValueError, match="backend is 'tf', expected 'onnx' or 'torch'"):
        sentenc.load(tmp_path / "compact", backend="tf")
    with pytest.raises(ValueError, match=r"backend='torch' .*compact"):
        sentenc.load(tmp_path / "compact", backend="torch")
    with pytest.raises(ValueError, match=r"compute='int8' .*CSE"):
        sentenc.load(tmp_path / "cse", compute="int8")
    encoder.save(tmp_path / "full")
    with pytest.raises(ValueError, match=r"compute='int8' .*backend='torch'"):
        sentenc.load(tmp_path / "full", compute="int8", backend="torch")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("embeddings.LayerNorm.bias"), r"missing: \['embeddings.LayerNorm.bias'\]"),
        (lambda w: w.update(extra=np.zeros(1, np.float32)), r"unexpected: \['extra'\]"),
        (lambda w: w.update({"embeddings.LayerNorm.bias": np.zeros(3, np.float32)}), r"shape \(3,\), expected \(24,\)"),
        (lambda w: w.update({"embeddings.LayerNorm.bias": np.zeros(24)}), "dtype float64, expected float16 or float32"),
        (lambda w: w.update({"embeddings.LayerNorm.bias": np.zeros(24, np.int8)}), "dtype int8"),
        (lambda w: w["embeddings.LayerNorm.bias"].fill(np.nan), "not finite"),
        (lambda w: w.update(quantized({"encoder.layer.0.output.dense.weight": np.ones((24, 48), np.float32)}))
         or w.pop("encoder.layer.0.output.dense.weight.scale"), r"missing: \['encoder.layer.0.output.dense.weight.scale'\]"),
    ],
)  # fmt: skip
def test_bad_weights_are_named(change, message):
    encoder = make_tinybert()
    weights = {name: value.copy() for name, value in encoder._weights.items()}
    change(weights)
    with pytest.raises(CheckpointError, match=message):
        BertEncoder(encoder.config, weights, encoder.tokenizer)


def test_info_of_a_folder(tmp_path):
    from click.testing import CliRunner

    from sentenc.cli import cli

    encoder = make_tinybert()
    encoder.save(tmp_path / "full")
    encoder.save_compact(tmp_path / "compact")
    parameters = sum(value.size for value in encoder._weights.values())
    for folder in ("full", "compact"):
        result = CliRunner().invoke(cli, ["info", str(tmp_path / folder), "--json"])
        found = json.loads(result.output)
        assert (found["kind"], found["dim"], found["parameters"]) == ("tinybert", 24, parameters)
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(cli, ["info", str(tmp_path / "empty")])
    assert result.exit_code == 1
    assert str(tmp_path / "empty") in result.output


def test_compute_on_the_command_line(tmp_path):
    from click.testing import CliRunner

    from sentenc.cli import cli

    bert = make_tinybert()
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
