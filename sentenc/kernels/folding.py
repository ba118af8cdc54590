"""Unicode folding by a table of pages, in the native library."""

import ctypes
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sentenc.kernels.arguments import check_shape, checked_bytes, checked_offsets, readable
from sentenc.kernels.library import NO_ERROR, TOO_SMALL, check, library

# A page of the table is missing, or a text has a code point that may move among its neighbors.
MISSING_PAGE, SPECIAL = 1, 2

# Code points of a page, and pages of Unicode.
_PAGE, _PAGES = 256, 0x1100


class FoldPages(NamedTuple):
    """A table from code points to bytes, in pages of 256 code points.

    Code point c belongs to entry ``page_of[c >> 8] * 256 + (c & 255)``, whose bytes are
    ``pool[starts[entry]:starts[entry] + abs(lengths[entry])]``. A negative length marks a code point that may
    move among its neighbors when a text is decomposed.
    """

    page_of: npt.NDArray[np.int32]  # (0x1100,) -1 for a page that is missing
    starts: npt.NDArray[np.int64]  # (256 pages,)
    lengths: npt.NDArray[np.int8]  # (256 pages,)
    pool: bytes


class _Table(ctypes.Structure):
    # sentenc_fold_table in sentenc.h.
    _fields_ = [
        ("page_of", ctypes.c_void_p), ("starts", ctypes.c_void_p), ("lengths", ctypes.c_void_p),
        ("pool", ctypes.c_char_p), ("n_pages", ctypes.c_int64), ("pool_size", ctypes.c_int64),
    ]  # fmt: skip


def fold(
    pages: FoldPages, text: bytes, offsets: npt.NDArray[np.int64], allow_special: bool
) -> tuple[int, int, bytes, npt.NDArray[np.int64]]:
    """Folds the UTF-8 texts ``text[offsets[i]:offsets[i + 1]]``.

    Returns:
        A status: 0, :data:`MISSING_PAGE` or :data:`SPECIAL`; the number of the missing page; the folded bytes;
        and the offsets of each text in them, (n + 1,) int64.

    Raises:
        MemoryError: There is too little memory.
        TypeError: ``text`` is not ``bytes``.
        ValueError: ``offsets`` fall, lie outside of the text or have another shape, or the table is damaged.
    """
    page_of, starts = readable(pages.page_of, np.int32), readable(pages.starts, np.int64)
    lengths, pool = readable(pages.lengths, np.int8), checked_bytes("pool", pages.pool)
    n_pages = len(lengths) // _PAGE
    check_shape("page_of", page_of, (_PAGES,))
    check_shape("starts", starts, (n_pages * _PAGE,))
    check_shape("lengths", lengths, (n_pages * _PAGE,))
    table = _Table(page_of.ctypes.data, starts.ctypes.data, lengths.ctypes.data, pool, n_pages, len(pool))
    offsets = checked_offsets(offsets)
    ends = np.empty(len(offsets), np.int64)
    needed = ctypes.c_int64(0)
    room = 2 * len(checked_bytes("text", text)) + 64
    while True:
        out: Any = ctypes.create_string_buffer(room)
        status = library.sentenc_fold(
            ctypes.addressof(table), text, len(text), offsets.ctypes.data, len(offsets) - 1, allow_special,
            ctypes.addressof(out), room, ends.ctypes.data, ctypes.addressof(needed),
        )  # fmt: skip
        if status != TOO_SMALL:
            break
        room = needed.value
    check(status)
    folded = ctypes.string_at(out, needed.value) if status == NO_ERROR else b""
    return status, needed.value, folded, ends
