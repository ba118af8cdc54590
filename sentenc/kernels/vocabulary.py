"""The hash table of a vocabulary in the native library, and tokenization with it."""

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.kernels.library import check, library

Ids = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]


class Vocabulary:
    """The tokens of a vocabulary and the rules by which bytes become words, and words become tokens.

    Args:
        pool: The UTF-8 bytes of the V tokens, without gaps.
        offsets: (V + 1,) int64, where each token begins and ends in ``pool``. Empty tokens are ignored.
        continues: (V,) bool, whether a token continues a word.
        classes: (256,) uint8, the class of each byte: 0 word, 1 space, 2 punctuation, 3 removed.
        lower: (256,) uint8, what each byte becomes.
        max_chars: The number of characters above which a word is unknown.
        splits_words: Whether a word may be split into several tokens (WordPiece).
        unknown: The id of unknown words; -1 to leave them out.
    """

    def __init__(
        self,
        pool: bytes,
        offsets: npt.NDArray[np.int64],
        continues: npt.NDArray[np.bool_],
        classes: npt.NDArray[np.uint8],
        lower: npt.NDArray[np.uint8],
        max_chars: int,
        splits_words: bool,
        unknown: int,
    ) -> None:
        self._handle = ctypes.c_void_p()
        if offsets.shape != (len(continues) + 1,):
            raise ValueError(f"offsets has shape {offsets.shape}, expected ({len(continues) + 1},)")
        offsets = np.ascontiguousarray(offsets, np.int64)
        continues = np.ascontiguousarray(continues, np.bool_)
        classes, lower = _table(classes), _table(lower)
        check(
            library.sentenc_vocabulary_new(
                pool, len(pool), offsets.ctypes.data, len(continues), continues.ctypes.data, classes.ctypes.data,
                lower.ctypes.data, max_chars, splits_words, unknown, ctypes.addressof(self._handle),
            )
        )  # fmt: skip

    @property
    def handle(self) -> int | None:
        """The address of the native structure, for the other kernels."""
        return self._handle.value

    def tokenize(self, text: bytes, offsets: Counts, max_tokens: int) -> tuple[Ids, Counts, Counts]:
        """Tokenizes the texts ``text[offsets[i]:offsets[i + 1]]``.

        Args:
            text: Folded UTF-8 (see :mod:`sentenc.tokenization.unicode_fold`), not yet in lower case.
            offsets: (n + 1,) int64.
            max_tokens: The number of tokens at which a text is cut.

        Returns:
            The ids of all texts, one text after another; the end of each text in them, (n,); and the number
            of tokens of each text before the cut, (n,).
        """
        n = max(0, len(offsets) - 1)
        ids = np.empty(len(text), np.int32)
        ends, counts = np.zeros(n, np.int64), np.zeros(n, np.int64)
        offsets = np.ascontiguousarray(offsets, np.int64)
        check(
            library.sentenc_tokenize(
                self._handle, text, len(text), offsets.ctypes.data, n, max_tokens, ids.ctypes.data, len(ids),
                ends.ctypes.data, counts.ctypes.data,
            )
        )  # fmt: skip
        return ids[: ends[-1] if n else 0], ends, counts

    def __del__(self, free: Any = library.sentenc_vocabulary_free) -> None:
        # The function is an argument, because globals may be gone when the interpreter ends.
        free(self._handle)


def _table(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    table = np.ascontiguousarray(values, np.uint8)
    if table.shape != (256,):
        raise ValueError(f"a table of bytes has shape {table.shape}, expected (256,)")
    return table
