"""Tokens of many texts as a BERT takes them: runs of like length, between special tokens, padded."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


def spans_with_words(
    ids: npt.NDArray[np.integer], ends: Ids, unknown_id: int | None
) -> tuple[Ids, npt.NDArray[np.bool_]]:
    """Where each of n texts begins in their ids, (n,), and whether it has a known token, (n,)."""
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    known = np.concatenate([np.zeros(1, np.int64), np.cumsum(ids != unknown_id)])
    return starts, known[ends] > known[starts]


def token_batches(lengths: Ids, budget: int) -> list[slice]:
    """Runs of texts, sorted from the longest, whose padded tokens stay within a budget."""
    found, start = [], 0
    while start < len(lengths):
        rows = max(1, budget // int(lengths[start]))
        found.append(slice(start, start + rows))
        start += rows
    return found


def between_special_tokens(
    rows: Sequence[npt.NDArray[np.integer]], start: int, end: int, padding: int
) -> tuple[Ids, Ids]:
    """B rows of ids with a special token before and after each, (B, L), and 1 where there is a token, 0 behind."""
    lengths = np.array([len(row) for row in rows])
    places = np.arange(lengths.max() + 2)
    table = np.full((len(rows), len(places)), padding, np.int64)
    table[:, 0] = start
    table[(places > 0) & (places <= lengths[:, None])] = np.concatenate(rows)
    table[np.arange(len(rows)), lengths + 1] = end
    return table, (places < lengths[:, None] + 2).astype(np.int64)
