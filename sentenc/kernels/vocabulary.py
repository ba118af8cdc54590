"""The hash table of a vocabulary in the native library, and tokenization with it."""

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.kernels.arguments import check_shape, checked_bytes, checked_offsets, readable
from sentenc.kernels.library import check, library
from sentenc.validation import check_integer

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

    Raises:
        TypeError: ``pool`` is not ``bytes``, or a number is no integer.
        ValueError: There is no token, a token has more than 2**20 bytes or lies outside of ``pool``, a number or
            a class is out of range, an array has another shape, or ``lower`` changes the class of a byte.
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
        checked_bytes("pool", pool)
        offsets = checked_offsets(offsets)
        n = self.n_tokens = len(offsets) - 1
        check_shape("continues", continues, (n,))
        check_integer("the number of tokens", n, at_most=2**31 - 1)
        check_integer("max_chars", max_chars, at_least=0, at_most=2**63 - 1)
        check_integer("unknown", unknown, at_least=-1, at_most=n - 1)
        classes, lower = readable(classes, np.uint8), readable(lower, np.uint8)
        _check_rules(classes, lower)
        continues = readable(continues, np.bool_)
        self._handle = _Handle()
        check(
            library.sentenc_vocabulary_new(
                pool, len(pool), offsets.ctypes.data, n, continues.ctypes.data, classes.ctypes.data,
                lower.ctypes.data, int(max_chars), bool(splits_words), int(unknown),
                ctypes.addressof(self._handle),
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

        Raises:
            MemoryError: There is too little memory.
            TypeError: ``text`` is not ``bytes``, or ``max_tokens`` is no integer.
            ValueError: ``offsets`` fall, lie outside of the text or have another shape, or ``max_tokens`` is
                below 0.
        """
        offsets = checked_offsets(offsets)
        max_tokens = check_integer("max_tokens", max_tokens, at_least=0, at_most=2**63 - 1)
        n = len(offsets) - 1
        ids = np.empty(len(checked_bytes("text", text)), np.int32)
        ends, counts = np.zeros(n, np.int64), np.zeros(n, np.int64)
        check(
            library.sentenc_tokenize(
                self._handle, text, len(text), offsets.ctypes.data, n, max_tokens, ids.ctypes.data, len(ids),
                ends.ctypes.data, counts.ctypes.data,
            )
        )  # fmt: skip
        return ids[: ends[-1] if n else 0], ends, counts


class _Handle(ctypes.c_void_p):
    # Owns the native structure. Shallow copies of a Vocabulary share the owner.

    def __reduce__(self) -> Any:
        raise TypeError("a native vocabulary cannot be copied or pickled; create another one")

    def __del__(self, free: Any = library.sentenc_vocabulary_free) -> None:
        # The function is an argument, because globals may be gone when the interpreter ends.
        free(self)


def _check_rules(classes: npt.NDArray[np.uint8], lower: npt.NDArray[np.uint8]) -> None:
    check_shape("classes", classes, (256,))
    check_shape("lower", lower, (256,))
    wrong = np.flatnonzero((classes > 3) | ((np.arange(256) >= 128) & (classes != 0)))
    if len(wrong):
        raise ValueError(
            f"byte {wrong[0]} has class {classes[wrong[0]]}, expected 0 to 3, and 0 from byte 128 on"
        )
    changed = np.flatnonzero((classes != 3) & (classes[lower] != classes))
    if len(changed):
        byte = changed[0]
        raise ValueError(
            f"lower[{byte}] is {lower[byte]} of class {classes[lower[byte]]}, expected class {classes[byte]}"
        )
