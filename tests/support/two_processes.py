"""The script that torchrun starts twice in the tests of distributed training: python -m ... FOLDER."""

import shutil
import sys
import time
from pathlib import Path

import torch

from sentenc.training.engine import trainer as trainer_module
from sentenc.training.engine.distributed import Processes, process_group
from tests.support.training import rows, score, trainer, weights

CASES = {
    # As on one machine.
    "dense": {"regularization": {"embeddings": 0.1}, "max_minutes": 60},
    # As on two machines without a shared file system.
    "sparse": {"sparse_embeddings": True, "accumulate": 2},
}


def train(processes: Processes, root: Path) -> None:
    """Trains each case, with a stop and a second start in the middle, and writes the weights."""
    for name, changes in CASES.items():
        is_elsewhere = name == "sparse" and not processes.is_first
        folder = root / ("elsewhere" if is_elsewhere else name)
        # Other processors may compute other initial weights.
        seed = 4 if is_elsewhere else 3
        for stop_at in (5, None):
            trained = trainer(
                folder, evaluate=score, dropout=0.0, processes=processes, initial_seed=seed, **changes
            )
            trained.run(stop_at)
        if processes.is_first:
            torch.save(weights(trained), folder / "weights.pt")
        first, second = processes.gather_objects(weights(trained))
        assert all(torch.equal(first[key], second[key]) for key in first)


def check_saving(processes: Processes, root: Path) -> None:
    """Checks that no process returns before the state is written, and that one is written before an evaluation."""
    folder, aside = root / "saving", root / "before-evaluation.pt"
    original = trainer_module.save_state

    def slow(*arguments):
        time.sleep(0.5)
        original(*arguments)

    trainer_module.save_state = slow
    trainer(folder, processes=processes).run(stop_at=2)
    assert torch.load(folder / "state.pt", weights_only=True)["state"]["step"] == 2
    trainer_module.save_state = original
    processes.barrier()

    def evaluate(encoder):
        if trained.step == 6:
            shutil.copyfile(folder / "state.pt", aside)
        return score(encoder)

    trained = trainer(folder, evaluate=evaluate, processes=processes)
    trained.run()
    expected, log = weights(trained), rows(folder)
    processes.barrier()
    # As if the first process had been killed after it wrote the row of the evaluation.
    if processes.is_first:
        state = torch.load(aside, weights_only=True)["state"]
        assert (state["step"], state["evaluated"]) == (6, 0)
        shutil.copyfile(aside, folder / "state.pt")
    processes.barrier()
    again = trainer(folder, evaluate=score, processes=processes)
    again.run()
    assert all(torch.equal(expected[name], value) for name, value in weights(again).items())
    processes.barrier()
    assert rows(folder) == log


def check_exchange(processes: Processes, root: Path) -> None:
    """Checks values, exceptions and files that go from the first process to the other one."""
    assert processes.from_first(lambda: processes.rank) == 0
    assert raised(ZeroDivisionError, lambda: processes.from_first(lambda: 1 / 0))
    processes.local_rank = 0
    path = root / str(processes.rank) / "axes.npy"
    processes.share_file(path)
    assert not path.exists()
    if processes.is_first:
        path.parent.mkdir()
        path.write_bytes(b"axes")
    processes.share_file(path)
    processes.share_file(path)
    assert path.read_bytes() == b"axes"
    if processes.is_first:
        path.write_bytes(b"other axes")
    assert "axes.npy" in raised(ValueError, lambda: processes.share_file(path))
    order: list[int] = []
    with processes.first_process_first():
        order = [int(place.name) for place in root.glob("turn/*")]
        (root / "turn" / str(processes.rank)).mkdir(parents=True)
    assert order == list(range(processes.rank))


def check_refusal(processes: Processes, root: Path) -> None:
    """Checks that processes with different data are refused, in both of them."""
    text = f"corpus of process {processes.rank}"
    message = raised(
        ValueError, lambda: trainer(root / "refused", processes=processes, identity={"corpora": text})
    )
    assert "process 1 on " in message
    assert "corpora was 'corpus of process 0' and is 'corpus of process 1'" in message


def raised(kind, function) -> str:
    """The message of the exception that a function raises."""
    try:
        function()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__} was raised")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with process_group("cpu") as group:
        assert group.count == 2
        for test in (train, check_saving, check_exchange, check_refusal):
            test(group, Path(sys.argv[1]))
    # A thread of the group that outlives it can abort the process at its end.
    names = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in names if "gloo" in name], names
