"""BERT classifiers: ids and logits compared with transformers, pairs, cuts, and the model folder."""

import json

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers")

from sentenc.errors import CheckpointError  # noqa: E402
from sentenc.training.students.bert_classifier import BertClassifierStudent, cut_lengths  # noqa: E402
from tests.support.task import make_model, make_tokenizer  # noqa: E402 (needs the extra)

PAIRS = [
    "the dog runs\ta cat plays in the park",
    "stock market\tfell",
    "new york\t",
    "dogs\t" + "market " * 30,
]
TEXTS = ["the dog runs", "stock market fell on a new day!", "cat", "park " * 30]


def make_student(**options):
    return BertClassifierStudent(make_model(num_labels=3), make_tokenizer(), **({"max_tokens": 16} | options))


def reference_logits(student, texts):
    """Computes the logits with transformers, one text at a time."""
    logits = []
    for text in texts:
        parts = text.split("\t")
        inputs = student.tokenizer(
            *parts, truncation=True, max_length=student.max_tokens, return_tensors="pt"
        )
        with torch.inference_mode():
            logits.append(student.module(**inputs).logits[0].numpy())
    return np.stack(logits)


@pytest.mark.parametrize(("pairs", "texts"), [(False, TEXTS), (True, PAIRS[:2] + PAIRS[3:])])
def test_ids_and_logits_are_those_of_transformers(pairs, texts):
    student = make_student(pairs=pairs).eval()
    ids, lengths = student.tokenize(texts)
    for text, row, length in zip(texts, ids.tolist(), lengths.tolist(), strict=True):
        expected = student.tokenizer(*text.split("\t"), truncation=True, max_length=16)
        assert row[:length] == expected["input_ids"]
        assert not any(row[length:])
    with torch.inference_mode():
        logits = student(ids, lengths).numpy()
    np.testing.assert_allclose(logits, reference_logits(student, texts), atol=1e-5)
    np.testing.assert_allclose(student.logits(texts), logits, atol=1e-5)
    assert student.dim == 3


def test_token_types_of_pairs_are_derived_from_the_ids():
    student = make_student(pairs=True).eval()
    inputs = student.inputs(*student.tokenize(PAIRS[:2]))
    with torch.inference_mode():
        derived = student.bert(**inputs).last_hidden_state
        types = torch.tensor([[0] * 5 + [1] * 7, [0] * 4 + [1] * 2 + [0] * 6])
        assert types.shape == inputs["input_ids"].shape
        explicit = student.bert(**inputs, token_type_ids=types).last_hidden_state
        alone = student.bert(**inputs, token_type_ids=torch.zeros_like(types)).last_hidden_state
    torch.testing.assert_close(derived, explicit)
    assert not torch.allclose(derived, alone)


def test_states_are_those_of_both_texts():
    student = make_student(pairs=True).eval()
    ids, lengths = student.tokenize(PAIRS[:2])
    with torch.inference_mode():
        bert_states = student.states(ids, lengths)
        last = student.bert(**student.inputs(ids, lengths)).last_hidden_state
    torch.testing.assert_close(bert_states.hidden[-1], last)
    assert bert_states.mask.sum(1).tolist() == lengths.tolist()
    assert len(bert_states.hidden) == len(bert_states.scores) == 3


def test_text_without_a_tab_has_an_empty_second_part():
    student = make_student(pairs=True)
    assert student.tokenize(["dog"])[0].tolist() == student.tokenize(["dog\t"])[0].tolist()
    assert student.tokenize([""])[1].tolist() == [3]


def test_the_longer_text_of_a_pair_is_cut_first():
    assert cut_lengths([9, 4], 10) == [6, 4]
    assert cut_lengths([4, 9], 10) == [4, 6]
    assert cut_lengths([9, 8], 10) == [5, 5]
    assert cut_lengths([3, 3], 10) == [3, 3]
    assert cut_lengths([30], 10) == [10]
    for first in range(12):
        for second in range(12):
            for most in (1, 6, 7):
                kept = cut_lengths([first, second], most)
                assert sum(kept) == min(most, first + second)
                assert kept[0] <= first
                assert kept[1] <= second


def test_logits_do_not_depend_on_the_batch_or_on_dropout():
    student = make_student(pairs=True).train()
    assert student.count_tokens(PAIRS).tolist()[:3] == [11 + 1, 6, 5]
    assert student.count_tokens(PAIRS)[3] > student.max_tokens == 16
    many = student.logits(PAIRS)
    assert student.training
    single = np.concatenate([student.logits([text]) for text in PAIRS])
    np.testing.assert_allclose(many, single, atol=1e-5)
    np.testing.assert_allclose(student.logits(PAIRS, batch_size=2), many, atol=1e-5)
    assert student.logits([]).shape == (0, 3)
    fingerprint = student.fingerprint()
    with torch.no_grad():
        next(student.parameters()).add_(1.0)
    assert student.fingerprint() != fingerprint


def test_transformers_reads_the_model_folder(tmp_path):
    student = make_student()
    folder = tmp_path / "model"
    student.save(folder, metadata={"x": 1}, card="# card", files={"run.toml": "a = 1"})
    assert json.loads((folder / "task.json").read_text()) == {"pairs": False, "max_tokens": 16, "x": 1}
    assert (folder / "README.md").read_text() == "# card"
    assert (folder / "run.toml").read_text() == "a = 1"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(TEXTS[:3], padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**inputs).logits.numpy()
    np.testing.assert_allclose(logits, student.logits(TEXTS[:3]), atol=1e-5)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("x")
    with pytest.raises(CheckpointError, match="other"):
        student.save(other)
    assert (other / "mine.txt").exists()


def test_groups_hold_every_parameter_once():
    student = make_student()
    grouped = [id(parameter) for group in student.groups().values() for parameter in group]
    assert sorted(grouped) == sorted(id(parameter) for parameter in student.parameters())


def test_refusals():
    with pytest.raises(TypeError, match="BertModel, expected BertForSequenceClassification"):
        BertClassifierStudent(make_model(transformers.BertModel), make_tokenizer())
    for tokens in (4, 41):
        with pytest.raises(ValueError, match=f"max_tokens is {tokens}, expected 5 to 40"):
            make_student(max_tokens=tokens)
    with pytest.raises(ValueError, match=r"expected at most .*10"):
        BertClassifierStudent(make_model(vocab_size=10), make_tokenizer(), max_tokens=16)
    tokenizer = make_tokenizer()
    tokenizer.sep_token = None
    with pytest.raises(ValueError, match=r"tokenizer .*\[SEP\]"):
        BertClassifierStudent(make_model(), tokenizer, max_tokens=16)
