"""Folds Unicode text to the UTF-8 bytes that the encoding kernel reads.

BERT's normalizer works on one code point at a time: it cleans, puts spaces around CJK characters, decomposes,
drops accents and lower-cases. Its effect is therefore a table from code points to bytes. The tokenizer's own
normalizer fills this table page by page, when a text first needs the page, so there is no second
implementation of Unicode. What the pre-tokenizer would split off is put between spaces.
"""

import threading
import unicodedata
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sentenc.kernels.compilation import compiled
from sentenc.texts import replace_lone_surrogates

_PAGE = 256
_PAGES = 0x110000 // _PAGE
_DONE = -1
# A length below zero marks a code point that decomposition may move among its neighbors.
_SPECIAL = -2


def _fold(points, offsets, page_of, starts, lengths, pool, allow_special):  # type: ignore[no-untyped-def]
    # Returns (status, bytes, new offsets). The status is the number of a missing page, _SPECIAL or _DONE.
    total = 0
    for point in points:
        page = page_of[point >> 8]
        if page < 0:
            return np.int64(point >> 8), np.empty(0, np.uint8), offsets
        size = lengths[page * 256 + (point & 255)]
        if size < 0:
            if not allow_special:
                return np.int64(_SPECIAL), np.empty(0, np.uint8), offsets
            size = -size
        total += size
    folded = np.empty(total, np.uint8)
    ends = np.zeros(len(offsets), np.int64)
    n = 0
    for i in range(len(offsets) - 1):
        for position in range(offsets[i], offsets[i + 1]):
            point = points[position]
            entry = page_of[point >> 8] * 256 + (point & 255)
            first = starts[entry]
            for b in range(abs(lengths[entry])):
                folded[n] = pool[first + b]
                n += 1
        ends[i + 1] = n
    return np.int64(_DONE), folded, ends


_compiled_fold = compiled(_fold)


class FoldTable:
    """A table from code points to folded bytes, for one normalizer and pre-tokenizer.

    Args:
        normalize: Normalizes a text. The identity if the tokenizer has no normalizer.
        classify: Returns ``"word"``, ``"space"`` or ``"punctuation"`` for a non-ASCII character of normalized
            text.
        reorders: Whether ``normalize`` decomposes, and so puts combining marks into canonical order.
    """

    def __init__(
        self, normalize: Callable[[str], str], classify: Callable[[str], str], reorders: bool
    ) -> None:
        self._normalize = normalize
        self._classify = classify
        self._reorders = reorders
        self._lock = threading.Lock()
        # The tuple is replaced as a whole, so readers in other threads see the old table or the new one.
        self._tables = (
            np.full(_PAGES, -1, np.int32),
            np.empty(0, np.int64),
            np.empty(0, np.int8),
            np.empty(0, np.uint8),
        )

    def __call__(
        self, texts: list[str], joined: str, offsets: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Folds ``texts``, whose concatenation is ``joined``, and returns the bytes and their offsets."""
        allow_special = False
        while True:
            points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
            missing, folded, ends = _compiled_fold(points, offsets, *self._tables, allow_special)
            if missing == _DONE:
                # Read-only as the buffer of an ASCII text, so that the kernel is compiled for one type.
                folded.flags.writeable = False
                return folded, ends
            if missing != _SPECIAL:
                self._add_page(int(missing))
                continue
            texts = [
                text if text.isascii() else self._normalize(replace_lone_surrogates(text)) for text in texts
            ]
            joined = "".join(texts)
            offsets = text_offsets(texts)
            allow_special = True

    def _add_page(self, page: int) -> None:
        with self._lock:
            page_of, starts, lengths, pool = self._tables
            if page_of[page] >= 0:
                return
            entries = [self._entry(point) for point in range(page * _PAGE, (page + 1) * _PAGE)]
            sizes = np.array([size for _, size in entries], np.int8)
            ends = np.cumsum(np.abs(sizes.astype(np.int64)))
            new_page_of = page_of.copy()
            new_page_of[page] = len(lengths) // _PAGE
            self._tables = (
                new_page_of,
                np.concatenate([starts, len(pool) + ends - np.abs(sizes)]),
                np.concatenate([lengths, sizes]),
                np.concatenate([pool, np.frombuffer(b"".join(data for data, _ in entries), np.uint8)]),
            )

    def _entry(self, point: int) -> tuple[bytes, int]:
        if point < 128:  # the encoding kernel has its own rules for ASCII
            return bytes([point]), 1
        # A lone surrogate is no character and is treated as the replacement character.
        character = "\ufffd" if 0xD800 <= point <= 0xDFFF else chr(point)
        parts = []
        for piece in self._normalize(character):
            if piece.isascii():
                parts.append(piece)
            else:
                kind = self._classify(piece)
                parts.append({"word": piece, "space": " ", "punctuation": f" {piece} "}[kind])
        data = "".join(parts).encode()
        movable = unicodedata.combining(character) != 0 and unicodedata.category(character) != "Mn"
        return data, -len(data) if self._reorders and movable else len(data)


def text_offsets(texts: list[str]) -> npt.NDArray[np.int64]:
    """Returns where each text begins and ends in the concatenation of all, in characters: shape (n + 1,)."""
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=offsets[1:])
    return offsets
