"""Batches have similar lengths, contain every example once, and can be resumed at any batch."""

from itertools import islice, takewhile

import numpy as np
import pytest

from sentenc.errors import CorpusError
from sentenc.training.data.batching import batches


class Made:
    """A corpus of texts with given lengths; its order depends on the epoch."""

    def __init__(self, lengths):
        self.lengths = lengths
        self.begun = []

    def epoch(self, seed, epoch):
        self.begun.append(epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(self.lengths))
        return (("x" * self.lengths[i],) for i in order)


def taken(n, *args, **options):
    return list(islice(batches(*args, **options), n))


def lengths(batch):
    return sorted(len(text) for (text,) in batch)


def test_batches_of_one_pool_are_runs_of_the_sorted_lengths_in_another_order():
    drawn = taken(5, Made(list(range(1, 21))), 4, 3)
    assert sorted(lengths(batch) for _, batch in drawn) == [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
        [9, 10, 11, 12],
        [13, 14, 15, 16],
        [17, 18, 19, 20],
    ]
    orders = {tuple(min(lengths(b)) for _, b in taken(5, Made(list(range(1, 21))), 4, s)) for s in range(9)}
    assert len(orders) > 5
    assert {epoch for epoch, _ in drawn} == {0}


def test_pools_are_cut_in_the_corpus_order():
    # Pools of 2 batches of 3 out of 15: 6, 6 and 3.
    corpus = Made(list(range(1, 16)))
    lengths_in_order = [len(text) for (text,) in corpus.epoch(7, 0)]
    drawn = [lengths(batch) for _, batch in taken(5, corpus, 3, 7, pool=2)]
    for at, size in ((0, 6), (6, 6), (12, 3)):
        pool = sorted(lengths_in_order[at : at + size])
        assert sorted(drawn[at // 3 : (at + size) // 3]) == [pool[i : i + 3] for i in range(0, size, 3)]


def test_pairs_are_sorted_by_their_total_length_and_ties_keep_their_order():
    class Pairs:
        def epoch(self, seed, epoch):
            yield from [("aaaa", ""), ("b", "b"), ("c", "ccc"), ("", "d")]

    assert sorted(batch for _, batch in taken(2, Pairs(), 2, 0)) == [
        [("", "d"), ("b", "b")],
        [("aaaa", ""), ("c", "ccc")],
    ]


def test_the_examples_left_out_of_an_epoch_are_random():
    drawn = taken(40, Made(list(range(1, 12))), 5, 1)
    assert [epoch for epoch, _ in drawn] == [i // 2 for i in range(40)]
    left_out = []
    for epoch in range(20):
        used = lengths(drawn[2 * epoch][1] + drawn[2 * epoch + 1][1])
        assert len(set(used)) == 10
        left_out += set(range(1, 12)) - set(used)
    assert len(set(left_out)) > 4


def test_a_resumed_stream_has_the_batches_of_an_uninterrupted_one():
    corpus = Made([i % 13 + 1 for i in range(103)])
    whole = taken(60, corpus, 5, 4, pool=3)
    for start in range(50):
        assert taken(10, corpus, 5, 4, start, 3) == whole[start : start + 10]
    # An epoch has 20 batches, and the second one can be started without reading the first.
    corpus.begun = []
    assert taken(10, corpus, 5, 4, 7, 3, epoch=1) == whole[27:37]
    assert corpus.begun == [1]


def test_seed_and_epoch_change_the_batches():
    corpus = Made(list(range(1, 41)))
    drawn = taken(20, corpus, 4, 0, pool=5)
    assert drawn == taken(20, corpus, 4, 0, pool=5)
    assert drawn[:10] != taken(10, corpus, 4, 1, pool=5)
    assert [b for _, b in drawn[:10]] != [b for _, b in drawn[10:]]


def test_keep_filters_before_pooling():
    sizes = []

    def keep(examples):
        sizes.append(len(examples))
        return np.array([len(text) % 2 == 0 for (text,) in examples])

    corpus = Made(list(range(1, 41)))
    drawn = list(takewhile(lambda item: item[0] == 0, batches(corpus, 4, 0, pool=2, keep=keep)))
    assert sorted(length for _, batch in drawn for length in lengths(batch)) == list(range(2, 41, 2))
    assert max(sizes) <= 8
    for start in range(5):
        rest = taken(5 - start, corpus, 4, 0, start, 2, keep=keep)
        assert rest == drawn[start:]
    with pytest.raises(ValueError, match="shorter"):
        next(batches(corpus, 4, 0, keep=lambda examples: [True]))


def test_an_epoch_without_a_batch():
    with pytest.raises(CorpusError, match="an epoch has 3 examples, expected at least batch_size, 4"):
        next(batches(Made([1, 2, 3]), 4, 0))
    with pytest.raises(CorpusError, match=r"has 1 examples .*batch_size, 2"):
        next(batches(Made([1, 2, 3]), 2, 0, keep=lambda examples: [len(e[0]) > 2 for e in examples]))
    assert lengths(next(batches(Made([1, 2, 3]), 3, 0))[1]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0, expected .*>= 1"),
        ({"pool": 0}, "pool is 0, expected .*>= 1"),
        ({"start": -1}, "start is -1, expected .*>= 0"),
        ({"seed": -2}, "seed is -2, expected .*>= 0"),
        ({"epoch": -1}, "epoch is -1, expected .*>= 0"),
    ],
)
def test_arguments_are_refused_at_the_call(arguments, message):
    with pytest.raises(ValueError, match=message):
        batches(Made([1]), **{"batch_size": 1, "seed": 0, **arguments})
