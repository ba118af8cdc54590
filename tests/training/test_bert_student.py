"""BERT students: pooling, the encoder made from one, and its model folder."""

import json

import numpy as np
import pytest
import torch

import sentenc
from sentenc.nn.bert import BertSentenceModule
from tests.support.models import wordpiece_spec

transformers = pytest.importorskip("transformers")

from sentenc.training.students.bert import BertStudent  # noqa: E402 (needs the extra)

TEXTS = [
    "the dog runs in the park",
    "a cat",
    "someone plays the guitar!",
    "new york people fell on time",
    "dog",
]


def make_model(**changes):
    config = transformers.BertConfig(
        **{
            "vocab_size": len(json.loads(wordpiece_spec())["model"]["vocab"]),
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 20,
        }
        | changes
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    try:
        model = transformers.BertModel(config)
        # A new BERT gives all texts nearly the same vector.
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return model
    finally:
        torch.random.set_rng_state(state)


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer as Reference

    spec = json.loads(wordpiece_spec())
    spec["added_tokens"] = []
    spec["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Reference.from_str(json.dumps(spec)),
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


@pytest.fixture
def student(tokenizer):
    return BertStudent(make_model(), tokenizer, max_tokens=12)


class Positions(torch.nn.Module):
    """A model whose hidden state at a position is (id, 1 if it is attended to)."""

    config = transformers.BertConfig(hidden_size=2, vocab_size=100)

    def forward(self, input_ids, attention_mask):
        assert attention_mask.any(1).all(), "attention over nothing is not defined"
        states = torch.stack([input_ids, attention_mask], dim=2).float()
        return transformers.modeling_outputs.BaseModelOutput(last_hidden_state=states)


def test_pooling_by_hand():
    ids, lengths = torch.tensor([[4, 6, 99], [9, 99, 99], [1, 2, 3], [7, 7, 7]]), torch.tensor([2, 1, 3, 0])
    pooled = BertSentenceModule(Positions())(ids, lengths)
    assert pooled.tolist() == [[5, 1], [9, 1], [2, 1], [0, 0]]
    unit = BertSentenceModule(Positions(), normalize=True)(ids, lengths)
    torch.testing.assert_close(unit[0], torch.tensor([5.0, 1.0]) / 26**0.5)
    assert unit[3].tolist() == [0, 0]
    assert BertSentenceModule(Positions()).dim == 2
    first = BertSentenceModule(Positions(), pooling="cls")(ids, lengths)
    assert first.tolist() == [[4, 1], [9, 1], [1, 1], [0, 0]]
    with pytest.raises(ValueError, match="pooling is 'max', expected 'mean' or 'cls'"):
        BertSentenceModule(Positions(), pooling="max")


def test_padding_and_neighbors_change_nothing(student):
    student.eval()
    with torch.no_grad():
        together = student(*student.tokenize([*TEXTS, ""]))
        ids, lengths = student.tokenize(TEXTS[1:2])
        padded = student(torch.cat([ids, torch.full((1, 5), 77)], dim=1), lengths)
    torch.testing.assert_close(together[1], padded[0], atol=1e-5, rtol=0)
    assert torch.isfinite(together).all()


def test_tokenize_keeps_special_tokens_when_it_cuts(student):
    ids, lengths = student.tokenize(["dog " * 30, "dog", ""])
    dog = student.tokenizer.convert_tokens_to_ids("dog")
    assert ids.shape == (3, 12)
    assert lengths.tolist() == [12, 3, 2]
    assert ids[0].tolist() == [2, *[dog] * 10, 3]
    assert ids[1].tolist() == [2, dog, 3, *[0] * 9]
    assert student.tokenize([])[0].shape == (0, 1)


def test_groups_and_gradients(student):
    [(name, parameters)] = student.groups().items()
    assert name == "all"
    assert {id(p) for p in parameters} == {id(p) for p in student.parameters()}
    student.set_progress(0.5)
    student(*student.tokenize(TEXTS)).square().sum().backward()
    assert student.module.model.embeddings.word_embeddings.weight.grad.abs().sum() > 0
    assert student.sparse_parameters() == []


def test_encoder_is_a_copy_of_the_student(student):
    student.train()
    encoder = student.encoder()
    assert student.training
    student.eval()
    with torch.no_grad():
        expected = student(*student.tokenize(TEXTS)).numpy()
    np.testing.assert_allclose(encoder.encode(TEXTS, batch_size=2), expected, atol=1e-5)
    fingerprint = encoder.fingerprint()
    assert fingerprint == student.encoder().fingerprint()
    with torch.no_grad():
        student.module.model.embeddings.word_embeddings.weight.mul_(2)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)
    assert fingerprint != student.encoder().fingerprint()
    assert (encoder.encode(["", "☃"]) == 0).all()
    assert encoder.count_tokens(["dog", "dog " * 30]).tolist() == [3, 32]
    with pytest.warns(sentenc.TruncationWarning, match="max_tokens=12"):
        encoder.encode("dog " * 30)


def test_map_keeps_dot_products_and_rotation_too(student):
    output_map = torch.randn(16, 30, generator=torch.Generator().manual_seed(0))
    mapped = student.encoder().encode(TEXTS) @ output_map.numpy()
    for rotate_on in (None, TEXTS):
        rotated = student.encoder(output_map, rotate_on).encode(TEXTS)
        np.testing.assert_allclose(rotated @ rotated.T, mapped @ mapped.T, rtol=1e-3)
    # Five texts need five axes.
    short = student.encoder(rotate_on=TEXTS).encode(TEXTS, truncate_dim=5)
    whole = student.encoder().encode(TEXTS)
    np.testing.assert_allclose(short @ short.T, whole @ whole.T, rtol=1e-3)
    with pytest.raises(ValueError, match=r"shape \(15, 30\), expected \(16, t\)"):
        student.encoder(output_map[:15])


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("mapped", [False, True])
def test_saved_folder_is_read_by_all(tokenizer, tmp_path, normalize, mapped):
    pytest.importorskip("sentence_transformers")
    student = BertStudent(make_model(), tokenizer, max_tokens=12, normalize=normalize)
    output_map = torch.randn(16, 30, generator=torch.Generator().manual_seed(0)) if mapped else None
    folder = tmp_path / "model"
    rotate_on = TEXTS if mapped else None
    student.save(
        folder, output_map=output_map, rotate_on=rotate_on, metadata={"name": "mine"}, card="# Mine\n"
    )
    expected = student.encoder(output_map, rotate_on).encode(TEXTS)
    loaded = sentenc.load(folder)
    np.testing.assert_allclose(loaded.encode(TEXTS), expected, atol=1e-4)
    assert loaded.max_tokens == 12
    plain = transformers.AutoModel.from_pretrained(folder)
    torch.testing.assert_close(plain.state_dict(), student.module.model.state_dict())
    assert (
        transformers.AutoTokenizer.from_pretrained(folder)("dog")["input_ids"]
        == tokenizer("dog")["input_ids"]
    )
    assert json.loads((folder / "metadata.json").read_text()) == {"name": "mine"}
    assert (folder / "README.md").read_text() == "# Mine\n"


def test_refusals(tokenizer):
    with pytest.raises(ValueError, match="max_tokens is 21, expected 3 to 20"):
        BertStudent(make_model(), tokenizer, max_tokens=21)
    with pytest.raises(ValueError, match=r"tokenizer has \d+ ids, expected at most .*50"):
        BertStudent(make_model(vocab_size=50), tokenizer, max_tokens=12)
