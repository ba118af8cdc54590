"""Folds Unicode text to the UTF-8 bytes that the encoding kernel reads.

BERT's normalizer works on one code point at a time: it cleans, puts spaces around CJK characters, decomposes,
drops accents and lower-cases. Its effect is therefore a table from code points to bytes. The normalizer fills
this table page by page, when a text first needs the page. What the pre-tokenizer would split off is put between
spaces.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sentenc.kernels.folding import MISSING_PAGE, SPECIAL, FoldPages, fold
from sentenc.texts import offsets_of, replace_lone_surrogates

_PAGE = 256
_PAGES = 0x110000 // _PAGE


class FoldTable:
    """A table from code points to folded bytes, for one normalizer and pre-tokenizer.

    Args:
        normalize: Normalizes a text. The identity if the tokenizer has no normalizer.
        classify: Returns ``"word"``, ``"space"`` or ``"punctuation"`` for a non-ASCII character of normalized
            text.
        moves: Returns whether ``normalize`` may move a character among its neighbors, if it does not drop it.
    """

    def __init__(
        self,
        normalize: Callable[[str], str],
        classify: Callable[[str], str],
        moves: Callable[[str], bool],
    ) -> None:
        self._normalize = normalize
        self._classify = classify
        self._moves = moves
        self._pages: FoldPages | None = None

    def __call__(self, texts: list[str]) -> tuple[bytes, npt.NDArray[np.int64]]:
        """Folds texts, and returns the bytes and where each text begins and ends in them, (n + 1,)."""
        return self.fold_utf8(*_utf8(texts))

    def fold_utf8(self, data: bytes, offsets: npt.NDArray[np.int64]) -> tuple[bytes, npt.NDArray[np.int64]]:
        """Folds texts that are UTF-8 already, ``data[offsets[i]:offsets[i + 1]]``."""
        pages = self._pages or FoldPages(
            np.full(_PAGES, -1, np.int32), np.empty(0, np.int64), np.empty(0, np.int8), b""
        )
        allow_special = False
        while True:
            status, page, folded, ends = fold(pages, data, offsets, allow_special)
            if status == MISSING_PAGE:
                pages = self._with_page(pages, page)
                # There is no lock: a process that is forked while another thread holds a lock would wait for
                # ever. If two threads add pages at a time, one page is lost, and is added when it is needed.
                self._pages = pages
            elif status == SPECIAL:
                data, offsets = _utf8([self._normalized(data[a:b]) for a, b in pairwise(offsets.tolist())])
                allow_special = True
            else:
                return folded, ends

    def _normalized(self, data: bytes) -> str:
        text = data.decode("utf-8", "surrogatepass")
        return text if text.isascii() else self._normalize(replace_lone_surrogates(text))

    def _with_page(self, pages: FoldPages, page: int) -> FoldPages:
        entries = [self._entry(point) for point in range(page * _PAGE, (page + 1) * _PAGE)]
        sizes = np.array([size for _, size in entries], np.int8)
        lengths = np.abs(sizes.astype(np.int64))
        page_of = pages.page_of.copy()
        page_of[page] = len(pages.lengths) // _PAGE
        return replace(
            pages,
            page_of=page_of,
            starts=np.concatenate([pages.starts, len(pages.pool) + np.cumsum(lengths) - lengths]),
            lengths=np.concatenate([pages.lengths, sizes]),
            pool=pages.pool + b"".join(data for data, _ in entries),
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
        return data, -len(data) if self._moves(character) else len(data)


def _utf8(texts: list[str]) -> tuple[bytes, npt.NDArray[np.int64]]:
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    return b"".join(encoded), offsets_of(encoded)
