"""Unicode text to the ASCII-and-lower-case bytes that the encoding kernel reads.

BERT's normalizer works on one code point at a time (clean, put spaces round CJK, decompose, drop
accents, lower-case), so its effect is a table from code points to bytes. The table is filled page by
page, from the tokenizer's own normalizer, when a text first needs the page: no second opinion on
Unicode can creep in. What the pre-tokenizer would split off is put between spaces here.
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
# Lengths below zero mark code points whose place among their neighbors decomposition may change.
_SPECIAL = -2


def _fold(points, offsets, page_of, starts, lengths, pool, allow_special):  # type: ignore[no-untyped-def]
    # Returns (what is missing, bytes, new offsets): a page number, _SPECIAL, or _DONE.
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
    """Code point to folded bytes, for one normalizer and pre-tokenizer.

    Args:
        normalize: Text to normalized text (identity if the tokenizer has no normalizer).
        classify: A non-ASCII character of normalized text to ``"word"``, ``"space"`` or ``"punctuation"``.
        reorders: Whether ``normalize`` decomposes, and so puts combining marks in canonical order.
    """

    def __init__(
        self, normalize: Callable[[str], str], classify: Callable[[str], str], reorders: bool
    ) -> None:
        self._normalize = normalize
        self._classify = classify
        self._reorders = reorders
        self._lock = threading.Lock()
        # One tuple, replaced as a whole: readers in other threads see the old table or the new one.
        self._tables = (
            np.full(_PAGES, -1, np.int32),
            np.empty(0, np.int64),
            np.empty(0, np.int8),
            np.empty(0, np.uint8),
        )

    def __call__(
        self, texts: list[str], joined: str, offsets: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Folds ``texts``, whose concatenation is ``joined``; returns the bytes and their offsets."""
        allow_special = False
        while True:
            points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
            missing, folded, ends = _compiled_fold(points, offsets, *self._tables, allow_special)
            if missing == _DONE:
                # Read-only like the buffer of an ASCII text, so that one compiled form takes both.
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
        # A lone surrogate is no character; it goes the way of the replacement character.
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
    """Where each text begins in the concatenation of all, in characters: shape (n + 1,)."""
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=offsets[1:])
    return offsets
