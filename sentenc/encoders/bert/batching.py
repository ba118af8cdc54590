"""Batches of tokenized texts: sorted by length, padded, between special tokens."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


def spans_with_words(
    ids: npt.NDArray[np.integer], ends: Ids, special_ids: Ids
) -> tuple[Ids, npt.NDArray[np.bool_]]:
    """Finds the first token of each text, and the texts that have a known token.

    Args:
        ids: The token ids of n texts, one text after another.
        ends: The end of each text in ``ids``, shape (n,).
        special_ids: The ids of unknown words and of special tokens, shape (k,).

    Returns:
        The start of each text, (n,), and whether it has a known token, (n,).
    """
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    known = np.concatenate([np.zeros(1, np.int64), np.cumsum(~np.isin(ids, special_ids))])
    return starts, known[ends] > known[starts]


def token_batches(lengths: Ids, budget: int) -> list[slice]:
    """Cuts texts, sorted from the longest to the shortest, into batches.

    Args:
        lengths: The number of tokens of each text, shape (n,), not rising.
        budget: The largest number of tokens of a batch, padding included. A longer text is a batch alone.

    Returns:
        The texts of each batch as a slice.
    """
    batches, start = [], 0
    while start < len(lengths):
        size = max(1, budget // int(lengths[start]))
        batches.append(slice(start, start + size))
        start += size
    return batches


def between_special_tokens(
    texts: Sequence[npt.NDArray[np.integer]], start: int, end: int, padding: int
) -> tuple[Ids, Ids]:
    """Pads B texts to one length and puts special tokens around each.

    Args:
        texts: The token ids of each text.
        start: The id of the token before each text.
        end: The id of the token after each text.
        padding: The id of the padding.

    Returns:
        Token ids (B, L), and a mask (B, L): 1 for tokens, 0 for padding.
    """
    lengths = np.array([len(text) for text in texts])
    columns = np.arange(lengths.max() + 2)
    table = np.full((len(texts), len(columns)), padding, np.int64)
    table[:, 0] = start
    table[(columns > 0) & (columns <= lengths[:, None])] = np.concatenate(texts)
    table[np.arange(len(texts)), lengths + 1] = end
    return table, (columns < lengths[:, None] + 2).astype(np.int64)
