"""Retrieval: an index over texts or vectors, quantization, and mining of near-duplicates."""

from sentenc.io.records import Record, read_records
from sentenc.retrieval.index import Index
from sentenc.retrieval.items import Hit, Item
from sentenc.retrieval.mining import MinedPairs, group_pairs, mine_pairs
from sentenc.retrieval.quantization import BinaryQuantizer, Int8Quantizer

__all__ = [
    "BinaryQuantizer",
    "Hit",
    "Index",
    "Int8Quantizer",
    "Item",
    "MinedPairs",
    "Record",
    "group_pairs",
    "mine_pairs",
    "read_records",
]
