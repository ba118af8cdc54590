"""Readers, atomic writes and progress bars."""
