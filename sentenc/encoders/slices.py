"""Encodes the texts of a block in several threads, whose number does not change a vector."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

# Texts that a thread encodes at a time. Fewer than twice as many are not worth a second thread.
_TEXTS_PER_SLICE = 512
TEXTS_PER_BLOCK = 16 * _TEXTS_PER_SLICE

_Vectors = npt.NDArray[np.float32]
_Counts = npt.NDArray[np.int64]


def encode_in_slices(
    texts: list[str],
    out: _Vectors,
    counts: _Counts,
    encode_slice: Callable[[list[str], _Vectors, _Counts], None],
    threads: int,
) -> None:
    """Encodes texts slice by slice, in threads if there are enough texts for several.

    Args:
        texts: n texts.
        out: The vectors, (n, d), overwritten.
        counts: The token counts, (n,), overwritten.
        encode_slice: Encodes some texts into their rows of ``out`` and ``counts``. It should not hold the GIL.
        threads: The number of threads.
    """
    if threads == 1 or len(texts) < 2 * _TEXTS_PER_SLICE:
        encode_slice(texts, out, counts)
        return
    # The import takes as long as thousands of texts, and one text needs no second thread.
    from concurrent.futures import ThreadPoolExecutor

    starts = range(0, len(texts), _TEXTS_PER_SLICE)

    def encode(i: int) -> None:
        end = i + _TEXTS_PER_SLICE
        encode_slice(texts[i:end], out[i:end], counts[i:end])

    with ThreadPoolExecutor(min(threads, len(starts))) as pool:
        for _ in pool.map(encode, starts):
            pass  # raises the exception of a thread, if there is one
