"""Training by several processes that torchrun starts: each encodes its shard of every batch."""

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

# Imported here, before any process group exists: the defaults of its functions are the group at the time of its
# import. torch.optim would import it during the training. The defaults would then keep the group and its threads
# after its destruction, and a thread could abort the process at the end.
import torch.distributed.nn
from torch import Tensor, nn

from sentenc.io.atomic import replacing_file

T = TypeVar("T")
# The other processes wait while the first one fills the teacher's cache.
_TIMEOUT = timedelta(days=2)


class Processes:
    """The processes of a run, on one or several machines, seen from one of them.

    Args:
        rank: Number of this process, from 0.
        count: Number of processes.
        device: The device that this process computes on.
        local_rank: Number of this process on its machine, from 0. None for a single machine.
    """

    def __init__(self, rank: int, count: int, device: torch.device, local_rank: int | None = None) -> None:
        self.rank, self.count, self.device = rank, count, device
        self.local_rank = rank if local_rank is None else local_rank

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and evaluates, rank 0."""
        return self.rank == 0

    @property
    def is_first_on_machine(self) -> bool:
        """Whether this process has the local rank 0: it writes the files that its machine lacks."""
        return self.local_rank == 0

    def shard(self, size: int) -> slice:
        """Returns the part of a batch of ``size`` examples, as :meth:`deal` orders them, that belongs to this process.

        Raises:
            ValueError: ``size`` is not a multiple of the number of processes.
        """
        self.check_batch_size(size)
        part = size // self.count
        return slice(self.rank * part, (self.rank + 1) * part)

    def deal(self, examples: list[T]) -> list[T]:
        """Returns a batch in the order in which :meth:`shard` assigns its examples to the processes in turn.

        The examples of a batch are sorted by length. Without this order the last process would encode the longest
        ones, and all others would wait for it in every step.
        """
        return [example for rank in range(self.count) for example in examples[rank :: self.count]]

    def check_batch_size(self, size: int) -> None:
        """Checks that a batch can be divided evenly among the processes.

        Raises:
            ValueError: ``size`` is not a multiple of the number of processes.
        """
        if size % self.count:
            raise ValueError(
                f"batch_size is {size}, expected a multiple of the number of processes, {self.count}"
            )

    def gather(self, vectors: Tensor) -> Tensor:
        """Gathers the vectors (B, d) of all processes into (count * B, d), differentiably.

        Every process must then compute the same loss from all vectors. The gradient that reaches this
        process's vectors is scaled by ``count``. The mean over the processes is then the gradient of the
        loss, for weights before the gathering as well as after it.
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
        # One message for all gradients: a small message takes as much time as a large one.
        flat = torch.cat([gradient.reshape(-1) for gradient in dense])
        dist.all_reduce(flat)
        flat /= self.count
        sizes = [gradient.numel() for gradient in dense]
        for gradient, values in zip(dense, torch.split(flat, sizes), strict=True):
            gradient.copy_(values.view_as(gradient))

    def all_reduce_max(self, *values: float) -> list[float]:
        """Returns the maximum of each value over the processes."""
        if self.count == 1:
            return list(values)
        row = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(row, op=dist.ReduceOp.MAX)
        maxima: list[float] = row.tolist()
        return maxima

    def gather_objects(self, value: Any) -> list[Any]:
        """Returns the values of all processes, in the order of their ranks."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Waits until every process has reached this call."""
        self.broadcast(None)

    @contextmanager
    def first_process_first(self) -> Iterator[None]:
        """Runs the body in the first process, then in the first one of each other machine, then in the others.

        Every process can therefore read the files that the first process wrote, or, on a machine that shares
        no files with it, those that the first process of its own machine wrote.
        """
        turn = 0 if self.is_first else 1 if self.is_first_on_machine else 2
        for _ in range(turn):
            self.barrier()
        yield
        for _ in range(2 - turn):
            self.barrier()

    def share_file(self, path: Path) -> None:
        """Writes a file of the first process on the machines that lack it. Does nothing if there is no such file.

        Raises:
            ValueError: A machine has another file at this path.
        """
        if self.count == 1:
            return
        content = self.broadcast(path.read_bytes() if self.is_first and path.exists() else None)
        if content is None:
            return
        is_other = False
        if self.is_first_on_machine and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing_file(path) as temporary:
                temporary.write_bytes(content)
        elif self.is_first_on_machine:
            is_other = path.read_bytes() != content
        hosts = [host for host, differs in self.gather_objects((socket.gethostname(), is_other)) if differs]
        if hosts:
            raise ValueError(
                f"{path} on {', '.join(hosts)} differs from that of the first process, expected the same file: "
                "delete it there"
            )

    def check_equal(self, values: dict[str, Any], differences: Callable[[Any, Any], list[str]]) -> None:
        """Checks that all processes have the same values.

        Args:
            values: JSON values of this process.
            differences: Lists the differences of the first process's values and those of another one.

        Raises:
            ValueError: They differ; the message names the process, its machine and the differences.
        """
        if self.count == 1:
            return
        gathered = self.gather_objects((socket.gethostname(), values))
        (first_host, first), *others = gathered
        for rank, (host, own) in enumerate(others, 1):
            if changes := differences(first, own):
                raise ValueError(
                    f"process {rank} on {host} differs from process 0 on {first_host}: {'; '.join(changes)}. "
                    "All processes need the same run file, corpora and teacher vectors: share their folders "
                    "between the machines, or copy them"
                )

    def from_first(self, compute: Callable[[], T]) -> T:
        """Returns in every process the value that a function returns in the first process.

        Raises:
            Exception: The function raised this exception in the first process.
        """
        if self.count == 1:
            return compute()
        value: Any = None
        error: Exception | None = None
        if self.is_first:
            try:
                value = compute()
            except Exception as raised:
                error = raised
        value, error = self.broadcast((value, error))
        if error is not None:
            raise error
        returned: T = value
        return returned

    def broadcast(self, value: Any) -> Any:
        """Returns the first process's value in every process."""
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
        # Every process has computed the whole gradient.
        start = ctx.processes.rank * ctx.size
        return gradients[0][start : start + ctx.size] * ctx.processes.count, None


def single_process(device: str = "auto") -> Processes:
    """Returns a run of this process only. Arguments and errors are those of :func:`process_group`."""
    return Processes(0, 1, _device(device, 0))


@contextmanager
def process_group(device: str = "auto") -> Iterator[Processes]:
    """Joins the processes that torchrun started; without torchrun, this process is the only one.

    Args:
        device: The name of a torch device, or "auto": a GPU if there is one (each process its own), else the
            CPU.

    Raises:
        ValueError: The device is unknown to torch or not available.
    """
    count, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = _device(device, local)
    if count == 1:
        yield Processes(0, 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), chosen, local)
        # A process that leaves early closes connections that the others may still read from.
        dist.barrier()
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
        raise ValueError(f"device is {name!r}, expected an available one, such as 'cpu': {error}") from error
    return device
