"""Loads the transformers that no shipped model beats yet, from folders that the user names."""

import argparse
from pathlib import Path

from sentenc.encoders.base import Encoder
from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder
from sentenc.registry import load

# The prompt of the card of snowflake-arctic-embed-xs.
ARCTIC_PROMPT = "Represent this sentence for searching relevant passages: "


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--arctic-xs`` and ``--mpnet`` to a parser."""
    parser.add_argument("--arctic-xs", type=Path, help="folder of snowflake-arctic-embed-xs")
    parser.add_argument("--mpnet", type=Path, help="folder of all-mpnet-base-v2; see tinybert_speed.py")
    parser.add_argument(
        "--bf16", action="store_true", help="all-mpnet-base-v2 in bfloat16, for processors that have it"
    )


def teachers(arguments: argparse.Namespace) -> dict[str, Encoder]:
    """Returns the encoders of the folders that were given, by their names."""
    loaded: dict[str, Encoder] = {}
    if arguments.arctic_xs is not None:
        loaded["snowflake-arctic-embed-xs"] = load(
            arguments.arctic_xs, pooling="cls", query_prompt=ARCTIC_PROMPT
        )
    if arguments.mpnet is not None:
        mpnet = load(arguments.mpnet, backend="torch" if arguments.bf16 else None)
        if arguments.bf16 and isinstance(mpnet, SentenceTransformerEncoder):
            mpnet.model.bfloat16()
        loaded["all-mpnet-base-v2"] = mpnet
    return loaded
