"""Lexical search: analysis of texts into terms, postings, and BM25."""
