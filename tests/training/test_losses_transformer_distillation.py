"""The losses of transformer distillation worked by hand, and their sum."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from sentenc.nn.bert_states import bert_states  # noqa: E402 (needs the extra)
from sentenc.training.losses import TransformerDistillation, make_loss  # noqa: E402
from sentenc.training.losses.transformer_distillation import (  # noqa: E402
    attention_loss,
    hidden_state_loss,
    layer_map,
    token_map,
)


def bert(seed=0, **shape):
    values = {
        "vocab_size": 40,
        "hidden_size": 12,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "max_position_embeddings": 16,
    } | shape
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return transformers.BertModel(transformers.BertConfig(**values), add_pooling_layer=False).eval()


def inputs(*lengths, width=None, seed=0):
    rng = np.random.default_rng(seed)
    width = width or max(lengths)
    ids = torch.zeros(len(lengths), width, dtype=torch.int64)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = torch.from_numpy(rng.integers(1, 40, length))
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    return {"input_ids": ids, "attention_mask": mask.long()}, mask


def value(loss):
    return float(loss.detach())


def test_attention_loss_by_hand():
    # Two heads, two tokens and one of padding: squares 1 and 4 at (0, 0), 9 at (1, 0) of the first head.
    student, teacher = torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    student[0, 0, 0, 0], student[0, 1, 0, 0], student[0, 0, 1, 0] = 1, 2, 3
    student[0, 0, 2, 0] = student[0, 0, 0, 2] = 100
    mask = torch.tensor([[True, True, False]])
    assert float(attention_loss(student, teacher, mask)) == pytest.approx((1 + 4 + 9) / (2 * 4))


def test_hidden_state_loss_by_hand():
    student, teacher = torch.zeros(2, 2, 2), torch.zeros(2, 2, 2)
    student[0, 0] = torch.tensor([3.0, 4.0])
    student[0, 1] = 100.0
    student[1] = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    mask = torch.tensor([[True, False], [True, True]])
    # The first text has 25 / (2 * 1), the second 4 / (2 * 2).
    assert float(hidden_state_loss(student, teacher, mask)) == pytest.approx((12.5 + 1.0) / 2)


@pytest.mark.parametrize(
    ("layers", "teacher", "kind", "expected"),
    [
        (4, 12, "uniform", (3, 6, 9, 12)),
        (6, 12, "uniform", (2, 4, 6, 8, 10, 12)),
        (4, 6, "uniform", (2, 3, 5, 6)),
        (4, 12, "top", (9, 10, 11, 12)),
        (4, 12, "bottom", (1, 2, 3, 4)),
        (2, 6, [1, 6], (1, 6)),
        (3, 2, [1, 1, 2], (1, 1, 2)),
    ],
)
def test_layer_maps(layers, teacher, kind, expected):
    assert layer_map(layers, teacher, kind) == expected


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("middle", "'uniform', 'top', 'bottom'"),
        ([1, 2], r"\[1, 2\], expected 4 numbers from 1 to 6"),
        ([1, 2, 3, 7], "from 1 to 6"),
    ],
)
def test_other_layer_maps_are_refused(kind, message):
    with pytest.raises(ValueError, match=message):
        layer_map(4, 6, kind)
    with pytest.raises(ValueError, match="the student has 8 layers and the teacher 6"):
        layer_map(8, 6, "uniform")


def test_scores_are_those_before_the_softmax():
    model = bert()
    batch, mask = inputs(5, 5)
    states = bert_states(model, batch, mask)
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    output = eager(**batch, output_attentions=True, output_hidden_states=True)
    for scores, weights in zip(states.scores, output.attentions, strict=True):
        torch.testing.assert_close(scores.softmax(-1), weights, rtol=0, atol=1e-5)
    torch.testing.assert_close(states.hidden[-1], output.last_hidden_state, rtol=0, atol=1e-5)
    torch.testing.assert_close(states.embeddings, output.hidden_states[0])
    assert not any(layer.attention.self.query._forward_hooks for layer in model.encoder.layer)


def test_a_copy_of_the_teacher_has_no_loss():
    model = bert()
    criterion = TransformerDistillation(model, copy.deepcopy(model))
    loss = criterion(bert_states(model, *inputs(3, 6)))
    assert value(loss) < 1e-10
    assert set(criterion.parts) == {"attention", "hidden", "embeddings"}


@pytest.mark.parametrize("shape", [{}, {"hidden_size": 6, "num_hidden_layers": 2}])
def test_the_loss_does_not_depend_on_padding_and_other_texts(shape):
    student, teacher = bert(1, **shape), bert(2)
    criterion = TransformerDistillation(student, teacher, generator=torch.Generator().manual_seed(0))
    batch, mask = inputs(3, 6, width=6)
    alone = [
        value(
            criterion(
                bert_states(student, {k: v[i : i + 1, :n] for k, v in batch.items()}, mask[i : i + 1, :n])
            )
        )
        for i, n in enumerate((3, 6))
    ]
    together = value(criterion(bert_states(student, batch, mask)))
    assert together == pytest.approx(np.mean(alone), rel=1e-4)
    wide, wide_mask = inputs(3, 6, width=11)
    assert value(criterion(bert_states(student, wide, wide_mask))) == pytest.approx(together, rel=1e-4)


def test_only_the_student_and_the_projections_learn():
    student, teacher = bert(1, hidden_size=6), bert(2)
    teacher.train()
    criterion = TransformerDistillation(student, teacher)
    assert not teacher.training
    criterion(bert_states(student, *inputs(4, 6))).backward()
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(p.grad is not None for p in criterion.projections.parameters())
    assert len(criterion.projections) == 5
    assert student.encoder.layer[0].attention.self.query.weight.grad is not None
    assert not any(name.startswith("_teacher") or "encoder" in name for name in criterion.state_dict())
    teacher.train()
    with pytest.raises(ValueError, match="training mode"):
        criterion(bert_states(student, *inputs(4, 6)))


def test_weights_and_parts():
    student, teacher = bert(1), bert(2)
    batch = inputs(4, 6)
    losses = {}
    for name in ("attention", "hidden", "embeddings"):
        off = dict.fromkeys(("attention", "hidden", "embeddings"), 0.0)
        criterion = TransformerDistillation(student, teacher, **(off | {name: 2.0}))
        losses[name] = value(criterion(bert_states(student, *batch))) / 2
        assert criterion.parts == {name: pytest.approx(losses[name])}
    criterion = TransformerDistillation(student, teacher)
    assert value(criterion(bert_states(student, *batch))) == pytest.approx(sum(losses.values()), rel=1e-5)
    with pytest.raises(ValueError, match=r"attention.* are all 0"):
        TransformerDistillation(student, teacher, attention=0, hidden=0, embeddings=0)


def test_differing_heads_are_refused_or_left_out():
    student, teacher = bert(1, num_attention_heads=2), bert(2)
    with pytest.raises(ValueError, match="2 attention heads, expected 3"):
        TransformerDistillation(student, teacher)
    TransformerDistillation(student, teacher, attention=0.0)


def test_other_models_than_berts_are_refused():
    with pytest.raises(TypeError, match=r"Linear has no encoder\.layer"):
        TransformerDistillation(bert(), torch.nn.Linear(2, 2))


def test_the_teacher_reads_the_students_tokens():
    teacher = bert(2)
    student = bert(2, vocab_size=10)
    rows = torch.tensor([0, 3, 39, 7, 8, 20, 21, 22, 1, 5])
    student.embeddings.word_embeddings.weight.data = teacher.embeddings.word_embeddings.weight.data[
        rows
    ].clone()
    student.encoder.load_state_dict(teacher.encoder.state_dict())
    student.embeddings.LayerNorm.load_state_dict(teacher.embeddings.LayerNorm.state_dict())
    for name in ("position_embeddings", "token_type_embeddings"):
        getattr(student.embeddings, name).load_state_dict(getattr(teacher.embeddings, name).state_dict())
    batch, mask = inputs(4, 6)
    batch["input_ids"] %= 10
    criterion = TransformerDistillation(student, teacher, tokens=rows)
    assert value(criterion(bert_states(student, batch, mask))) < 1e-10
    with pytest.raises(ValueError, match="student has 40 tokens and the teacher 10"):
        TransformerDistillation(teacher, student)


class Vocabulary:
    def __init__(self, **tokens):
        self.tokens = tokens

    def get_vocab(self):
        return self.tokens


def test_token_map():
    teacher = Vocabulary(a=0, b=1, c=2)
    assert token_map(Vocabulary(a=0, b=1, c=2), teacher) is None
    assert token_map(Vocabulary(c=0, a=1), teacher).tolist() == [2, 0]
    with pytest.raises(ValueError, match=r"lacks 1 of .* 2 tokens, first 'd'"):
        token_map(Vocabulary(d=0, a=1), teacher)


def test_sentence_part():
    from sentenc.nn.bert import BertSentenceModule

    teacher, student = bert(2), bert(2)
    module = BertSentenceModule(student, normalize=True)
    batch, mask = inputs(4, 6)
    criterion = TransformerDistillation(student, teacher, attention=0, hidden=0, embeddings=0, sentence=1.0)
    states = module.states(batch["input_ids"], mask.sum(1))
    torch.testing.assert_close(states.vectors, module(batch["input_ids"], mask.sum(1)))
    assert value(criterion(states)) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="no sentence vectors"):
        criterion(bert_states(student, batch, mask))


def test_by_name():
    criterion = make_loss(
        "transformer_distillation", {"layer_map": "top"}, dim=12, student=bert(1), teacher=bert(2)
    )
    assert criterion.map == (1, 2, 3, 4)
    with pytest.raises(ValueError, match="transformer_distillation needs a student and a teacher"):
        make_loss("transformer_distillation", {}, dim=12)
    with pytest.raises(ValueError, match="transformer_distillation has no option matryoshka"):
        make_loss("transformer_distillation", {"matryoshka": [4]}, dim=12, student=bert(1), teacher=bert(2))
