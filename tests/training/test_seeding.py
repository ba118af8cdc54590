"""Seeding of PyTorch's global generators."""

import pytest
import torch

from sentenc.nn.seeding import seeded


def test_a_seed_repeats_its_numbers_and_the_callers_state_is_restored():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    draws = []
    for seed in (5, 5, 6):
        with seeded(seed):
            draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(RuntimeError), seeded(5, torch.device("cpu")):
        torch.rand(4, out=torch.empty(4, dtype=torch.int64))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_numbers_are_those_of_manual_seed():
    with seeded(3):
        draws = torch.rand(4)
        torch.manual_seed(3)
        assert torch.equal(torch.rand(4), draws)
