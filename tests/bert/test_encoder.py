"""BERT encoders beyond the contract: tokens, batches, sessions, and the conversion to torch."""

import pickle

import numpy as np
import pytest

import sentenc
from sentenc import BertEncoder, CheckpointError, TruncationWarning
from sentenc.encoders.bert.config import BertConfig
from sentenc.encoders.bert.onnx_runtime import import_onnxruntime
from sentenc.encoders.bert.quantization import quantized
from tests.support.bert import CLOSE, KNOWN, TEXTS, cosines
from tests.support.models import dense_weights, make_bert, make_cse, wordpiece_spec


class Sessions:
    """Records the sessions of ONNX Runtime that are opened, and the inputs of their runs."""

    def __init__(self, original):
        self.original, self.opened, self.inputs = original, 0, []

    def __call__(self, *arguments, **options):
        session, inputs = self.original(*arguments, **options), self.inputs
        self.opened += 1

        class Recorded:
            def run(self, names, values):
                inputs.append(values)
                return session.run(names, values)

        return Recorded()


@pytest.fixture
def sessions(monkeypatch):
    runtime = import_onnxruntime()
    recorder = Sessions(runtime.InferenceSession)
    monkeypatch.setattr(runtime, "InferenceSession", recorder)
    return recorder


@pytest.mark.parametrize("lowercase", [True, False])
def test_ids_are_those_of_the_tokenizers_library(tmp_path, lowercase, sessions):
    from tokenizers import Tokenizer

    encoder = make_bert(spec=wordpiece_spec(lowercase))
    encoder.save(tmp_path / "model")
    reference = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    for text in KNOWN:
        encoder.encode(text, on_overflow="ignore")
        expected = reference.encode(text).ids
        assert sessions.inputs[-1]["input_ids"].tolist() == [expected]
        assert sessions.inputs[-1]["attention_mask"].tolist() == [[1] * len(expected)]
        assert encoder.count_tokens(text).tolist() == [len(expected)]


def test_long_texts_are_cut_before_the_last_special_token(sessions):
    encoder = make_bert(max_tokens=8)
    with pytest.warns(TruncationWarning, match=r"max_tokens=8 \(the longest has 42\)"):
        encoder.encode("dog cat " * 20)
    ids = sessions.inputs[-1]["input_ids"][0].tolist()
    vocabulary = encoder.tokenizer.vocabulary
    assert ids == [vocabulary[token] for token in ("[CLS]", *["dog", "cat"] * 3, "[SEP]")]
    # What is left of this has no known token.
    assert not encoder.encode("☃ " * 6 + "dog", on_overflow="ignore").any()
    assert encoder.encode("☃ " * 5 + "dog", on_overflow="ignore").any()


def test_batches_have_similar_lengths_and_a_bounded_size(sessions):
    encoder = make_bert()
    texts = ["dog " * (1 + i % 40) for i in range(200)]
    vectors = encoder.encode(texts, batch_size=16)
    shapes = [inputs["input_ids"].shape for inputs in sessions.inputs]
    assert sum(rows for rows, _ in shapes) == len(texts)
    assert max(rows * length for rows, length in shapes) <= 16 * 8
    padding = 1 - np.concatenate([inputs["attention_mask"].ravel() for inputs in sessions.inputs]).mean()
    assert padding < 0.1
    np.testing.assert_allclose(vectors[7], encoder.encode(texts[7]), **CLOSE)


@pytest.mark.parametrize("compute", ["float32", "int8"])
def test_vectors_do_not_depend_on_threads(compute):
    texts = [TEXTS[i % len(TEXTS)] + " cat" * (i % 11) for i in range(300)]
    encoder = make_bert(compute)
    expected = encoder.with_compute(compute, threads=1).encode(texts, batch_size=4)
    for threads in (2, 5):
        many = encoder.with_compute(compute, threads=threads)
        np.testing.assert_array_equal(many.encode(texts, batch_size=4), expected)


def test_an_error_in_a_thread_is_raised(monkeypatch):
    class Broken:
        def run(self, *_):
            raise RuntimeError("no memory")

    monkeypatch.setattr(import_onnxruntime(), "InferenceSession", lambda *_, **__: Broken())
    encoder = make_bert().with_compute("float32", threads=3)
    with pytest.raises(RuntimeError, match="no memory"):
        encoder.encode(["dog cat"] * 100, batch_size=1)


