"""Pairs of tiny encoders that share a space."""

from pathlib import Path

from sentenc import BertEncoder, Encoder, PairEncoder
from tests.support.models import make_bert, make_cse

SPACE = "a-space"


def in_space(encoder: Encoder, space: str = SPACE, **metadata) -> Encoder:
    """The same encoder with a space, and other metadata, as if it had been fitted into it."""
    encoder.metadata = {**encoder.metadata, "space": space, **metadata}
    return encoder


def make_pair(**shape) -> PairEncoder:
    """A BERT for documents and words alone for queries, of 24 components."""
    queries = make_cse(**{"tables": "int8", "widths": ()} | shape).compressed()
    return PairEncoder(in_space(make_bert()), in_space(queries, hybrid_alpha=0.3))


def with_prompts(encoder: BertEncoder, **prompts: str) -> BertEncoder:
    """The same encoder with prompts."""
    encoder.metadata = {**encoder.metadata, "prompts": prompts}
    return encoder


def folders_in(folder: Path) -> list[str]:
    """The names of all files below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
