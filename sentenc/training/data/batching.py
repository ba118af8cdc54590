"""Batches of examples of similar length, endless over epochs and resumable at any batch."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from sentenc.errors import CorpusError
from sentenc.training.data.examples import Example, ExampleFilter, ExampleSource
from sentenc.validation import check_integer


def batches(
    source: ExampleSource,
    batch_size: int,
    seed: int,
    start: int = 0,
    pool: int = 64,
    *,
    keep: ExampleFilter | None = None,
    epoch: int = 0,
) -> Iterator[tuple[int, list[Example]]]:
    """Divides the examples of one epoch after another into batches, endlessly.

    ``batch_size * pool`` examples at a time are sorted by their number of characters and divided into
    batches, and the batches are put into random order. Within a batch the texts then have similar lengths and
    need little padding. The last examples of an epoch that do not fill a batch are left out. They are the
    last in the corpus's order, not the longest.

    Args:
        source: The examples.
        batch_size: Number of examples in a batch.
        seed: Seed of the order of the examples and of the batches, at least 0.
        start: Number of batches to skip. The other batches do not depend on it. Skipped examples are read,
            but not sorted.
        pool: Number of batches that are sorted together.
        keep: Returns for each example whether it is used. None uses all.
        epoch: The first epoch; ``start`` counts from its first batch. Resuming at an epoch and a batch within
            it avoids reading the earlier epochs.

    Yields:
        The number of the epoch and a list of ``batch_size`` examples.

    Raises:
        TypeError, ValueError: An argument has the wrong type, or is out of its range.
        CorpusError: During the iteration: an epoch has fewer examples than a batch.
    """
    check_integer("batch_size", batch_size, at_least=1)
    check_integer("pool", pool, at_least=1)
    for name, value in (("start", start), ("seed", seed), ("epoch", epoch)):
        check_integer(name, value, at_least=0)
    return _endless_batches(source, batch_size, seed, start, pool, keep, epoch)


def _endless_batches(
    source: ExampleSource,
    batch_size: int,
    seed: int,
    start: int,
    pool: int,
    keep: ExampleFilter | None,
    epoch: int,
) -> Iterator[tuple[int, list[Example]]]:
    while True:
        n_examples = 0
        for number, examples in enumerate(_pools(source.epoch(seed, epoch), batch_size * pool, keep)):
            n_batches = len(examples) // batch_size
            n_examples += len(examples)
            if start >= n_batches:
                start -= n_batches
                continue
            # The corpus seeds its own generator with (seed, epoch).
            order = np.random.default_rng([seed, epoch, number + 1]).permutation(n_batches).tolist()
            by_length = sorted(examples[: n_batches * batch_size], key=_n_characters)
            for place in order[start:]:
                yield epoch, by_length[place * batch_size : (place + 1) * batch_size]
            start = 0
        if n_examples < batch_size:
            which = "examples" if keep is None else "examples that keep selects"
            raise CorpusError(
                f"an epoch has {n_examples} {which}, expected at least batch_size, {batch_size}"
            )
        epoch += 1


def _pools(examples: Iterator[Example], size: int, keep: ExampleFilter | None) -> Iterator[list[Example]]:
    pooled: list[Example] = []
    while chunk := list(islice(examples, size - len(pooled))):
        pooled += chunk if keep is None else _filtered(chunk, keep)
        if len(pooled) == size:
            yield pooled
            pooled = []
    if pooled:
        yield pooled


def _filtered(examples: list[Example], keep: ExampleFilter) -> list[Example]:
    return [example for example, is_used in zip(examples, keep(examples), strict=True) if is_used]


def _n_characters(example: Example) -> int:
    return sum(map(len, example))
