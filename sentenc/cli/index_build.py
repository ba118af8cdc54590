"""The command ``sentenc index build``: builds an index block by block, and resumes interrupted builds."""

import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentenc.cli.model_options import THREADS, load_model, model_options, optional_model
from sentenc.cli.passage_options import chunking_arguments, passage_options
from sentenc.cli.record_files import EmptyRows, files_in_folders, id_option, record_options, skip_empty_option
from sentenc.errors import TextFileError
from sentenc.io.records import open_records, record_blocks
from sentenc.threads import Threads

if TYPE_CHECKING:
    from sentenc.encoders.base import Encoder
    from sentenc.io.records import Record
    from sentenc.retrieval import Index

# Limits of the records that are in memory at a time and become one commit.
RECORDS_PER_COMMIT = 65_536
_CHARACTERS_PER_COMMIT = 1 << 26
# The records that are encoded twice to estimate the time of all, and the shortest time that is announced.
_RECORDS_TO_TIME, _SECONDS_TO_ANNOUNCE = 16, 20.0


@click.command("build")
@click.argument("files", nargs=-1, required=True, callback=files_in_folders)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="INDEX",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the index.",
)
@click.option(
    "-m", "--model", default="pair-en", show_default=True, help="Name, folder or Hub id of the encoder."
)
@model_options
@record_options
@skip_empty_option
@id_option
@click.option(
    "--metric",
    default="cosine",
    show_default=True,
    type=click.Choice(["cosine", "dot"]),
    help="Score of a query and an item.",
)
@click.option(
    "--kind",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "exact", "ivf", "ivfpq", "hnsw"]),
    help="How the index is searched; auto is exact up to 100,000 items.",
)
@click.option(
    "--store",
    default="float32",
    show_default=True,
    type=click.Choice(["float32", "float16", "int8", "binary"]),
    help="Number type of the stored vectors.",
)
@passage_options
@click.option(
    "--rerank-store",
    metavar="MODEL",
    help="Store the vectors of this model as well, for sentenc search --rerank MODEL.",
)
@click.option(
    "--language",
    help="Code of the language of the texts (en, de, ...), for the stemmer; by default that of the encoder.",
)
@click.option("--threads", type=THREADS, help="Number of encoding threads; by default all cores.")
@click.option("--overwrite", is_flag=True, help="Replace an existing index.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
def build_command(
    files: tuple[str, ...],
    output: Path,
    model: str,
    pooling: str | None,
    query_prompt: str | None,
    metric: str,
    kind: str,
    store: str,
    language: str | None,
    chunk: bool,
    chunk_tokens: int | None,
    overlap: int | None,
    rerank_store: str | None,
    threads: Threads | None,
    overwrite: bool,
    quiet: bool,
    skip_empty: bool,
    **reading: Any,
) -> None:
    """Build an index of the records of FILES (- is standard input).

    FILES are text (one record per line), CSV, TSV, JSON lines or Parquet; all but Parquet may be compressed
    (.gz, .bz2, .xz, .zst). Fields other than text and id become the payload of the item. The index is saved every 65,536
    records. Run the same command again to resume an interrupted build.
    """
    from sentenc.retrieval import Index
    from sentenc.retrieval.ann import EXACT_ROWS, import_faiss

    started = time.perf_counter()
    settings: dict[str, Any] = {"metric": metric, "kind": kind, "store": store, "language": language}
    options = {"model": model, **settings, **reading}
    settings |= chunking_arguments(chunk, chunk_tokens, overlap)
    encoder: Encoder | str
    if threads is None:
        encoder = optional_model(model, pooling, query_prompt) or model
    else:
        encoder = load_model(model, pooling, query_prompt, threads=threads)
    new = Index(encoder, **settings, rerank_store=rerank_store)
    options["skip_empty"] = skip_empty
    info = new.info()
    options["fingerprint"] = info["fingerprint"]
    options |= {key: info[key] for key in ("chunking", "reranker") if info[key] is not None}
    plan = {"sources": [_source(file) for file in files], "options": options}
    index, done = _begin(new, output, encoder, plan, overwrite)
    empty = EmptyRows(skip_empty)
    try:
        with open_records(files, "indexing", quiet, on_empty=empty, **reading) as records:
            # These records were saved by the interrupted run.
            next(islice(records, done, done), None)
            for number, block in enumerate(blocks(records)):
                if not quiet and not number:
                    announce_duration(index, block, model)
                # Not after all records were encoded.
                if kind not in ("auto", "exact") or (kind == "auto" and done + len(block) > EXACT_ROWS):
                    import_faiss()
                add_records(index, block)
                _save(index, output, plan, done + len(block), complete=False)
                done += len(block)
        index.optimize()
        _save(index, output, plan, done, complete=True)
    except BaseException:
        if done and "-" not in files:
            click.echo(f"{done:,} records are indexed. Run the same command again to resume", err=True)
        raise
    if not quiet:
        click.echo(f"{summary(index, time.perf_counter() - started)}: {output}{empty}", err=True)


def add_records(index: "Index", block: list["Record"]) -> None:
    """Adds records to an index; the error of an id that is repeated has its file and line."""
    ids = None if block[0].id is None else [record.id for record in block if record.id is not None]
    first: dict[int | str, Record] = {}
    for record in block if ids is not None else []:
        other = first.setdefault(record.id, record)  # type: ignore[arg-type]
        if other is not record:
            raise TextFileError(
                f"{record.path}, line {record.line}: the id {record.id!r} is also in {other.path}, "
                f"line {other.line}, expected distinct ids"
            )
    try:
        index.add([r.text for r in block], ids=ids, payloads=[r.payload for r in block])
    except ValueError as error:
        known = next((record for record in block if ids is not None and record.id in index), None)
        if known is None:
            raise
        raise TextFileError(
            f"{known.path}, line {known.line}: the id {known.id!r} is already in the index"
        ) from error


def announce_duration(index: "Index", block: list["Record"], model: str) -> None:
    """Prints about how long the encoding of the first records takes, if it takes 20 seconds or more.

    Args:
        index: The index.
        block: The records that are encoded first.
        model: The name of the encoder for the message.
    """
    encoder = index.encoder
    sample = [record.text for record in block[:: max(1, len(block) // _RECORDS_TO_TIME)][:_RECORDS_TO_TIME]]
    if encoder is None or len(block) <= _RECORDS_TO_TIME:
        return
    # The first call loads the model.
    encoder.encode_document(sample[:1], on_overflow="ignore")
    started = time.perf_counter()
    encoder.encode_document(sample, on_overflow="ignore")
    per_character = (time.perf_counter() - started) / max(1, sum(map(len, sample)))
    seconds = per_character * sum(len(record.text) for record in block)
    if seconds >= _SECONDS_TO_ANNOUNCE:
        shown = f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
        click.echo(
            f"{model} needs about {shown} to encode {len(block):,} records; cse-en (-m cse-en) needs a few "
            "seconds",
            err=True,
        )


def blocks(records: Iterator["Record"]) -> Iterator[list["Record"]]:
    """Yields lists of 65,536 records, or of fewer if their texts are long."""
    return record_blocks(records, RECORDS_PER_COMMIT, _CHARACTERS_PER_COMMIT)


def summary(index: "Index", seconds: float) -> str:
    """Returns one line about an index: items, dimensions, kind, recall, time, size."""
    info = index.info()
    ann = info["structure"]
    recall = "" if ann is None else f", recall@10 {ann['recall'][str(ann['effort'])]:.3f}"
    passages = "" if info["passages"] == info["items"] else f", {info['passages']:,} passages"
    return (
        f"{info['items']:,} items{passages}, {info['dim']} dimensions, {info['searched by']}{recall}, "
        f"{seconds:.1f} s, {info['bytes'] / 1e6:.1f} MB"
    )


def note_model(index: "Index", model: str | None) -> None:
    """Notes the model of an index whose vectors were replaced, so that an interrupted build resumes with it.

    Args:
        index: The index.
        model: The name of the model on the command line; None if it is still the same.
    """
    build = index.notes.get("build")
    if build is not None:
        info = index.info()
        build["options"] |= {"fingerprint": info["fingerprint"]} | ({} if model is None else {"model": model})
        build["options"] |= {key: info[key] for key in ("chunking", "reranker") if info[key] is not None}


def _begin(
    new: "Index", output: Path, encoder: "Encoder | str", plan: dict[str, Any], overwrite: bool
) -> tuple["Index", int]:
    """Returns the index to extend, and the number of records that it already contains."""
    from sentenc.retrieval import Index
    from sentenc.retrieval.manifest import is_index, read_manifest

    if not is_index(output):
        if output.exists() and any(output.iterdir()):
            raise click.ClickException(
                f"{output} contains files that are not an index: choose another folder"
            )
        return new, 0
    build = read_manifest(output).notes.get("build")
    if build is None or build["complete"]:
        if overwrite:
            return new, 0
        raise click.ClickException(f"{output} already contains an index: --overwrite replaces it")
    differing = [key for key in ("sources", "options") if build[key] != plan[key]]
    from_stdin = any(source["path"] == "-" for source in plan["sources"])
    if not differing and not from_stdin:
        click.echo(f"{output} is unfinished: resuming after {build['records']:,} records", err=True)
        return Index.open(output, encoder), int(build["records"])
    if overwrite:
        return new, 0
    if differing:
        raise click.ClickException(
            f"{output} is an unfinished build of other {' and '.join(differing)}: "
            "run the original command to resume it, or replace it with --overwrite"
        )
    raise click.ClickException(
        f"{output} is unfinished, and a build from standard input cannot be resumed: use --overwrite"
    )


def _source(file: str) -> dict[str, Any]:
    # A file of another size or time is another source.
    if file == "-":
        return {"path": file, "size": None, "mtime_ns": None}
    status = os.stat(file)
    return {"path": file, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _save(index: "Index", folder: Path, plan: dict[str, Any], done: int, complete: bool) -> None:
    index.notes["build"] = {**plan, "records": done, "complete": complete}
    index.save(folder)
