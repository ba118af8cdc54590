"""Encodes many files into a folder of Parquet files with vectors, and continues a run that was killed."""

import os
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from sentenc.encoders.base import Encoder
from sentenc.encoders.encode_options import OnOverflow
from sentenc.encoders.roles import Role
from sentenc.errors import MissingExtraError
from sentenc.io.formats import FORMATS
from sentenc.registry import load
from sentenc.shards.encoding import Job
from sentenc.shards.options import EncodingOptions, VectorType
from sentenc.shards.running import EncodingReport, run
from sentenc.shards.sources import list_sources
from sentenc.shards.storage import open_folder
from sentenc.texts import describe
from sentenc.validation import check_choice, check_integer

__all__ = ["EncodingOptions", "EncodingReport", "encode_files", "encode_with"]


def encode_files(
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | Encoder = "cse-en",
    processes: int = 1,
    threads: int | None = None,
    text: str | None = None,
    columns: Sequence[str] | None = None,
    column: str = "embedding",
    dtype: VectorType = "float32",
    normalize_embeddings: bool = False,
    truncate_dim: int | None = None,
    prompt_name: str | None = None,
    role: Role | None = None,
    format: str | None = None,
    batch_size: int = 64,
    on_overflow: OnOverflow = "warn",
    show_progress_bar: bool = False,
) -> EncodingReport:
    """Encodes every file into a Parquet file of the same name, with a column of vectors.

    A file appears in the output when it is complete. The same call after a run that was killed encodes only the
    files that are missing, or whose source has changed. ``sentenc encode FILES -o FOLDER/`` does the same.

    The folder also has a file ``_manifest.json`` with the model, the options, and the rows and source of every file.
    One run at a time may write to a folder.

    Args:
        inputs: Files, folders and patterns (``data/*.parquet``), of Parquet, CSV, TSV, JSON lines or text. All but
            Parquet may be compressed. Addresses such as ``s3://bucket/folder`` need the extra ``remote``.
        output: The folder or its address. It is made if it does not exist.
        model: An argument of :func:`sentenc.load`, or an encoder. With several processes, an encoder should have
            one thread.
        processes: The number of processes, each of which encodes one file at a time. On Linux they share the memory
            of the model, unless files are remote or this process has several threads. Then, and on other systems,
            the calls of a script must be below ``if __name__ == "__main__":``.
        threads: The number of threads of each process, for a model by name. By default one if there are several
            processes, and otherwise all cores that the process may use.
        text: The column of texts. By default the first of ``sentenc.io.TEXT_FIELDS`` that a file has, or its only
            column of strings. A text that is null has a vector that is null.
        columns: The columns to keep, by default all. The texts need not be among them.
        column: The name of the column of vectors, which is the last one.
        dtype: ``"float32"``, ``"float16"``, or ``"int8"`` with another column for the scales of the rows.
        normalize_embeddings: Scale every vector to unit length.
        truncate_dim: Keep the first ``truncate_dim`` components.
        prompt_name: The name of a prompt of the model to put before every text.
        role: Encode the texts as ``"query"`` or ``"document"``, with the prompt of the model.
        format: The format of the files, one of ``sentenc.io.FORMATS``. By default that of each suffix.
        batch_size: The number of texts that go through the model together.
        on_overflow: What happens to texts that are too long; see :meth:`sentenc.Encoder.encode`. With ``"error"``, a
            file with such a text fails.
        show_progress_bar: Draw a progress bar over all rows on standard error.

    Raises:
        ShardError: The folder has vectors of another model or other options, two files have the same name, another
            run is writing to the folder, or, at the end, some files failed (``error.failures``).
        MissingExtraError: pyarrow, or for addresses fsspec, is not installed.
        ModelNotFoundError: There is no model of this name.
        OSError: A file does not exist.
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range.
    """
    check_integer("processes", processes)
    paths = _paths(inputs)
    if isinstance(columns, str):
        raise TypeError(f"columns is {columns!r}, expected a list of names")
    if isinstance(model, Encoder):
        encoder, name = model, str(model.metadata.get("name") or type(model).__name__)
    else:
        # Several processes with all cores each would get in each other's way.
        encoder = load(model, threads=1 if threads is None and processes > 1 else threads)
        name = os.fspath(model)
    options = EncodingOptions(
        text=text, columns=None if columns is None else tuple(columns), column=column, dtype=dtype,
        normalize_embeddings=normalize_embeddings, truncate_dim=truncate_dim, prompt_name=prompt_name, role=role,
        format=format, batch_size=batch_size, on_overflow=on_overflow,
    )  # fmt: skip
    return encode_with(encoder, name, paths, output, options, processes, show_progress_bar)


def _paths(inputs: Any) -> list[str | os.PathLike[str]]:
    if isinstance(inputs, str | os.PathLike):
        return [inputs]
    if isinstance(inputs, bytes | bytearray) or not isinstance(inputs, Iterable):
        raise TypeError(f"inputs is {describe(inputs)}, expected a path or paths")
    paths = list(inputs)
    for i, path in enumerate(paths):
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"inputs[{i}] is {describe(path)}, expected a path")
    return paths


def encode_with(
    encoder: Encoder,
    name: str,
    inputs: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    options: EncodingOptions,
    processes: int,
    show_progress_bar: bool,
) -> EncodingReport:
    """Encodes files as :func:`encode_files` does, with a loaded encoder and the name of its model."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow", "encoding into a folder") from error
    check_choice("dtype", options.dtype, get_args(VectorType))
    if options.format is not None:
        check_choice("format", options.format, FORMATS)
    kept = options.columns or ()
    for i, each in enumerate(kept):
        if each in kept[:i]:
            raise ValueError(f"columns has {each!r} twice, expected distinct names")
    job = Job(encoder, options, options.described(name, encoder), open_folder(output))
    # Loads the encoder of a pair before processes are forked, which then share its memory.
    encoder.for_role(options.role or "document")
    # Raises the errors of options before any file is read.
    name = options.text or f"{options.column}_text"
    job.encode_empty(pa.schema([(name, pa.string())]), name)
    return run(job, list_sources(inputs, output), processes, show_progress_bar)
