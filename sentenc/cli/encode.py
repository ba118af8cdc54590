"""The command ``sentenc encode``: encodes a file of texts into a file of vectors, or files into a folder."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import click

from sentenc.cli.model_options import THREADS, load_model, model_options
from sentenc.cli.record_files import record_options
from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.config import Compute
from sentenc.encoders.encode_options import OnOverflow, Vectors
from sentenc.encoders.roles import Role
from sentenc.io.formats import file_format
from sentenc.io.progress import progress_bar
from sentenc.io.records import open_records
from sentenc.io.remote import is_remote
from sentenc.io.text import open_text
from sentenc.io.vectors import known_suffixes, write_vectors
from sentenc.threads import Threads

_TEXTS_PER_BLOCK = 8192
_SEPARATORS = tuple(filter(None, ("/", os.sep, os.altsep)))


@click.command("encode")
@click.argument("files", nargs=-1)
@click.option(
    "-o",
    "--output",
    required=True,
    help="Output file (.npy, .npz, .parquet or .jsonl), or a folder (FOLDER/).",
)
@click.option(
    "-m", "--model", default="cse-en", show_default=True, help="Name, folder or Hub id of the encoder."
)
@model_options
@click.option(
    "--role",
    type=click.Choice(["query", "document"]),
    help="Encode the texts as queries or as documents, with the model's own prompt.",
)
@click.option("--prompt-name", metavar="NAME", help="Name of a prompt of the model to put before every text.")
@record_options
@click.option("--normalize", is_flag=True, help="Scale every vector to unit length.")
@click.option("--truncate-dim", type=int, help="Number of leading dimensions to keep.")
@click.option(
    "--dtype",
    default="float32",
    show_default=True,
    type=click.Choice(["float32", "float16", "int8"]),
    help="Number type of the vectors; int8 needs a folder, and has a column of scales.",
)
@click.option(
    "--on-overflow",
    default="warn",
    show_default=True,
    type=click.Choice(["warn", "error", "ignore"]),
    help="What to do with texts that are too long for the model.",
)
@click.option(
    "--threads",
    type=THREADS,
    help="Number of encoding threads; by default all cores, or one in each of several processes.",
)
@click.option(
    "--compute",
    type=click.Choice(["float32", "int8"]),
    help="Number type of the matrix products of a BERT; by default the one stored with the model.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    help="Folder: number of processes, each of which encodes one file at a time; by default 1.",
)
@click.option("--columns", metavar="A,B", help="Folder: the columns to keep; by default all.")
@click.option("--column", metavar="NAME", help="Folder: name of the column of vectors; by default embedding.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
def encode_command(
    files: tuple[str, ...],
    output: str,
    model: str,
    pooling: str | None,
    query_prompt: str | None,
    threads: Threads | None,
    compute: Compute | None,
    processes: int | None,
    columns: str | None,
    column: str | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Encode the texts of FILES.

    A file is text (one text per line; an empty line has the zero vector), CSV, TSV, JSON lines or Parquet.
    All but Parquet may be compressed (.gz, .bz2, .xz, .zst). Without a file, or with -, read text from
    standard input.

    With an output file, encode one file. The output is replaced when it is complete: an interrupted run changes
    nothing.

    With a folder (-o FOLDER/), encode files, folders, patterns and addresses (s3://...) into Parquet files of the
    same names, with all columns and one of vectors. The same command continues a run that was killed.
    """
    load = partial(load_model, model, pooling, query_prompt, compute=compute)
    if _is_folder(files, output):
        # Imports the code for processes.
        from sentenc.cli.encode_folder import encode_folder

        count = processes or 1
        encoder = load(threads=1 if threads in (None, "auto") and count > 1 else threads)
        _check_prompt(encoder, options["role"], options["prompt_name"])
        encode_folder(encoder, model, files, output, count, quiet, columns=columns, column=column, **options)
        return
    for name, value in (("--processes", processes), ("--columns", columns), ("--column", column)):
        if value is not None:
            raise click.UsageError(f"{name} needs a folder as output, such as -o vectors/")
    path = _checked_output(output, options["dtype"])
    _encode_file(load(threads=threads), model, files[0] if files else "-", path, quiet, **options)


