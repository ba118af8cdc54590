"""The entry in the footer of an encoded file: its source, model and options."""

import json
from typing import Any, NamedTuple

from sentenc.shards.sources import Source, open_source

_KEY = b"sentenc.shard"


class Footer(NamedTuple):
    """The footer of a Parquet file: its number of rows, and its source and description if sentenc wrote it."""

    rows: int
    source: Source
    described: dict[str, Any] | None


def entry(source: Source, text: str, described: dict[str, Any]) -> dict[bytes, bytes]:
    """Returns the metadata of a file of vectors: its source, its column of texts, and the model and options."""
    return {_KEY: json.dumps({"source": source._asdict(), "text": text, **described}).encode()}


def read_footer(path: str) -> Footer | None:
    """Reads the footer of a file, or returns None if it is not Parquet, or is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_source(path) as file:
        try:
            metadata = pq.read_metadata(file)
        except pa.ArrowException:
            return None
        except OSError as error:
            # Arrow raises a plain OSError for a damaged file. Any other comes from a connection or from permissions.
            if type(error) is not OSError or error.errno is not None:
                raise
            return None
    unknown = Source("", 0, "")
    try:
        stated = json.loads((metadata.metadata or {})[_KEY])
        return Footer(metadata.num_rows, Source(**stated.pop("source")), stated)
    except (ValueError, KeyError, TypeError):
        return Footer(metadata.num_rows, unknown, None)


def count_rows(path: str) -> int:
    """Returns the number of rows of a Parquet file, or 0 if it is damaged."""
    footer = read_footer(path)
    return 0 if footer is None else footer.rows
