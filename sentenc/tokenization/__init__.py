"""Tokenizers and Unicode folding."""
