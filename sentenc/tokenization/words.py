"""Splits texts into whole words, for vocabularies of words without punctuation."""

from typing import Any


def splitter_spec(lowercase: bool) -> dict[str, dict[str, Any]]:
    """Returns the parts of a ``tokenizer.json`` that normalize a text and split it at spaces and around punctuation."""
    # Accents are kept: most files have a vector of "crème".
    return {
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
            "strip_accents": False, "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
    }  # fmt: skip
