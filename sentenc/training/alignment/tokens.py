"""Token counts of texts, in the sparse and dense forms that the fit multiplies with."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sentenc.tokenization.tokenizer import Tokenizer

FloatArray = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class Batch(NamedTuple):
    """The token counts of m texts.

    Attributes:
        tokens: The u distinct ids, ascending, (u,).
        counts: The number of times that each text has each of them, (m, u) float32.
    """

    tokens: Rows
    counts: FloatArray


class TokenizedTexts:
    """The token ids of n texts.

    Args:
        tokenizer: Its vocabulary has V ids.
        texts: n texts.
        max_tokens: The number of tokens at which a text is cut.
    """

    def __init__(self, tokenizer: Tokenizer, texts: list[str], *, max_tokens: int = 512) -> None:
        self.vocab_size = tokenizer.vocab_size
        self._ids, self._ends, _ = tokenizer.encode(texts, max_tokens)
        self.lengths: Rows = np.diff(self._ends, prepend=0)

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.lengths)

    def batch(self, rows: npt.NDArray[Any]) -> Batch:
        """Returns the token counts of some texts, (m,) row numbers."""
        lengths = self.lengths[rows]
        places = np.repeat(self._ends[rows] - np.cumsum(lengths), lengths) + np.arange(lengths.sum())
        tokens, columns = np.unique(self._ids[places], return_inverse=True)
        cells = np.repeat(np.arange(len(rows)), lengths) * len(tokens) + columns
        counts = np.bincount(cells, minlength=len(rows) * len(tokens)).astype(np.float32)
        return Batch(tokens.astype(np.int64), counts.reshape(len(rows), len(tokens)))
