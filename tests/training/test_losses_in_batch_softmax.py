"""In-batch softmax worked by hand, and the losses that use it."""

from math import exp, log

import numpy as np
import pytest
import torch

from sentenc.training.losses import (
    AdjacentSentences,
    InBatchSoftmax,
    UnsupervisedSimCSE,
    in_batch_softmax_loss,
)

# Norms do not matter. Cosines of a to c are [[0.6, 0], [0.8, 1]].
A = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
C = torch.tensor([[3.0, 4.0], [0.0, 0.5]])


def nll(right: float, *wrong: float, t: float) -> float:
    return -log(exp(right / t) / sum(exp(x / t) for x in (right, *wrong)))


def test_loss_by_hand():
    t = 0.5
    forward = (nll(0.6, 0.0, t=t) + nll(1.0, 0.8, t=t)) / 2
    assert in_batch_softmax_loss(A, C, t).item() == pytest.approx(forward, rel=1e-5)
    back = (nll(0.6, 0.8, t=t) + nll(1.0, 0.0, t=t)) / 2
    symmetric = in_batch_softmax_loss(A, C, t, symmetric=True).item()
    assert symmetric == pytest.approx((forward + back) / 2, rel=1e-5)


def test_hard_negatives_by_hand():
    # The third columns have cosines (0.8, -0.6) and (-1, 0) to the two anchors.
    hard = torch.tensor([[4.0, -3.0], [-1.0, 0.0]])
    t = 0.5
    expected = (nll(0.6, 0.0, 0.8, -1.0, t=t) + nll(1.0, 0.8, -0.6, 0.0, t=t)) / 2
    assert InBatchSoftmax(temperature=t, hard_negatives=True).loss(
        [A, C, hard], None
    ).item() == pytest.approx(expected, rel=1e-5)
    # In the opposite direction only anchors are candidates.
    back = (nll(0.6, 0.8, t=t) + nll(1.0, 0.0, t=t)) / 2
    both = InBatchSoftmax(temperature=t, hard_negatives=True, symmetric=True).loss([A, C, hard], None).item()
    assert both == pytest.approx((expected + back) / 2, rel=1e-5)


def test_copies_are_no_negatives():
    t = 0.5
    # The positive of pair 3 equals that of pair 1, and its anchor equals the positive of pair 2.
    a = torch.cat([A, torch.tensor([[0.0, 1.0]])])
    c = torch.cat([C, torch.tensor([[0.3, 0.4]])])
    # Row 1 has candidates 1 and 2 (3 is a copy of 1). Rows 2 and 3 have the same anchor. Row 2 has candidates
    # 1, 2 and 3. Row 3 has only its positive: candidate 2 is the anchor itself, and 1 is a copy.
    expected = (nll(0.6, 0.0, t=t) + nll(1.0, 0.8, 0.8, t=t) + 0.0) / 3
    assert in_batch_softmax_loss(a, c, t).item() == pytest.approx(expected, rel=1e-5)
    unmasked = (nll(0.6, 0.0, 0.6, t=t) + nll(1.0, 0.8, 0.8, t=t) + nll(0.8, 0.8, 1.0, t=t)) / 3
    assert in_batch_softmax_loss(a, c, t, mask_identical=False).item() == pytest.approx(unmasked, rel=1e-5)
    criterion = InBatchSoftmax(temperature=t, mask_identical=False)
    assert criterion.loss([a, c], None).item() == pytest.approx(unmasked, rel=1e-5)


def test_copies_are_no_negatives_in_the_opposite_direction():
    t = 0.5
    # Anchors 1 and 2 are equal. Candidate 3 equals that anchor, and candidate 2 equals anchor 3.
    # Cosines of a to c: [[.6,0,1],[.6,0,1],[.8,1,0]].
    a = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    c = torch.tensor([[3.0, 4.0], [0.0, 1.0], [5.0, 0.0]])
    forward = [nll(0.6, 0.0, t=t), nll(0.0, 0.6, t=t), nll(0.0, 0.8, t=t)]
    back = [nll(0.6, 0.8, t=t), 0.0, 0.0]
    loss = in_batch_softmax_loss(a, c, t, symmetric=True).item()
    assert loss == pytest.approx((sum(forward) + sum(back)) / 6, rel=1e-5)


