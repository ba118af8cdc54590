"""The writer of Parquet files with vectors."""

import io
from collections.abc import Collection
from typing import Any

from sentenc.errors import MissingExtraError


def open_writer(path: Any, schema: Any, vectors: Collection[str]) -> Any:
    """Opens a ``pyarrow.parquet.ParquetWriter`` that neither compresses vectors nor makes a dictionary of them.

    The numbers of vectors hardly repeat. A dictionary of them takes a sixth of the time of a whole encoding, and makes
    no file smaller.

    Args:
        path: The file to write.
        schema: The schema of Arrow.
        vectors: The names of the columns of vectors.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow", "writing Parquet") from error
    others: list[str] = []
    compression: dict[str, str] = {}
    for field in schema:
        leaves = _leaves(pa, pq, field)
        compression |= dict.fromkeys(leaves, "none" if field.name in vectors else "snappy")
        if field.name not in vectors:
            others += leaves
    # An empty list would mean all columns.
    return pq.ParquetWriter(
        path,
        schema,
        use_dictionary=others or False,
        write_statistics=others or False,
        compression=compression,
    )


def _leaves(pa: Any, pq: Any, field: Any) -> list[str]:
    # Options are those of the columns of Parquet, of which a list or struct of Arrow has one or several.
    file = io.BytesIO()
    schema = pa.schema([field])
    # ``schema.empty_table()`` would import pandas, which takes half a second.
    pq.write_table(pa.Table.from_batches([], schema), file)
    columns = pq.ParquetFile(file).schema
    return [columns.column(i).path for i in range(len(columns))]
