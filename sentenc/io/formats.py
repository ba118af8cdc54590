"""File formats by the suffix of a name."""

import os

from sentenc.errors import TextFileError
from sentenc.io.compression import without_compression

FORMATS = ("text", "csv", "tsv", "jsonl", "parquet")
#: The format of a file by its suffix, before that of a compression.
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def file_format(path: str) -> str:
    """Returns the format that belongs to the suffix of a file, before that of a compression; "text" if unknown.

    Raises:
        TextFileError: The suffix is .json: a single JSON value cannot be streamed.
    """
    suffix = os.path.splitext(without_compression(path.lower()))[1]
    if suffix == ".json":
        raise TextFileError(
            f"{path} is JSON, expected JSON lines: one object a line, in a file named .jsonl "
            "(or with --format jsonl, where a command has this option)"
        )
    return SUFFIXES.get(suffix, "text")
