"""Compiled hot loops: fold, tokenize, gather, pool."""
