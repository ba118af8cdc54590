"""Batches of examples of similar length, endless over epochs and resumable at any batch."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Protocol

import numpy as np

from sentenc.errors import CorpusError

Example = tuple[str, ...]
Keep = Callable[[list[Example]], Iterable[bool]]


class Examples(Protocol):
    """What batches are made of: a :class:`sentenc.training.data.corpus.Corpus`, or its like."""

    def epoch(self, seed: int, epoch: int) -> Iterator[Example]:
        """The examples of an epoch, the same ones in the same order whenever it is asked."""


def batches(
    corpus: Examples,
    batch_size: int,
    seed: int,
    start: int = 0,
    pool: int = 64,
    *,
    keep: Keep | None = None,
    epoch: int = 0,
) -> Iterator[tuple[int, list[Example]]]:
    """Cuts epoch after epoch into batches, without end.

    ``batch_size * pool`` examples at a time are sorted by their number of characters, cut, and the batches
    put into random order: within a batch texts are of similar length and little is padded. The examples
    that fill no batch at the end of an epoch are left out; they are whichever come last, not the longest.

    Args:
        corpus: Gives the examples.
        batch_size: Examples a batch.
        seed: Not negative; of the corpus's order and that of the batches.
        start: Batches to leave out at the beginning: the rest is what it would have been with them. They
            are read again, but not sorted.
        pool: Batches that are sorted together.
        keep: Given a list of examples, says of each whether to use it.
        epoch: The epoch to begin with; ``start`` counts from its first batch. Resuming from the epoch and
            the batch within it spares reading the epochs before.

    Yields:
        Number of the epoch, and a list of ``batch_size`` examples.

    Raises:
        ValueError: An argument is out of its range.
        CorpusError: While running: an epoch has fewer examples than a batch.
    """
    for name, value, least in (
        ("batch_size", batch_size, 1), ("pool", pool, 1), ("start", start, 0), ("seed", seed, 0), ("epoch", epoch, 0),
    ):  # fmt: skip
        if value < least:
            raise ValueError(f"{name} is {value}, expected at least {least}")
    return _endless(corpus, batch_size, seed, start, pool, keep, epoch)


def _endless(
    corpus: Examples, batch_size: int, seed: int, start: int, pool: int, keep: Keep | None, epoch: int
) -> Iterator[tuple[int, list[Example]]]:
    while True:
        n_examples = 0
        for number, examples in enumerate(_pools(corpus.epoch(seed, epoch), batch_size * pool, keep)):
            n_batches = len(examples) // batch_size
            n_examples += len(examples)
            if start >= n_batches:
                start -= n_batches
                continue
            # The corpus's own generator is that of (seed, epoch) alone.
            order = np.random.default_rng([seed, epoch, number + 1]).permutation(n_batches).tolist()
            kept = sorted(examples[: n_batches * batch_size], key=_n_characters)
            for place in order[start:]:
                yield epoch, kept[place * batch_size : (place + 1) * batch_size]
            start = 0
        if n_examples < batch_size:
            what = "examples" if keep is None else "examples that keep lets through"
            raise CorpusError(f"an epoch has {n_examples} {what}, expected at least batch_size, {batch_size}")
        epoch += 1


def _pools(examples: Iterator[Example], size: int, keep: Keep | None) -> Iterator[list[Example]]:
    pooled: list[Example] = []
    while chunk := list(islice(examples, size - len(pooled))):
        pooled += chunk if keep is None else _filtered(chunk, keep)
        if len(pooled) == size:
            yield pooled
            pooled = []
    if pooled:
        yield pooled


def _filtered(examples: list[Example], keep: Keep) -> list[Example]:
    return [example for example, wanted in zip(examples, keep(examples), strict=True) if wanted]


def _n_characters(example: Example) -> int:
    return sum(map(len, example))
