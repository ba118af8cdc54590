"""The part of the command ``sentenc encode`` that encodes files into a folder."""

from typing import Any

import click

from sentenc.encoders.base import Encoder
from sentenc.shards import EncodingOptions, encode_with


def encode_folder(
    encoder: Encoder,
    model: str,
    files: tuple[str, ...],
    output: str,
    processes: int,
    quiet: bool,
    *,
    columns: str | None,
    column: str | None,
    text_field: str | None,
    normalize: bool,
    **others: Any,
) -> None:
    """Encodes files into a folder, and prints a summary.

    Args:
        encoder: The encoder.
        model: The name of its model for the manifest.
        files: Files, folders, patterns and addresses.
        output: The folder.
        processes: The number of processes.
        quiet: Draw no progress bar and print no summary.
        columns: Value of ``--columns``.
        column: Value of ``--column``.
        text_field: Value of ``--text-field``.
        normalize: Value of ``--normalize``.
        others: Options of the command that have the names of :class:`EncodingOptions`.
    """
    if not files:
        raise click.UsageError(f"-o {output} is a folder, expected files to encode")
    options = EncodingOptions(
        text=text_field, columns=None if columns is None else tuple(columns.split(",")),
        column=column or "embedding", normalize_embeddings=normalize, **others,
    )  # fmt: skip
    report = encode_with(encoder, model, files, output, options, processes, show_progress_bar=not quiet)
    if not quiet:
        count = "1 file" if report.files == 1 else f"{report.files} files"
        skipped = f" ({report.skipped} were there)" if report.skipped else ""
        click.echo(
            f"{count}{skipped}, {report.rows:,} rows, {report.dim} dimensions: {output}",
            err=True,
        )
