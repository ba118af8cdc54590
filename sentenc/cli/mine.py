"""The command ``sentenc mine``: finds near-duplicates and paraphrases within a file."""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from sentenc.cli.model_options import THREADS, load_model, pooling_option
from sentenc.cli.record_files import EmptyRows, record_options, skip_empty_option
from sentenc.io.records import open_records
from sentenc.io.tables import tsv_line
from sentenc.texts import replace_lone_surrogates
from sentenc.threads import Threads

if TYPE_CHECKING:
    from sentenc.retrieval.mining import MinedPairs

OutputRows = Iterable[dict[str, Any]]


@click.command("mine")
@click.argument("file")
@click.option(
    "--threshold",
    default=0.9,
    show_default=True,
    type=click.FloatRange(-1, 1),
    help="Minimum cosine of a pair.",
)
@click.option(
    "-m", "--model", default="cse-en", show_default=True, help="Name, folder or Hub id of the encoder."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Output file, .tsv or .jsonl; by default TSV to standard output.",
)
@click.option(
    "--top",
    default=1_000_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Maximum number of pairs; the best are written.",
)
@click.option(
    "--groups", is_flag=True, help="Write groups of lines that are connected by pairs, instead of pairs."
)
@pooling_option
@record_options
@skip_empty_option
@click.option("--threads", type=THREADS, help="Number of encoding threads; by default all cores.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bars and no summary.")
def mine_command(
    file: str,
    threshold: float,
    model: str,
    pooling: str | None,
    output: Path | None,
    top: int,
    groups: bool,
    threads: Threads | None,
    quiet: bool,
    skip_empty: bool,
    **reading: Any,
) -> None:
    """Find pairs of similar texts in FILE (- is standard input), best first.

    Each repetition of a text is paired once, with its first occurrence. More than 200,000 texts are compared
    by an ANN index (extra "retrieval"), which may miss pairs.
    """
    from sentenc.retrieval.mining import mine_pairs

    if output is not None and output.suffix not in (".tsv", ".jsonl"):
        raise click.BadParameter(f"{output} ends in {output.suffix!r}, expected .tsv or .jsonl")
    if output is not None and not output.absolute().parent.is_dir():
        raise click.BadParameter(f"the folder of {output} does not exist")
    started = time.perf_counter()
    encoder = load_model(model, pooling, threads=threads)
    texts: list[str] = []
    lines: list[int] = []
    empty = EmptyRows(skip_empty)
    with open_records((file,), "reading", quiet, on_empty=empty, **reading) as records:
        for record in records:
            texts.append(record.text)
            lines.append(record.line)
    pairs = mine_pairs(
        texts, encoder=encoder, threshold=threshold, max_pairs=top, show_progress_bar=not quiet
    )
    as_json = output is not None and output.suffix == ".jsonl"
    rows = _groups(pairs, texts, lines, as_json) if groups else _pairs(pairs, texts, lines)
    with _writable(output) as target:
        _write(target, rows, as_json)
    if not quiet:
        _print_summary(pairs, len(texts), threshold, time.perf_counter() - started, empty)


def _pairs(pairs: "MinedPairs", texts: list[str], lines: list[int]) -> OutputRows:
    for score, left, right in pairs:
        yield {
            "score": round(score, 6),
            "line_a": lines[left],
            "line_b": lines[right],
            "text_a": texts[left],
            "text_b": texts[right],
        }


def _groups(pairs: "MinedPairs", texts: list[str], lines: list[int], as_json: bool) -> OutputRows:
    from sentenc.retrieval.mining import group_pairs

    for number, group in enumerate(group_pairs(len(texts), pairs.left, pairs.right), 1):
        if as_json:
            yield {"group": number, "lines": [lines[i] for i in group], "texts": [texts[i] for i in group]}
        else:
            for row in group:
                yield {"group": number, "line": lines[row], "text": texts[row]}


@contextmanager
def _writable(output: Path | None) -> Iterator[TextIO]:
    from sentenc.io.atomic import replacing_file

    if output is None:
        yield sys.stdout
        return
    with replacing_file(output) as path, open(path, "w", encoding="utf-8", newline="") as file:
        yield file


def _write(target: TextIO, rows: OutputRows, as_json: bool) -> None:
    for number, row in enumerate(rows):
        if as_json:
            target.write(json.dumps(row) + "\n")
            continue
        if number == 0:
            target.write(tsv_line(row))
        target.write(tsv_line(replace_lone_surrogates(str(value)) for value in row.values()))


def _print_summary(
    pairs: "MinedPairs", texts: int, threshold: float, seconds: float, empty: EmptyRows
) -> None:
    cut = "" if pairs.total == len(pairs) else f", the best {len(pairs):,} of them written"
    missing = "" if pairs.exact else " (an ANN index was used: some may be missing)"
    click.echo(
        f"{texts:,} texts, {pairs.total:,} pairs with a cosine of {threshold} or more{cut}{missing}, "
        f"{seconds:.1f} s{empty}",
        err=True,
    )
