"""Seeds PyTorch's global random generators for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seeds PyTorch's global generators within a ``with`` block, and restores their states after it.

    Dropout and the constructors of ``transformers`` draw from these generators and accept no other.

    Args:
        seed: The seed.
        device: The device that computes within the block. The generators of the CPU and of this device are
            seeded; those of other devices do not change.
    """
    is_cuda = device is not None and device.type == "cuda"
    with torch.random.fork_rng([device] if is_cuda else []):
        torch.default_generator.manual_seed(seed)
        if is_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
