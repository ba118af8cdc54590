"""The command ``sentenc align``: fits word vectors into the vector space of another encoder."""

import shlex
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentenc.cli.model_options import THREADS, load_model, model_options
from sentenc.cli.record_files import files_in_folders, record_options
from sentenc.io.records import open_records

if TYPE_CHECKING:
    from sentenc import Encoder

_FILES = click.Path(exists=True, path_type=str)
# Options without a meaning for vectors that are already there.
_OF_TEACHERS = (
    "endpoint_model", "api_key_env", "dim", "cache", "max_minutes", "pooling", "query_prompt", "threads",
)  # fmt: skip


@click.command("align")
@click.argument("source", metavar="[TEACHER|VECTORS]", required=False)
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder of the model.")  # fmt: skip
@click.option("--endpoint", metavar="URL",
              help="Base URL of an OpenAI-compatible endpoint, in the place of TEACHER, such as "
              "https://api.openai.com/v1.")  # fmt: skip
@click.option("--model", "endpoint_model", metavar="NAME", help="Name of the model at the endpoint.")
@click.option("--api-key-env", metavar="VARIABLE",
              help="Environment variable with the key of the endpoint; by default OPENAI_API_KEY.")  # fmt: skip
@click.option("--queries", multiple=True, type=_FILES, callback=files_in_folders, metavar="FILE",
              help="File or folder of queries, or of texts like them. May be repeated.")  # fmt: skip
@click.option("--corpus", multiple=True, type=_FILES, callback=files_in_folders, metavar="FILE",
              help="File or folder of the documents to search. Their sentences serve as queries as well, or "
              "alone if there are none. May be repeated.")  # fmt: skip
@record_options
@click.option("--vector-field", help="Field of VECTORS with the vectors; by default embedding.")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Folder in BEIR's layout: its judgments appear in the report, and its documents are the "
              "collection unless --corpus is given.")  # fmt: skip
@click.option("--dim", type=click.IntRange(min=1),
              help="Number of leading dimensions to keep, for a teacher trained for it (Matryoshka).")  # fmt: skip
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path),
              help="Folder of the teacher's vectors; by default OUTPUT-vectors.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(min=1),
              help="How often every text is used; by default 6, and 10 for VECTORS.")  # fmt: skip
@click.option("--max-texts", type=click.IntRange(min=1),
              help="Maximum number of texts to use, by default 300,000.")  # fmt: skip
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True),
              help="Time limit for the teacher's vectors of queries; texts without one are left out.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), help="Seed of samples and of the order of texts.")