def _is_folder(files: tuple[str, ...], output: str) -> bool:
    """Returns whether the output is a folder: by its name, because it is one, or for several files."""
    if output.endswith(_SEPARATORS) or os.path.isdir(output) or is_remote(output):
        return True
    if len(files) > 1 and os.path.splitext(output)[1] in known_suffixes():
        raise click.UsageError(
            f"-o {output} is a file, expected a folder for several files, such as -o vectors/"
        )
    return len(files) > 1


def _check_prompt(encoder: Encoder, role: Role | None, prompt_name: str | None) -> None:
    """Checks ``--role`` and ``--prompt-name``.

    Raises:
        UsageError: Both were passed.
        BadParameter: The model has no prompt of this name.
    """
    if role is not None and prompt_name is not None:
        raise click.UsageError("expected either --role or --prompt-name")
    if prompt_name is not None and prompt_name not in encoder.prompts:
        known = ", ".join(encoder.prompts) or "none"
        raise click.BadParameter(
            f"--prompt-name is {prompt_name!r}, but the prompts of the model are: {known}"
        )


def _checked_output(output: str, dtype: str) -> Path:
    path = Path(output)
    if path.suffix not in known_suffixes():
        raise click.BadParameter(
            f"{output} ends in {path.suffix!r}, expected one of {', '.join(known_suffixes())}, or a folder (FOLDER/)"
        )
    if not path.absolute().parent.is_dir():
        raise click.BadParameter(f"the folder of {output} does not exist")
    if dtype == "int8":
        raise click.UsageError("--dtype int8 needs a folder as output, such as -o vectors/")
    return path


def _encode_file(
    encoder: Encoder,
    model: str,
    file: str,
    output: Path,
    quiet: bool,
    *,
    role: Role | None,
    prompt_name: str | None,
    text_field: str | None,
    format: str | None,
    normalize: bool,
    truncate_dim: int | None,
    dtype: str,
    on_overflow: OnOverflow,
) -> None:
    encode = _encode_method(encoder, role, prompt_name)
    dim = encoder.dim if truncate_dim is None else truncate_dim
    with _open_texts(file, text_field, format, quiet) as texts:
        options = {
            "normalize_embeddings": normalize, "truncate_dim": truncate_dim, "dtype": dtype,
            "on_overflow": on_overflow,
        }  # fmt: skip
        blocks = ((block, encode(block, **options)) for block in _blocks_of(texts))
        metadata = {"model": model, "fingerprint": encoder.fingerprint(), "space": encoder.space}
        rows = write_vectors(output, blocks, dim, dtype, metadata)
    if not quiet:
        click.echo(f"{rows} texts, {dim} dimensions: {output}", err=True)


def _encode_method(encoder: Encoder, role: Role | None, prompt_name: str | None) -> Callable[..., Vectors]:
    _check_prompt(encoder, role, prompt_name)
    if prompt_name is None:
        return {None: encoder.encode, "query": encoder.encode_query, "document": encoder.encode_document}[
            role
        ]
    return partial(encoder.encode, prompt_name=prompt_name)


@contextmanager
def _open_texts(
    file: str, text_field: str | None, format: str | None, quiet: bool
) -> Iterator[Iterator[str]]:
    if (format or file_format(file)) == "text" and text_field is None:
        # Not as records, which leave out empty lines: line n has vector n.
        size = os.path.getsize(file) if file != "-" else None
        with (
            progress_bar(size, "encoding", not quiet and size is not None) as bar,
            open_text(file, on_bytes=bar.update) as lines,
        ):
            yield lines
    else:
        with open_records((file,), "encoding", quiet, text_field=text_field, format=format) as records:
            yield (record.text for record in records)


def _blocks_of(texts: Iterator[str]) -> Iterator[list[str]]:
    while block := list(islice(texts, _TEXTS_PER_BLOCK)):
        yield block
