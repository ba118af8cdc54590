"""Pairs each training loss with a resumable stream of batches."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from sentenc.training.data.examples import Example
from sentenc.training.data.prefetch import Prefetched
from sentenc.training.engine.distributed import Processes
from sentenc.training.losses.base import Encode, Loss

# Batches that a thread prepares ahead of the training.
_BATCHES_AHEAD = 4


@dataclass(frozen=True, kw_only=True)
class LossTerm:
    """A loss, its data, and its weight in the sum that is minimized.

    Attributes:
        name: The term's name in the log.
        loss: The loss.
        batches: Returns an endless iterator of (epoch, examples), given an epoch and the number of its
            batches to skip. Equal arguments must yield equal batches; see
            :func:`sentenc.training.data.batching.batches`.
        weight: Factor of the loss.
        targets: Returns the targets (n, t) of n texts, such as a teacher's unit vectors, if the loss needs
            them.
        prompts: The text before the texts of each column, for the student's tokens only. Empty for none.
    """

    name: str
    loss: Loss
    batches: Callable[[int, int], Iterator[tuple[int, list[Example]]]]
    weight: float = 1.0
    targets: Callable[[list[str]], npt.NDArray[np.float32]] | None = None
    prompts: tuple[str, ...] = ()


def check_loss_terms(terms: Sequence[LossTerm]) -> None:
    """Checks that loss terms can be trained together.

    Raises:
        ValueError: There are no terms, two have the same name, one lacks its targets, one has prompts and
            chooses its examples by their vectors, or two learn an output map.
    """
    if not terms:
        raise ValueError("loss_terms is empty, expected at least one")
    names = [term.name for term in terms]
    if len(set(names)) != len(names):
        raise ValueError(f"the names of loss_terms are {', '.join(names)}, expected different names")
    for term in terms:
        if term.loss.needs_targets and term.targets is None:
            raise ValueError(f"loss term {term.name} has no targets, but its loss needs them")
        if any(term.prompts) and not _prepares_nothing(term.loss):
            raise ValueError(
                f"loss term {term.name} has the prompts {list(term.prompts)}, but its loss chooses texts "
                "without prompts: remove the role of its corpus, or the student's query_prompt"
            )
    if sum(term.loss.output_map() is not None for term in terms) > 1:
        raise ValueError("several losses learn a map from student to teacher, expected at most one")


@dataclass(frozen=True)
class Batch:
    """A batch ready for the student.

    Attributes:
        epoch: The number of its epoch, from 0.
        examples: The B examples of all processes, as the loss prepared them, in the order of the processes.
        ids: (c * b, L) token ids of this process's b examples with c texts each, column by column.
        lengths: (c * b,) number of tokens of each text.
        targets: (c * B, t) targets of all examples, column by column, or None.
    """

    epoch: int
    examples: list[Example]
    ids: Tensor
    lengths: Tensor
    targets: npt.NDArray[np.float32] | None


class BatchStream:
    """The prepared batches of a loss term, with a position that can be saved.

    Args:
        term: The loss term.
        tokenize: Returns token ids (n, L) and lengths (n,) of n texts.
        processes: The processes that encode a batch together.
        seed: Seed of the loss's random choices.
    """

    def __init__(
        self,
        term: LossTerm,
        tokenize: Callable[[list[str]], tuple[Tensor, Tensor]],
        processes: Processes,
        seed: list[int],
    ) -> None:
        self.term = term
        self._tokenize, self._processes = tokenize, processes
        self._rng = np.random.default_rng(seed)
        # The epoch of the last batch that was drawn, and the number of batches drawn from it.
        self._epoch = self._drawn = 0
        # Batches that were prepared together with earlier ones, and their epochs.
        self._pending: list[tuple[int, list[Example]]] = []
        # A loss that leaves its examples unchanged needs no weights for it: the thread can do all the
        # preparation.
        self._prepares_nothing = _prepares_nothing(term.loss)
        self._source: Prefetched[Any] | None = None

    def next(self, encode: Encode) -> Batch:
        """Returns the next batch; a loss that chooses examples by their vectors calls ``encode``."""
        if self._prepares_nothing:
            batch: Batch = self._draw()
            return batch
        if not self._pending:
            drawn = [self._draw() for _ in range(self.term.loss.lookahead)]
            prepared = self.term.loss.prepare([examples for _, examples in drawn], encode, self._rng)
            self._pending = [(epoch, examples) for (epoch, _), examples in zip(drawn, prepared, strict=True)]
        return self._collate(*self._pending.pop(0))

    def state(self) -> str:
        """Returns the position and the random state, as JSON."""
        return json.dumps(
            {
                "epoch": self._epoch,
                "drawn": self._drawn,
                "pending": self._pending,
                "rng": self._rng.bit_generator.state,
            }
        )

    def load_state(self, state: str) -> None:
        """Restores a position that :meth:`state` returned."""
        self.close()
        values = json.loads(state)
        self._epoch, self._drawn = values["epoch"], values["drawn"]
        self._pending = [(epoch, [tuple(example) for example in batch]) for epoch, batch in values["pending"]]
        self._rng.bit_generator.state = values["rng"]

    def close(self) -> None:
        """Stops reading; :meth:`next` resumes at the same position."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _draw(self) -> Any:
        # Returns a Batch if the loss prepares nothing, else (epoch, examples).
        if self._source is None:
            drawn = self.term.batches(self._epoch, self._drawn)
            items: Iterator[Any] = drawn
            if self._prepares_nothing:
                items = (self._collate(epoch, examples) for epoch, examples in drawn)
            self._source = Prefetched(items, _BATCHES_AHEAD)
        item = next(self._source, None)
        if item is None:
            raise ValueError(
                f"the batches of loss term {self.term.name} have ended, expected an endless iterator"
            )
        epoch = item.epoch if isinstance(item, Batch) else item[0]
        self._drawn = self._drawn + 1 if epoch == self._epoch else 1
        self._epoch = epoch
        return item

    def _collate(self, epoch: int, examples: list[Example]) -> Batch:
        examples = self._processes.deal(examples)
        shard = examples[self._processes.shard(len(examples))]
        columns = zip(*shard, strict=True)
        ids, lengths = self._tokenize(
            [
                prompt + text
                for prompt, column in zip_longest(self.term.prompts, columns, fillvalue="")
                for text in column
            ]
        )
        targets = None
        if self.term.loss.needs_targets and self.term.targets is not None:
            targets = self.term.targets([text for column in zip(*examples, strict=True) for text in column])
        return Batch(epoch, examples, ids, lengths, targets)


def _prepares_nothing(loss: Loss) -> bool:
    inner = getattr(loss, "inner", None)
    if isinstance(inner, Loss):
        return _prepares_nothing(inner)
    return type(loss).prepare is Loss.prepare
