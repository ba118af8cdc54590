"""The modes of a search, and the default of a search that states none."""

from typing import Literal, get_args

Mode = Literal["hybrid", "vector", "lexical"]
MODES: tuple[Mode, ...] = get_args(Mode)


def default_mode(*, texts: bool, words: bool, vectors: bool) -> Mode:
    """Returns the mode of a search that states none.

    Args:
        texts: Whether the queries are texts.
        words: Whether the index has texts that are searched by words.
        vectors: Whether the queries have vectors, or an encoder that computes them.
    """
    if not texts or not words:
        return "vector"
    return "hybrid" if vectors else "lexical"
