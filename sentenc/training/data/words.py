"""Splits texts into words as a word-level tokenizer does."""

from collections.abc import Callable
from typing import Any


def word_splitter(lowercase: bool) -> Callable[[str], list[str]]:
    """How :func:`init_from_words`'s tokenizer splits a text: at spaces, and around punctuation."""
    from tokenizers import normalizers, pre_tokenizers

    parts = splitter_spec(lowercase)
    normalizer = normalizers.BertNormalizer(
        **{name: value for name, value in parts["normalizer"].items() if name != "type"}
    )
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def split(text: str) -> list[str]:
        normal = normalizer.normalize_str(text.encode("utf-8", "ignore").decode())
        return [word for word, _ in pre_tokenizer.pre_tokenize_str(normal)]

    return split


def splitter_spec(lowercase: bool) -> dict[str, dict[str, Any]]:
    """The normalizer and pre-tokenizer of a ``tokenizer.json`` that splits at spaces and around punctuation."""
    # Accents stay: "crème" has a vector of its own in most files.
    return {
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
            "strip_accents": False, "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
    }  # fmt: skip