def test_copies_of_large_vectors_are_recognized_despite_rounding():
    generator = torch.Generator().manual_seed(0)
    norms = torch.linspace(0.1, 30, 40)[:, None]
    a, c = (norms * torch.randn(1, 700, generator=generator) for _ in range(2))
    # One pair, forty times: every sum has one summand.
    assert in_batch_softmax_loss(a, c, 0.05).item() == 0
    assert in_batch_softmax_loss(a, c, 0.05, mask_identical=False).item() == pytest.approx(log(40), rel=1e-4)


def test_a_batch_of_one_needs_a_hard_negative():
    one = [A[:1], C[:1]]
    for criterion in (InBatchSoftmax(), UnsupervisedSimCSE(), AdjacentSentences(2)):
        with pytest.raises(ValueError, match=r"batch size of .* is 1, expected at least 2"):
            criterion.loss(one, None)
    triplet = InBatchSoftmax(hard_negatives=True, temperature=0.5)
    assert triplet.columns == 3
    loss = triplet.loss([*one, torch.tensor([[4.0, -3.0]])], None)
    assert loss.item() == pytest.approx(nll(0.6, 0.8, t=0.5), rel=1e-5)


def test_simcse_repeats_every_sentence():
    criterion = UnsupervisedSimCSE(temperature=0.5)
    assert criterion.columns == 1
    prepared = criterion.prepare(
        [[("a",), ("b",)], [("c",)]], lambda texts: torch.zeros(0), np.random.default_rng(0)
    )
    assert prepared == [[("a", "a"), ("b", "b")], [("c", "c")]]
    expected = (nll(0.6, 0.0, t=0.5) + nll(1.0, 0.8, t=0.5)) / 2
    assert criterion.loss([A, C], None).item() == pytest.approx(expected, rel=1e-5)


def test_adjacent_sentences_are_symmetric_and_their_maps_are_initialized_as_the_identity():
    expected = in_batch_softmax_loss(A, C, 0.5, symmetric=True).item()
    plain, mapped = AdjacentSentences(2, temperature=0.5), AdjacentSentences(2, temperature=0.5, maps=True)
    assert plain.loss([A, C], None).item() == pytest.approx(expected)
    assert mapped.loss([A, C], None).item() == pytest.approx(expected)
    assert (len(list(plain.parameters())), len(list(mapped.parameters()))) == (0, 2)
    # The first map is for current sentences, the second for next ones.
    with torch.no_grad():
        mapped.maps[0].copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        mapped.maps[1].copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
    moved = in_batch_softmax_loss(A.flip(1), C * torch.tensor([1.0, -1.0]), 0.5, symmetric=True)
    assert mapped.loss([A, C], None).item() == pytest.approx(moved.item())
    assert mapped.output_map() is None


def test_adjacent_sentences_truncate_their_maps_with_the_vectors():
    mapped = AdjacentSentences(3, temperature=0.5, maps=True)
    with torch.no_grad():
        mapped.maps[0].copy_(torch.arange(9.0).reshape(3, 3))
    padded = [torch.nn.functional.pad(v, (0, 1)) for v in (A, C)]
    assert mapped.loss([A, C], None).item() == pytest.approx(mapped.loss(padded, None).item())


def test_learning_separates_a_batch():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(8, 4, generator=generator).requires_grad_()
    c = torch.randn(8, 4, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([a, c], 0.1)
    for _ in range(100):
        optimizer.zero_grad()
        in_batch_softmax_loss(a, c, 0.05).backward()
        optimizer.step()
    cosines = torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(c).T
    assert cosines.argmax(1).tolist() == list(range(8))
