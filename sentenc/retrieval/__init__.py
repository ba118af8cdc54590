"""Retrieval: an index over texts or vectors, quantisation, and mining of paraphrases."""

from sentenc.retrieval.index import Index
from sentenc.retrieval.items import Hit, Item
from sentenc.retrieval.quantization import BinaryQuantizer, Int8Quantizer

__all__ = ["BinaryQuantizer", "Hit", "Index", "Int8Quantizer", "Item"]
