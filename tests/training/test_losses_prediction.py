"""The loss of a task's output, worked by hand."""

import math

import pytest
import torch

from sentenc.training.losses.prediction import Prediction, soft_cross_entropy

LN2, LN3 = math.log(2), math.log(3)


def test_soft_cross_entropy_by_hand():
    # Softmax: teacher (3/4, 1/4), (1/2, 1/2); student (1/2, 1/2), (1/2, 1/2).
    teacher = torch.tensor([[LN3, 0.0], [5.0, 5.0]])
    student = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    first = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert soft_cross_entropy(student, teacher).item() == pytest.approx(first / 2)
    # At t = 2 logits of twice the size give the same distributions, and the loss is four times as large.
    assert soft_cross_entropy(2 * student, 2 * teacher, 2.0).item() == pytest.approx(4 * first / 2)
    assert soft_cross_entropy(teacher, teacher).item() == pytest.approx(0, abs=1e-7)


def test_gradient_is_the_difference_of_the_distributions():
    teacher = torch.tensor([[LN3, 0.0]])
    for t in (1.0, 4.0):
        student = torch.zeros(1, 2, requires_grad=True)
        soft_cross_entropy(student, t * teacher, t).backward()
        torch.testing.assert_close(student.grad, t * torch.tensor([[-0.25, 0.25]]))


def test_gold_is_cross_entropy():
    logits = torch.tensor([[LN3, 0.0], [LN3, 0.0], [0.0, 0.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    loss = Prediction("classification", gold=True)([logits], targets)
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(4) + LN2) / 3)


@pytest.mark.parametrize("gold", [False, True])
def test_regression_is_squared_error(gold):
    loss = Prediction("regression", gold=gold)([torch.tensor([[1.0], [4.0]])], torch.tensor([[3.0], [3.0]]))
    assert loss.item() == pytest.approx((4 + 1) / 2)


def test_the_temperature_is_used():
    student, teacher = torch.randn(4, 3), torch.randn(4, 3)
    loss = Prediction("classification", temperature=2.0)([student], teacher)
    torch.testing.assert_close(loss, soft_cross_entropy(student, teacher, 2.0))
    assert Prediction("classification").needs_targets


def test_refusals():
    with pytest.raises(ValueError, match="kind is 'ranking'"):
        Prediction("ranking")
    with pytest.raises(ValueError, match=r"temperature is 2\.0 for regression"):
        Prediction("regression", temperature=2.0)
    with pytest.raises(ValueError, match="gold labels"):
        Prediction("classification", gold=True, temperature=2.0)
    criterion = Prediction("classification")
    with pytest.raises(ValueError, match=r"targets .* None, expected \(2, 3\)"):
        criterion([torch.zeros(2, 3)], None)
    with pytest.raises(ValueError, match=r"targets .*\(2, 1\)"):
        criterion([torch.zeros(2, 3)], torch.zeros(2, 1))
    with pytest.raises(ValueError, match="expected 1 equal"):
        criterion([torch.zeros(2, 3)] * 2, torch.zeros(2, 3))
