"""Readers of texts, tables and records; writers of vectors; atomic writes and progress bars.

The lowest package: its modules import nothing of sentenc but the errors and each other.
"""

from sentenc.io.formats import FORMATS
from sentenc.io.records import TEXT_FIELDS, Record, read_records

__all__ = ["FORMATS", "TEXT_FIELDS", "Record", "read_records"]
