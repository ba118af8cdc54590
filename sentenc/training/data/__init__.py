"""Corpora and labeled files as streams of batches."""
