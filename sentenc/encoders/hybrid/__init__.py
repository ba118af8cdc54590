"""Encoders whose vectors have columns for the words of a text."""
