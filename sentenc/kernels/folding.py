"""Unicode folding by a table of pages, in the native library."""

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.kernels.arguments import check_shape, checked_bytes, checked_offsets, readable
from sentenc.kernels.library import NO_ERROR, TOO_SMALL, check, library

# A page of the table is missing, or a text has a code point that may move among its neighbors.
MISSING_PAGE, SPECIAL = 1, 2

# Code points of a page, and pages of Unicode.
_PAGE, _PAGES = 256, 0x1100

# The type is Any because a bytearray is no buffer for mypy before Python 3.12.
_first_byte: Any = ctypes.c_char.from_buffer


class _Table(ctypes.Structure):
    # sentenc_fold_table in sentenc.h.
    _fields_ = [
        ("page_of", ctypes.c_void_p), ("starts", ctypes.c_void_p), ("lengths", ctypes.c_void_p),
        ("pool", ctypes.c_char_p), ("n_pages", ctypes.c_int64), ("pool_size", ctypes.c_int64),
    ]  # fmt: skip


@dataclass(frozen=True, eq=False)
class FoldPages:
    """A table from code points to bytes, in pages of 256 code points.

    Code point c belongs to entry ``page_of[c >> 8] * 256 + (c & 255)``, whose bytes are
    ``pool[starts[entry]:starts[entry] + abs(lengths[entry])]``. A negative length marks a code point that may
    move among its neighbors when a text is decomposed.

    Raises:
        TypeError: ``pool`` is not ``bytes``.
        ValueError: An array has another shape or type.
    """

    page_of: npt.NDArray[np.int32]  # (0x1100,) -1 for a page that is missing
    starts: npt.NDArray[np.int64]  # (256 pages,)
    lengths: npt.NDArray[np.int8]  # (256 pages,)
    pool: bytes

    def __post_init__(self) -> None:
        arrays = [
            readable(self.page_of, np.int32), readable(self.starts, np.int64), readable(self.lengths, np.int8)
        ]  # fmt: skip
        n_pages = len(self.lengths) // _PAGE
        for name, array, size in zip(
            ("page_of", "starts", "lengths"), arrays, (_PAGES, n_pages * _PAGE, n_pages * _PAGE), strict=True
        ):
            check_shape(name, array, (size,))
        table = _Table(
            *(array.ctypes.data for array in arrays),
            checked_bytes("pool", self.pool),
            n_pages,
            len(self.pool),
        )
        # The structure is made once, because it takes longer than folding a short text. It points into the arrays.
        object.__setattr__(self, "_native", (table, arrays))

    @property
    def address(self) -> int:
        """The address of the native structure."""
        table: _Table = self._native[0]  # type: ignore[attr-defined]
        return ctypes.addressof(table)


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
    offsets = checked_offsets(offsets)
    ends = np.empty(len(offsets), np.int64)
    needed = ctypes.c_int64(0)
    room = 2 * len(checked_bytes("text", text)) + 64
    while True:
        # A bytearray, because ctypes makes a new type for a buffer of each size.
        out = bytearray(room)
        status = library.sentenc_fold(
            pages.address, text, len(text), offsets.ctypes.data, len(offsets) - 1, allow_special,
            ctypes.addressof(_first_byte(out)), room, ends.ctypes.data, ctypes.addressof(needed),
        )  # fmt: skip
        if status != TOO_SMALL:
            break
        room = needed.value
    check(status)
    folded = bytes(memoryview(out)[: needed.value]) if status == NO_ERROR else b""
    return status, needed.value, folded, ends