@model_options
@click.option("--threads", type=THREADS, help="Number of threads of the teacher.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the report: no progress bars, no summary.")
def align_command(
    source: str | None,
    output: Path,
    queries: tuple[str, ...],
    corpus: tuple[str, ...],
    quiet: bool,
    **options: Any,
) -> None:
    """Fit word vectors into the space of the encoder TEACHER, so that queries cost microseconds.

    TEACHER is the name, folder or Hub id of the encoder that encodes your documents. The model in OUTPUT
    encodes queries for an index of these documents. It is fitted to the vectors of TEACHER for queries and
    for sentences of the collection. The report is measured on texts that are kept out of training.

    VECTORS is an index folder, a .parquet or .npz file with texts and vectors, or a folder of such .parquet files.
    The model is then fitted to these alone. This needs no teacher, but TEACHER and --queries give better queries.

    With --endpoint and --model, an OpenAI-compatible endpoint is the teacher. No text is sent to it twice,
    also if the command is stopped: all vectors are in the cache.

    Ctrl-C stops the command, and the same command continues with the vectors that are in the cache.
    """
    import sentenc

    _check_output(output)
    names = {field.name for field in fields(sentenc.AlignmentSettings)}
    chosen = {name: value for name, value in options.items() if name in names and value is not None}
    shared = {
        "data": options["data"],
        "settings": sentenc.AlignmentSettings(**chosen),
        "name": output.name,
        "command": shlex.join(["sentenc", *sys.argv[1:]]),
        "show_progress_bar": not quiet,
    }
    if source is not None and _has_vectors(source):
        if options["endpoint"] is not None:
            raise click.UsageError(f"--endpoint is a teacher, and {source} has vectors")
        for name in _OF_TEACHERS:
            if options[name] is not None:
                option = name.removeprefix("endpoint_").replace("_", "-")
                raise click.UsageError(f"--{option} applies to a teacher, and {source} has vectors")
        if queries or corpus:
            raise click.UsageError(f"--queries and --corpus apply to a teacher, and {source} has vectors")
        if options["format"] is not None:
            raise click.UsageError(f"--format applies to --queries and --corpus, and {source} has vectors")
        vectors = _vectors(source, options)
        result = sentenc.align_vectors(vectors, **shared)
        counts = "".join(f"; left out: {count:,} with {reason}" for reason, count in vectors.left_out.items())
    else:
        if options["vector_field"] is not None:
            raise click.UsageError(
                "--vector-field applies to VECTORS, and the vectors are those of a teacher"
            )
        if not queries and not corpus and options["data"] is None:
            raise click.UsageError("there are no texts: pass --queries, --corpus or --data")
        teacher = _teacher(source, options)
        reading = {"text_field": options["text_field"], "format": options["format"]}
        result = sentenc.align(
            teacher,
            queries=_texts(queries, "queries", quiet, reading),
            corpus=_texts(corpus, "documents", quiet, reading),
            dim=options["dim"],
            cache=options["cache"] or output.with_name(f"{output.name}-vectors"),
            **shared,
        )
        counts = _sent(teacher)
    result.encoder.save(output)
    click.echo(result.report.to_text())
    if not quiet:
        click.echo(f"\nwrote the model to {output}{counts}", err=True)


def _check_output(output: Path) -> None:
    # Called before minutes of work, not after.
    from sentenc.checkpoint import is_checkpoint

    if output.exists() and any(output.iterdir()) and not is_checkpoint(output):
        raise click.ClickException(f"{output} contains other files: choose another folder")


def _teacher(source: str | None, options: dict[str, Any]) -> "Encoder":
    import sentenc

    url, model, variable = options["endpoint"], options["endpoint_model"], options["api_key_env"]
    if url is None and variable is not None:
        raise click.UsageError(f"--api-key-env is {variable!r}, but applies to --endpoint only")
    if source is not None and url is None and model is None:
        from sentenc.registry import pooling_required

        with pooling_required():
            return load_model(source, options["pooling"], options["query_prompt"], threads=options["threads"])
    if source is not None or url is None or model is None:
        raise click.UsageError("expected either TEACHER or VECTORS, or --endpoint and --model")
    for name in ("pooling", "threads"):
        if options[name] is not None:
            raise click.UsageError(f"--{name} is for a folder, and an endpoint computes the vectors itself")
    prompt = options["query_prompt"]
    try:
        variable = "OPENAI_API_KEY" if variable is None else variable
        return sentenc.EndpointEncoder(url, model, api_key_env=variable, query_prompt=prompt)
    except ValueError as error:
        raise click.UsageError(f"--endpoint: {error}") from error


def _sent(teacher: "Encoder") -> str:
    # An answer of an endpoint may cost money.
    from sentenc import EndpointEncoder

    if not isinstance(teacher, EndpointEncoder):
        return ""
    requests, texts, tokens = teacher.usage
    return f"; sent {texts:,} texts ({tokens:,} tokens) in {requests:,} requests to the endpoint"


def _has_vectors(source: str) -> bool:
    # Whether the argument is an index, a file of vectors or a folder of such files, and no model.
    from sentenc.retrieval.vector_sources import is_vector_folder

    path = Path(source)
    return path.is_file() or (path / "index.json").is_file() or is_vector_folder(path)


def _vectors(source: str, options: dict[str, Any]) -> Any:
    from sentenc.retrieval.vector_sources import read_text_vectors

    return read_text_vectors(source, text_field=options["text_field"], vector_field=options["vector_field"])


def _texts(files: tuple[str, ...], label: str, quiet: bool, reading: dict[str, Any]) -> list[str]:
    if not files:
        return []
    with open_records(files, f"reading {label}", quiet, **reading) as records:
        return [record.text for record in records]
