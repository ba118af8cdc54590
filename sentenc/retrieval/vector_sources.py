"""Reads texts with their vectors from any of their sources: an index, its folder, a file, or a folder of files."""

import os
from pathlib import Path

from sentenc.io.files import files_below
from sentenc.io.text_vectors import TextVectors
from sentenc.io.vector_reading import read_vector_file, read_vector_folder
from sentenc.retrieval.index import Index
from sentenc.retrieval.index_reader import IndexReader
from sentenc.retrieval.manifest import MANIFEST


def read_text_vectors(
    source: str | os.PathLike[str] | IndexReader,
    *,
    text_field: str | None = None,
    vector_field: str | None = None,
) -> TextVectors:
    """Reads texts and their vectors from an index or from files.

    Args:
        source: An index, the folder of one, a file (see :func:`~sentenc.io.vector_reading.read_vector_file`), or a
            folder of Parquet files, as ``sentenc encode`` writes it.
        text_field: Name of the column of texts in a file.
        vector_field: Name of the column of vectors in a file.

    Raises:
        TextFileError: A column is missing, lengths differ, the file is damaged, or no text has a vector.
        IndexFormatError: The folder is not an index, or is damaged.
        ValueError: Names of columns are passed for an index, or the suffix of the file is unknown.
    """
    path = None if isinstance(source, IndexReader) else Path(source).expanduser()
    if path is not None and not path.is_dir():
        return read_vector_file(path, text_field=text_field, vector_field=vector_field)
    if path is not None and is_vector_folder(path):
        return read_vector_folder(path, text_field=text_field, vector_field=vector_field)
    if text_field is not None or vector_field is not None:
        raise ValueError(
            f"text_field and vector_field are names of columns of a file, and {source} is an index"
        )
    index = source if isinstance(source, IndexReader) else Index.open(source, encoder=False)
    return index.text_vectors()


def is_vector_folder(path: Path) -> bool:
    """Returns whether a folder has Parquet files, in it or below it, and is no index."""
    return (
        path.is_dir()
        and not (path / MANIFEST).exists()
        and any(file.suffix == ".parquet" for file in files_below(path))
    )
