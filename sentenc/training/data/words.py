"""Splits texts into words as a word-level tokenizer does."""

from collections.abc import Callable

from sentenc.errors import MissingExtraError
from sentenc.tokenization.words import splitter_spec


def word_splitter(lowercase: bool) -> Callable[[str], list[str]]:
    """Returns a function that splits a text into words, at spaces and around punctuation.

    The tokenizer of :func:`~sentenc.training.initialization.cse.init_from_words` splits texts likewise.
    """
    try:
        from tokenizers import normalizers, pre_tokenizers
    except ImportError as error:
        raise MissingExtraError("train", "tokenizers", "splitting a corpus into words") from error
    parts = splitter_spec(lowercase)
    normalizer = normalizers.BertNormalizer(
        **{name: value for name, value in parts["normalizer"].items() if name != "type"}
    )
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def split(text: str) -> list[str]:
        normal = normalizer.normalize_str(text.encode("utf-8", "ignore").decode())
        return [word for word, _ in pre_tokenizer.pre_tokenize_str(normal)]

    return split
