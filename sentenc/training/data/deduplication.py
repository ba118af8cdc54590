"""A memory-efficient set of examples, for deduplication."""

from array import array
from hashlib import blake2b


class DedupSet:
    """A set of 64-bit hashes of examples, in an open-addressing table that is one to two thirds full.

    It takes 12 to 24 bytes an example. A Python set takes about 70, which is too much memory for a hundred
    million examples. Among n examples, two different ones have the same hash with a probability of n^2 /
    2^65.
    """

    def __init__(self) -> None:
        self._capacity = 1 << 12
        self._slots = array("Q", bytes(8 * self._capacity))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, texts: tuple[str, ...]) -> bool:
        """Adds an example. Returns False if the set already contains it."""
        # The lengths distinguish ("a b", "c") from ("a", "b c"), whatever characters the texts contain.
        content = "\0".join(texts) + "\0".join(str(len(text)) for text in texts[1:])
        key = int.from_bytes(blake2b(content.encode(), digest_size=8).digest(), "little") or 1
        slots, last = self._slots, self._capacity - 1
        at = key & last
        # 0 marks an empty slot.
        while slots[at]:
            if slots[at] == key:
                return False
            at = (at + 1) & last
        slots[at] = key
        self._count += 1
        if 3 * self._count > 2 * self._capacity:
            self._grow()
        return True

    def _grow(self) -> None:
        old = self._slots
        self._capacity *= 2
        self._slots = slots = array("Q", bytes(8 * self._capacity))
        last = self._capacity - 1
        for key in old:
            if key:
                at = key & last
                while slots[at]:
                    at = (at + 1) & last
                slots[at] = key
