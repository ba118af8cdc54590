"""Corpora and labelled files as streams of batches."""
