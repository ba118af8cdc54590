"""The interface of transformer encoders: the same model in three forms has the same tokens and vectors."""

import numpy as np
import pytest

import sentenc
from sentenc.encoders.transformer import TransformerEncoder, single_token_batch
from tests.support.models import make_bert

pytest.importorskip("sentence_transformers")

from sentenc.training.students.bert import BertStudent, TorchBertEncoder

WORDS = ["dog", "cat", "guitar"]


@pytest.fixture(scope="module", params=["mean", "cls"])
def encoders(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("transformer") / "model"
    encoder = make_bert(pooling=request.param)
    encoder.save(folder)
    model, tokenizer = encoder.torch_model()
    student = BertStudent(
        model,
        tokenizer,
        max_tokens=encoder.max_tokens,
        normalize=encoder.config.normalize,
        pooling=encoder.config.pooling,
    )
    return [encoder, sentenc.load(folder, backend="torch"), student.encoder()]


def test_tokens_and_their_embeddings_agree(encoders):
    first = encoders[0]
    for encoder in encoders:
        assert isinstance(encoder, TransformerEncoder)
        assert encoder.vocabulary == first.vocabulary
        assert encoder.normalize == first.normalize
        np.testing.assert_allclose(encoder.token_embeddings(), first.token_embeddings(), atol=1e-6)


def test_single_tokens_are_encoded_as_words_of_one_token(encoders):
    for encoder in encoders:
        vectors = encoder.encode_tokens([encoder.vocabulary[word] for word in WORDS])
        np.testing.assert_allclose(vectors, encoder.encode(WORDS), atol=1e-5)
        assert encoder.encode_tokens([]).shape == (0, encoder.dim)


def test_vectors_agree(encoders, tmp_path):
    texts = ["a man is playing the guitar", "dog", "", "the stock market fell " * 20]
    expected = encoders[0].encode(texts, on_overflow="ignore")
    for number, encoder in enumerate(encoders):
        np.testing.assert_allclose(encoder.encode(texts, on_overflow="ignore"), expected, atol=1e-5)
        encoder.save(tmp_path / str(number))
        loaded = sentenc.load(tmp_path / str(number))
        assert loaded.pooling() == encoder.pooling()
        np.testing.assert_allclose(loaded.encode(texts, on_overflow="ignore"), expected, atol=1e-5)


def test_torch_models_agree(encoders):
    reference = encoders[0].torch_model()[0].state_dict()
    for encoder in encoders:
        model, tokenizer = encoder.torch_model()
        assert tokenizer.get_vocab() == encoders[0].vocabulary
        for name, value in reference.items():
            np.testing.assert_array_equal(model.state_dict()[name].numpy(), value.numpy())


def test_pooling_is_stated(encoders):
    for encoder in encoders:
        assert encoder.pooling() == encoders[0].config.pooling
    with pytest.raises(ValueError, match="linear map"):
        make_bert(linear=True).pooling()
    last = encoders[-1]
    mapped = TorchBertEncoder(last.module, last.tokenizer, last.max_tokens, np.eye(last.dim))
    with pytest.raises(ValueError, match="linear map"):
        mapped.pooling()


def test_a_model_without_a_transformer_is_refused(encoders, monkeypatch):
    encoder = encoders[1]
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "model", [object(), *list(encoder.model)[1:]])
        with pytest.raises(ValueError, match="model begins with object, expected a transformer"):
            encoder.token_embeddings()
        with pytest.raises(ValueError, match="modules object, Pooling"):
            encoder.pooling()


def test_a_tokenizer_without_special_tokens_adds_none():
    class Plain:
        cls_token_id, sep_token_id = None, 7

    assert single_token_batch(Plain(), [3, 4]).tolist() == [[3, 7], [4, 7]]
