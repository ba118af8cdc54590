"""An index of 16-byte keys that stays small for tens of millions of them."""

import numpy as np
import numpy.typing as npt


class KeyIndex:
    """The row numbers of distinct keys of 16 bytes.

    Three sorted arrays take 24 bytes a key, where a dict takes over 150: a teacher's cache may have tens of millions
    of texts.
    """

    def __init__(self) -> None:
        # The two halves of each key as numbers, sorted by the first, and the row of the key.
        self._first = self._second = np.zeros(0, np.uint64)
        self._rows = np.zeros(0, np.int64)

    def __len__(self) -> int:
        """The number of keys."""
        return len(self._rows)

    def add(self, keys: npt.NDArray[np.uint8], first_row: int) -> None:
        """Adds n keys (n, 16) with the rows from ``first_row`` on. A key that is already in the index keeps its row."""
        # Merging takes one pass over the index. Sorting all of it after each shard would be too slow.
        first, second = _halves(keys)
        order = np.lexsort((second, first))
        # Two processes that fill a cache at the same time may both store a text: its first row is enough.
        repeated = np.zeros(len(order), bool)
        repeated[1:] = (np.diff(first[order]) == 0) & (np.diff(second[order]) == 0)
        order = order[~repeated & (self.find(keys[order]) < 0)]
        places = np.searchsorted(self._first, first[order])
        self._first = np.insert(self._first, places, first[order])
        self._second = np.insert(self._second, places, second[order])
        self._rows = np.insert(self._rows, places, first_row + order)

    def find(self, keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Returns the row of each of n keys (n, 16), -1 if the key is not in the index: (n,)."""
        first, second = _halves(keys)
        places = np.searchsorted(self._first, first)
        rows = np.full(len(keys), -1, np.int64)
        searching = np.arange(len(keys))
        # One round, unless keys share their first half: possible in theory, or among many billions.
        while len(searching):
            searching = searching[places[searching] < len(self._first)]
            searching = searching[self._first[places[searching]] == first[searching]]
            equal = self._second[places[searching]] == second[searching]
            rows[searching[equal]] = self._rows[places[searching[equal]]]
            searching = searching[~equal]
            places[searching] += 1
        return rows


def _halves(keys: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    halves = np.ascontiguousarray(keys).view(np.uint64).reshape(-1, 2)
    return halves[:, 0].copy(), halves[:, 1].copy()