def test_the_session_is_opened_on_first_use_and_not_pickled(sessions):
    encoder = make_bert()
    size = len(pickle.dumps(encoder))
    assert sessions.opened == 0
    expected = encoder.encode(TEXTS)
    np.testing.assert_array_equal(encoder.encode(TEXTS), expected)
    assert sessions.opened == 1
    assert len(pickle.dumps(encoder)) == size
    twin = pickle.loads(pickle.dumps(encoder.compressed()))
    assert sessions.opened == 1
    assert cosines(twin.encode(KNOWN), encoder.encode(KNOWN)).min() > 0.98
    assert sessions.opened == 2


def test_fingerprints_are_of_values_however_stored(tmp_path):
    encoder = make_bert()
    halves = {name: value.astype(np.float16) for name, value in dense_weights(encoder).items()}
    half = BertEncoder(encoder.config, halves, encoder.tokenizer)
    full = BertEncoder(
        encoder.config, {n: v.astype(np.float32) for n, v in halves.items()}, encoder.tokenizer.spec
    )
    others = [encoder, encoder.compressed(), encoder.with_compute("int8"), make_bert(normalize=False)]
    assert half.fingerprint() == full.fingerprint()
    assert len({half.fingerprint(), *(other.fingerprint() for other in others)}) == 5
    np.testing.assert_allclose(half.encode(TEXTS), full.encode(TEXTS), **CLOSE)


def test_torch_model_is_the_same_model():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    encoder = make_bert().compressed()
    before = torch.random.get_rng_state()
    model, tokenizer = encoder.torch_model()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not model.training
    batch = tokenizer(KNOWN, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    mean = (states * mask).sum(1) / mask.sum(1)
    vectors = torch.nn.functional.normalize(mean, dim=1).numpy()
    np.testing.assert_allclose(vectors, encoder.encode(KNOWN, on_overflow="ignore"), **CLOSE)


def test_fine_tuning_returns_a_bert_encoder():
    torch = pytest.importorskip("torch")
    from sentenc.downstream.trainable_encoder import make_trainable, random_encoder

    encoder, rng = make_bert().with_compute("float32", threads=2), np.random.default_rng(0)
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
        make_trainable(make_bert(linear=True), KNOWN, rng=rng)


def test_token_vectors_equal_those_of_the_torch_model(tmp_path):
    pytest.importorskip("sentence_transformers")
    from sentenc.tokenization.tokenizer import Tokenizer
    from sentenc.training.initialization.cse import average_from_teacher, token_vectors

    encoder = make_bert()
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
    encoder = make_bert()
    ids = [encoder.tokenizer.vocabulary[token] for token in ("dog", "the", "cat")]
    np.testing.assert_allclose(encoder.encode_tokens(ids), encoder.encode(["dog", "the", "cat"]), **CLOSE)
    assert encoder.encode_tokens([]).shape == (0, 24)


def test_bad_options_are_named(tmp_path):
    encoder = make_bert()
    config, weights, tokenizer = encoder.config, dense_weights(encoder), encoder.tokenizer
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
        (
            lambda w: w.update({"embeddings.LayerNorm.bias": np.zeros(3, np.float32)}),
            r"shape \(3,\), expected \(24,\)",
        ),
        (
            lambda w: w.update({"embeddings.LayerNorm.bias": np.zeros(24)}),
            "dtype float64, expected float16 or float32",
        ),
        (lambda w: w.update({"embeddings.LayerNorm.bias": np.zeros(24, np.int8)}), "dtype int8"),
        (lambda w: w["embeddings.LayerNorm.bias"].fill(np.nan), "not finite"),
        (
            lambda w: (
                w.update(quantized({"encoder.layer.0.output.dense.weight": np.ones((24, 48), np.float32)}))
                or w.pop("encoder.layer.0.output.dense.weight.scale")
            ),
            r"missing: \['encoder.layer.0.output.dense.weight.scale'\]",
        ),
    ],
)
def test_bad_weights_are_named(change, message):
    encoder = make_bert()
    weights = dense_weights(encoder)
    change(weights)
    with pytest.raises(CheckpointError, match=message):
        BertEncoder(encoder.config, weights, encoder.tokenizer)
