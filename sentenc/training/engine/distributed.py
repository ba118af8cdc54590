"""Several processes that train one model: torchrun starts them, each takes its share of every batch."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

# The others wait while the first process fills a teacher's cache.
_PATIENCE = timedelta(days=2)


class Processes:
    """This process among those of a run.

    Args:
        rank: Number of this process.
        count: Processes of the run.
        device: Where this process computes.
    """

    def __init__(self, rank: int, count: int, device: torch.device) -> None:
        self.rank, self.count, self.device = rank, count, device

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and evaluates."""
        return self.rank == 0

    def shard(self, size: int) -> slice:
        """The part of a global batch that is this process's.

        Raises:
            ValueError: It cannot be shared out evenly.
        """
        if size % self.count:
            raise ValueError(
                f"a batch of {size} examples cannot be shared by {self.count} processes, expected a multiple"
            )
        part = size // self.count
        return slice(self.rank * part, (self.rank + 1) * part)

    def gather(self, vectors: Tensor) -> Tensor:
        """The vectors of all processes, (count * B, d), from this one's (B, d), differentiable.

        Every process must then compute the same loss of all of them: the gradient that reaches this
        process's vectors is scaled by ``count``, so that the mean over the processes of any gradient,
        be it of weights before or after the gathering, is the gradient of the loss.
        """
        if self.count == 1:
            return vectors
        gathered: Tensor = _Gather.apply(vectors, self)  # type: ignore[no-untyped-call]
        return gathered

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces every gradient by its mean over the processes."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        for gradient in gradients:
            if gradient.is_sparse:
                dist.all_reduce(gradient)
                gradient.div_(self.count)
        dense = [gradient for gradient in gradients if not gradient.is_sparse]
        if not dense:
            return
        # One message for all: a small one costs as much time as a large one.
        flat = torch.cat([gradient.reshape(-1) for gradient in dense])
        dist.all_reduce(flat)
        flat /= self.count
        sizes = [gradient.numel() for gradient in dense]
        for gradient, values in zip(dense, torch.split(flat, sizes), strict=True):
            gradient.copy_(values.view_as(gradient))

    def all_reduce_max(self, *values: float) -> list[float]:
        """The largest of each value over the processes, the same for all of them."""
        if self.count == 1:
            return list(values)
        row = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(row, op=dist.ReduceOp.MAX)
        found: list[float] = row.tolist()
        return found

    def gather_objects(self, value: Any) -> list[Any]:
        """One value of each process, by rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Waits until every process has come here."""
        self.broadcast(None)

    def broadcast(self, value: Any) -> Any:
        """The first process's value, for all of them."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, processes: Processes) -> Tensor:
        ctx.processes, ctx.size = processes, len(vectors)
        parts = [torch.empty_like(vectors) for _ in range(processes.count)]
        dist.all_gather(parts, vectors.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        # Every process holds the whole gradient already.
        start = ctx.processes.rank * ctx.size
        return gradients[0][start : start + ctx.size] * ctx.processes.count, None


def alone(device: str = "auto") -> Processes:
    """This process as the only one."""
    return Processes(0, 1, _device(device, 0))


@contextmanager
def processes(device: str = "auto") -> Iterator[Processes]:
    """Joins the processes that torchrun started, or stands for the only one.

    Args:
        device: "auto" for a GPU if there is one, of its own for each process; or torch's name of one.

    Raises:
        ValueError: torch knows no such device, or it is not there.
    """
    count, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = _device(device, local)
    if count == 1:
        yield Processes(0, 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()


def _device(name: str, local: int) -> torch.device:
    if name == "auto":
        return torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", local)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device is {name!r}, expected one that is there, such as cpu: {error}") from error
    return device
