"""Folding by a table is that of a plain Python reference, for any bytes."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sentenc.kernels.folding import MISSING_PAGE, SPECIAL, FoldPages, fold
from tests.support import kernel_reference as reference
from tests.support.kernel_cases import joined, seeds, texts, untimed

# The code points of these parts of Unicode have entries: U+0000, U+0300, U+6700, U+D800, U+FF00 and U+1F400.
PAGES = [0, 3, 0x67, 0xD8, 0xFF, 0x1F4]
CHARACTERS = "aé\u0301東\ufffd👩"


def table(seed: int, shares_of_special: float) -> tuple[FoldPages, dict[int, bytes], set[int]]:
    rng = np.random.default_rng(seed)
    pool = rng.bytes(600)
    lengths = rng.integers(0, rng.choice([3, 9, 128]), 256 * len(PAGES))
    starts = rng.integers(0, len(pool) - lengths)
    is_special = rng.random(len(lengths)) < shares_of_special
    page_of = np.full(0x1100, -1, np.int32)
    entries, special = {}, set()
    for number, page in enumerate(PAGES):
        page_of[page] = number
        for i in range(256):
            at = number * 256 + i
            entries[page * 256 + i] = pool[starts[at] : starts[at] + lengths[at]]
            if is_special[at] and lengths[at]:
                special.add(page * 256 + i)
    pages = FoldPages(page_of, starts, np.where(is_special, -lengths, lengths).astype(np.int8), pool)
    return pages, entries, special


@untimed
@given(st.lists(st.one_of(texts, st.text(CHARACTERS).map(str.encode)), max_size=4), seeds, st.booleans())
def test_folding_is_that_of_the_reference(items, seed, has_special):
    pages, entries, special = table(seed, 0.02 if has_special else 0)
    status, page, folded, ends = fold(pages, *joined(items), True)
    looked_up = LookedUp()
    for item in items:
        reference.fold(looked_up, item)
    missing = {point >> 8 for point in looked_up}.difference(PAGES)
    if missing:
        assert status == MISSING_PAGE
        assert page in missing
        return
    expected = [reference.fold(entries, item) for item in items]
    assert status == 0
    assert [folded[a:b] for a, b in itertools.pairwise(ends)] == expected
    assert fold(pages, *joined(items), False)[0] == (SPECIAL if special.intersection(looked_up) else 0)


class LookedUp(dict[int, bytes]):
    """A table that collects the code points that are looked up."""

    def __missing__(self, point: int) -> bytes:
        self[point] = b""
        return b""


def test_an_overlong_character_or_a_cut_one_is_replaced():
    pages, entries, _ = table(1, 0)
    for item in (b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf5\x80\x80\x80", b"\xe6\x9d", b"\xed\xa0\x80", b"a\x80"):
        assert fold(pages, *joined([item]), True)[2] == reference.fold(entries, item)
    assert fold(pages, *joined([b"\xe6\x9d"]), True)[2] == 2 * entries[0xFFFD]
