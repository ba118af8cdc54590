"""The folders of a run, checked before hours of work: one run for each work folder, and an output to replace."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sentenc.errors import CheckpointError
from sentenc.io.atomic import check_replaceable
from sentenc.io.locks import FileLock
from sentenc.training.engine.distributed import Processes

_LOCK = ".sentenc.lock"


@contextmanager
def open_work_folder(folder: Path, processes: Processes) -> Iterator[None]:
    """Creates the work folder of a run, and locks it until the block or the process ends.

    The first process has the lock, for all processes of the run.

    Raises:
        ValueError: Another run uses the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:

        def lock() -> None:
            try:
                held = FileLock(folder / _LOCK)
            except BlockingIOError as error:
                raise ValueError(
                    f"{folder} is in use by another run, expected a work folder of its own"
                ) from error
            # The callback also keeps the lock object alive.
            stack.callback(lambda: held.release())

        processes.from_first(lock)
        yield


def check_output(folder: Path, marker: str, kind: str, processes: Processes) -> None:
    """Checks on the machine of the first process that a model can be written to a folder.

    Args:
        folder: The folder.
        marker: Name of a file that every model of this kind contains.
        kind: Name of this kind of folder, for the message.
        processes: The processes of the run.

    Raises:
        CheckpointError: The folder contains other files.
    """
    processes.from_first(lambda: check_replaceable(folder, marker, CheckpointError, kind))
