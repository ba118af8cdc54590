"""What is trained on what: an objective with its stream of batches, which can be stopped and gone on with."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from sentenc.training.data.prefetch import Prefetched
from sentenc.training.losses.base import Encode, Example, Loss

# Batches that a thread holds ready.
_AHEAD = 4


@dataclass(frozen=True, kw_only=True)
class Task:
    """An objective, its data, and what it weighs.

    Attributes:
        name: In the log.
        objective: The loss.
        batches: From an epoch and a number of batches to leave out of it, an endless iterator of
            (epoch, examples), always the same ones; see :func:`sentenc.training.data.batching.batches`.
        weight: Factor of its loss.
        teacher: From n texts to a teacher's unit vectors (n, t), if the objective needs them.
    """

    name: str
    objective: Loss
    batches: Callable[[int, int], Iterator[tuple[int, list[Example]]]]
    weight: float = 1.0
    teacher: Callable[[list[str]], npt.NDArray[np.float32]] | None = None


def check_tasks(tasks: Sequence[Task]) -> None:
    """Checks that tasks can be trained together.

    Raises:
        ValueError: There is none, two have one name, one lacks its teacher, or two learn an output map.
    """
    if not tasks:
        raise ValueError("tasks is empty, expected at least one")
    names = [task.name for task in tasks]
    if len(set(names)) != len(names):
        raise ValueError(f"tasks are called {', '.join(names)}, expected different names")
    for task in tasks:
        if task.objective.needs_teacher and task.teacher is None:
            raise ValueError(f"the objective of task {task.name} needs a teacher, and the task has none")
    if sum(task.objective.output_map() is not None for task in tasks) > 1:
        raise ValueError("several objectives learn a map from student to teacher, expected at most one")


@dataclass(frozen=True)
class Batch:
    """A batch ready for the student.

    Attributes:
        epoch: Its epoch.
        examples: All of it, as the objective prepared them.
        ids: (c * b, L) token ids of this process's b examples, column by column.
        lengths: (c * b,) tokens of each.
        teacher: (B, t) teacher's vectors of column 0 of all examples, or None.
    """

    epoch: int
    examples: list[tuple[str, ...]]
    ids: Tensor
    lengths: Tensor
    teacher: npt.NDArray[np.float32] | None


class Stream:
    """The batches of a task, prepared, with a position that can be saved.

    Args:
        task: Whose.
        tokenize: Texts to ids and lengths.
        share: From the size of a batch to the part of it that this process encodes.
        seed: Of the objective's random choices.
    """

    def __init__(
        self,
        task: Task,
        tokenize: Callable[[list[str]], tuple[Tensor, Tensor]],
        share: Callable[[int], slice],
        seed: list[int],
    ) -> None:
        self.task = task
        self._tokenize, self._share = tokenize, share
        self._rng = np.random.default_rng(seed)
        self._epoch = self._drawn = 0
        # Examples that were prepared together with earlier ones, and their epochs.
        self._pending: list[tuple[int, list[tuple[str, ...]]]] = []
        # An objective that leaves examples as they are needs no weights: all can be done ahead of time.
        self._is_plain = _is_plain(task.objective)
        self._source: Prefetched[Any] | None = None

    def next(self, encode: Encode) -> Batch:
        """The next batch; ``encode`` is for the objective's choices."""
        if self._is_plain:
            batch: Batch = self._draw()
            return batch
        if not self._pending:
            drawn = [self._draw() for _ in range(self.task.objective.lookahead)]
            prepared = self.task.objective.prepare([examples for _, examples in drawn], encode, self._rng)
            self._pending = [(epoch, batch) for (epoch, _), batch in zip(drawn, prepared, strict=True)]
        return self._collate(*self._pending.pop(0))

    def state(self) -> str:
        """Position and random state, as JSON."""
        return json.dumps(
            {
                "epoch": self._epoch,
                "drawn": self._drawn,
                "pending": self._pending,
                "rng": self._rng.bit_generator.state,
            }
        )

    def load_state(self, state: str) -> None:
        """Goes back to a position."""
        self.close()
        found = json.loads(state)
        self._epoch, self._drawn = found["epoch"], found["drawn"]
        self._pending = [(epoch, [tuple(example) for example in batch]) for epoch, batch in found["pending"]]
        self._rng.bit_generator.state = found["rng"]

    def close(self) -> None:
        """Ends the reading; the next batch begins it again where it was."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _draw(self) -> Any:
        if self._source is None:
            raw = self.task.batches(self._epoch, self._drawn)
            made: Iterator[Any] = (self._collate(*item) for item in raw) if self._is_plain else raw
            self._source = Prefetched(made, _AHEAD)
        item = next(self._source, None)
        if item is None:
            raise ValueError(f"the batches of task {self.task.name} have ended, expected them to have no end")
        epoch = item.epoch if isinstance(item, Batch) else item[0]
        self._drawn = self._drawn + 1 if epoch == self._epoch else 1
        self._epoch = epoch
        return item

    def _collate(self, epoch: int, examples: list[tuple[str, ...]]) -> Batch:
        own = examples[self._share(len(examples))]
        ids, lengths = self._tokenize([text for column in zip(*own, strict=True) for text in column])
        teacher = None
        if self.task.objective.needs_teacher and self.task.teacher is not None:
            teacher = self.task.teacher([example[0] for example in examples])
        return Batch(epoch, examples, ids, lengths, teacher)


def _is_plain(objective: Loss) -> bool:
    inner = getattr(objective, "inner", None)
    if isinstance(inner, Loss):
        return _is_plain(inner)
    return type(objective).prepare is Loss.prepare
