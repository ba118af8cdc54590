"""Compiled hot loops: fold, tokenise, gather, pool."""
