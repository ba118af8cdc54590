"""L2-SP regularization, worked by hand."""

import pytest
import torch
from torch import nn

from sentenc.training.losses import L2SP


def groups() -> dict[str, list[nn.Parameter]]:
    return {
        "embeddings": [
            nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]])),
            nn.Parameter(torch.tensor([5.0])),
        ],
        "ngrams": [nn.Parameter(torch.tensor([2.0, -1.0]))],
    }


def test_regularization_by_hand():
    parameters = groups()
    term = L2SP(parameters, {"embeddings": 0.1, "ngrams": 0.4})
    # No parameter has moved: 0.5 * 0.4 * (4 + 1).
    assert term.penalty().item() == pytest.approx(1.0)
    with torch.no_grad():
        parameters["embeddings"][0][1, 0] += 2
        parameters["embeddings"][1] -= 1
    # 0.5 * 0.1 * (4 + 1) more.
    term.penalty().backward()
    assert term.penalty().item() == pytest.approx(1.25)
    assert parameters["embeddings"][0].grad.tolist() == [[0, 0], [pytest.approx(0.2), 0]]
    assert parameters["embeddings"][1].grad.tolist() == [pytest.approx(-0.1)]
    assert parameters["ngrams"][0].grad.tolist() == [pytest.approx(0.8), pytest.approx(-0.4)]


def test_for_fine_tuning_all_parameters_are_drawn_to_their_initial_values():
    parameters = groups()
    term = L2SP(parameters, {"ngrams": 0.4}, to_zero=())
    assert term.penalty().item() == 0
    with torch.no_grad():
        parameters["ngrams"][0][0] += 3
    assert term.penalty().item() == pytest.approx(0.5 * 0.4 * 9)


def test_no_strengths_no_penalty_and_unknown_groups_are_refused():
    assert not L2SP(groups(), {"embeddings": 0.0})
    assert L2SP(groups(), {}).penalty().item() == 0
    assert L2SP(groups(), {"ngrams": 1e-6})
    with pytest.raises(ValueError, match=r"filters.*embeddings, ngrams"):
        L2SP(groups(), {"filters": 1.0})
    with pytest.raises(ValueError, match=r"ngrams is -1\.0, expected"):
        L2SP(groups(), {"ngrams": -1.0})


def test_a_resumed_run_keeps_the_initial_values():
    parameters = groups()
    first = L2SP(parameters, {"embeddings": 2.0})
    # Only the initial values are stored; the parameters belong to the student.
    assert not list(first.parameters())
    with torch.no_grad():
        parameters["embeddings"][1] += 1
    second = L2SP(parameters, {"embeddings": 2.0})
    assert second.penalty().item() == 0
    second.load_state_dict(first.state_dict())
    assert second.penalty().item() == pytest.approx(1.0)
