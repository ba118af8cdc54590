"""``sentenc classify``: predicts the labels of the texts of a file."""

import csv
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click
import numpy as np

from sentenc.cli.label_columns import choose_columns
from sentenc.cli.model_options import THREADS
from sentenc.encoders.hybrid.encoder import HybridEncoder
from sentenc.errors import TextFileError
from sentenc.io.atomic import replacing_file
from sentenc.io.disk_full import naming_full_disk
from sentenc.io.formats import FORMATS
from sentenc.io.labeled import Columns, column_names, texts_of
from sentenc.io.records import Record, open_records, record_blocks
from sentenc.io.tables import tsv_line
from sentenc.texts import replace_lone_surrogates
from sentenc.threads import Threads, thread_count

# Limits of the records that are in memory at a time: their number, and their characters.
_RECORDS_PER_BLOCK, _CHARACTERS_PER_BLOCK = 2048, 1 << 24
_SUFFIXES = (".csv", ".tsv", ".jsonl")


@click.command("classify")
@click.argument("model", metavar="FOLDER", type=click.Path(exists=True, file_okay=False))
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Output file: .csv, .tsv or .jsonl; by default TSV on standard output.",
)
@click.option(
    "--text-column", metavar="NAME", help="Column of the texts; by default it is chosen by its name."
)
@click.option("--text2-column", metavar="NAME", help="Column of the second texts, for pairs.")
@click.option("--format", type=click.Choice(FORMATS), help="File format; by default from the suffix.")
@click.option(
    "-k",
    "--top-k",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of labels to predict, the most probable first.",
)
@click.option("--proba", is_flag=True, help="Add the probability of every label.")
@click.option("--labels-separator", default=";", show_default=True, help="Separator of several labels.")
@click.option("--threads", type=THREADS, help="Threads for encoding; all cores by default.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
def classify_command(
    model: str, files: tuple[str, ...], output: Path | None, quiet: bool, **options: Any
) -> None:
    """Classify the texts of FILEs with the classifier in FOLDER, written by `sentenc fit`.

    FILEs are text (one text per line; - is standard input), CSV, TSV, JSON lines or Parquet, also
    .gz, .bz2, .xz and .zst. Every row is written with all its fields, followed by "predicted" and "probability". Pairs are two
    columns, or in text files two parts separated by a tab. The output file appears when it is complete.
    """
    if output is not None and output.suffix not in _SUFFIXES:
        raise click.BadParameter(
            f"{output} ends in {output.suffix!r}, expected one of {', '.join(_SUFFIXES)}"
        )
    if output is not None and not output.absolute().parent.is_dir():
        raise click.BadParameter(f"the folder of {output} does not exist")
    kind = ".tsv" if output is None else output.suffix
    estimator = load_fitted(model, options["threads"])
    labeler = _Labeler(estimator, options["top_k"], options["proba"], options["labels_separator"], kind)
    started = time.perf_counter()
    with _spooled(files, options["format"]) as paths:
        header, columns = _columns(paths, labeler.is_pair, options)
        labeler.check_fields(header, paths[0])
        text_field = None if columns is None else columns.text
        with open_records(
            paths, "classifying", quiet, text_field=text_field, format=options["format"]
        ) as records:
            rows = labeler.rows(records, columns)
            if output is None:
                n_rows = _write(rows, sys.stdout, kind, [*header, *labeler.names])
                sys.stdout.flush()
            else:
                with (
                    replacing_file(output) as temporary,
                    open(temporary, "w", encoding="utf-8", newline="") as file,
                ):
                    n_rows = _write(rows, file, kind, [*header, *labeler.names])
    if not quiet:
        target = "" if output is None else f": {output}"
        click.echo(
            f"{n_rows:,} {'row' if n_rows == 1 else 'rows'} in {time.perf_counter() - started:.1f} s{target}",
            err=True,
        )


def load_fitted(folder: str, threads: Threads | None) -> Any:
    """Loads the estimator in a folder, and sets the number of threads of its encoder."""
    from sentenc import downstream

    estimator = downstream.load(folder)
    encoder = estimator.encoder_
    encoder = encoder.encoder if isinstance(encoder, HybridEncoder) else encoder
    # Encoders on torch share its global thread settings, which are left alone.
    if threads is not None and hasattr(encoder, "threads"):
        encoder.threads = thread_count(threads)
    return estimator


class _Labeler:
    """Adds predictions to records.

    Attributes:
        is_pair: Whether the estimator classifies pairs.
        names: The fields that are added.
    """

    def __init__(self, estimator: Any, top_k: int, proba: bool, separator: str, kind: str) -> None:
        from sentenc.downstream import SentenceClassifier

        self._estimator, self._proba, self._separator = estimator, proba, separator
        self._json = kind == ".jsonl"
        self.is_pair = not isinstance(estimator, SentenceClassifier)
        self._is_score = hasattr(estimator, "steps_")
        self._is_multi = not self._is_score and bool(estimator.multi_label_)
        if top_k > 1 and (self._is_score or self._is_multi):
            what = "scores" if self._is_score else "several labels per text"
            raise click.UsageError(
                f"--top-k: the classifier predicts {what}; use --proba for all probabilities"
            )
        self._classes = (estimator.steps_ if self._is_score else estimator.classes_).tolist()
        self._top_k = min(top_k, len(self._classes))
        self.names = ["predicted"] if self._is_score else ["predicted", "probability"]
        if self._json:
            self.names += ["top"] * (self._top_k > 1) + ["probabilities"] * proba
            return
        for k in range(2, self._top_k + 1):
            self.names += [f"predicted_{k}", f"probability_{k}"]
        if proba:
            self.names += [f"p_{_plain(label)}" for label in self._classes]

    def check_fields(self, names: Iterable[str], place: str) -> None:
        """Raises an error if a field of the input would be replaced by one that is added."""
        taken = set(names)
        if clash := next((name for name in self.names if name in taken), None):
            raise TextFileError(
                f"{place}: the field {clash!r} would be replaced by the prediction: rename it or leave it out"
            )

    def rows(self, records: Iterator[Record], columns: Columns | None) -> Iterator[dict[str, Any]]:
        """Yields the fields of each record, with predictions."""
        for block in record_blocks(records, _RECORDS_PER_BLOCK, _CHARACTERS_PER_BLOCK):
            fields = [_fields(record, columns, self.is_pair) for record in block]
            texts = [tuple(parts[:2]) if self.is_pair else parts[0] for parts in fields]
            probabilities = self._estimator.predict_proba(texts)
            for record, parts, row in zip(block, fields, probabilities, strict=True):
                # Objects of JSON lines may differ in their fields, and tables in their columns.
                self.check_fields(parts[-1], f"{record.path}, line {record.line}")
                yield {**parts[-1], **self._prediction(row)}

    def _prediction(self, row: Any) -> dict[str, Any]:
        if self._is_score:
            added: dict[str, Any] = {"predicted": _rounded(row @ np.asarray(self._classes, np.float64))}
        elif self._is_multi:
            chosen = [i for i in np.argsort(-row, kind="stable").tolist() if row[i] > 0.5]
            labels, shown = [self._classes[i] for i in chosen], [_rounded(row[i]) for i in chosen]
            added = {"predicted": labels, "probability": shown}
            if not self._json:
                added = {name: self._separator.join(map(str, values)) for name, values in added.items()}
        else:
            best = np.argsort(-row, kind="stable")[: self._top_k].tolist()
            names, values = [self._classes[i] for i in best], [_rounded(row[i]) for i in best]
            added = {"predicted": names[0], "probability": values[0]}
            if self._json and self._top_k > 1:
                added["top"] = [{"label": n, "probability": p} for n, p in zip(names, values, strict=True)]
            elif self._top_k > 1:
                for k, (name, value) in enumerate(zip(names[1:], values[1:], strict=True), 2):
                    added |= {f"predicted_{k}": name, f"probability_{k}": value}
        if self._proba:
            prefix = "" if self._json else "p_"
            by_label = {
                f"{prefix}{_plain(name)}": _rounded(p) for name, p in zip(self._classes, row, strict=True)
            }
            added |= {"probabilities": by_label} if self._json else by_label
        return added


def _columns(
    paths: tuple[str, ...], is_pair: bool, options: dict[str, Any]
) -> tuple[list[str], Columns | None]:
    """Returns the columns of the input, and the roles of some of them; None for plain text."""
    names = column_names(paths[0], options["format"])
    if not names:
        if options["text_column"] or options["text2_column"]:
            raise click.UsageError(
                f"{paths[0]} is read as plain text, which has no columns: pass its format as --format"
            )
        return (["text1", "text2"] if is_pair else ["text"]), None
    if options["text2_column"] is not None and not is_pair:
        raise click.UsageError("--text2-column: the classifier takes single texts")
    columns = choose_columns(
        paths[0],
        names,
        text=options["text_column"],
        text2=options["text2_column"],
        needs_label=False,
        pairs=is_pair,
    )
    return names, columns


def _fields(record: Record, columns: Columns | None, is_pair: bool) -> list[Any]:
    """Returns the text or the two texts of a record, followed by all its fields."""
    if columns is not None:
        texts = [text for _, text in texts_of(record, columns)]
        return [*texts, {columns.text: record.text, **(record.payload or {})}]
    if not is_pair:
        return [record.text, {"text": record.text}]
    parts = record.text.split("\t")
    if len(parts) != 2:
        raise TextFileError(
            f"{record.path}, line {record.line}: {len(parts)} parts, expected two texts separated by a tab"
        )
    return [*parts, {"text1": parts[0], "text2": parts[1]}]


def _write(rows: Iterable[dict[str, Any]], file: IO[str], kind: str, header: list[str]) -> int:
    n_rows = 0
    header = list(dict.fromkeys(header))
    writer = csv.writer(file, lineterminator="\n")

    def write_cells(cells: Iterable[Any]) -> None:
        if kind == ".csv":
            writer.writerow(cells)
        else:
            file.write(tsv_line(cells))

    if kind != ".jsonl":
        write_cells(map(_cell, header))
    for n_rows, row in enumerate(rows, 1):
        if kind == ".jsonl":
            file.write(replace_lone_surrogates(json.dumps(row, ensure_ascii=False)) + "\n")
            continue
        if other := row.keys() - set(header):
            raise TextFileError(
                f"row {n_rows} has the field {min(other)!r}, which the first row lacks: "
                "write to a .jsonl file"
            )
        write_cells(_cell(row.get(name, "")) for name in header)
    return n_rows


@contextmanager
def _spooled(files: tuple[str, ...], format: str | None) -> Iterator[tuple[str, ...]]:
    # A table on standard input is copied to a file, because its header is read first.
    if "-" not in files or format in (None, "text"):
        yield files
        return
    with tempfile.NamedTemporaryFile(prefix="standard-input-") as file:
        with naming_full_disk(Path(file.name)):
            shutil.copyfileobj(sys.stdin.buffer, file)
            file.flush()
        yield tuple(file.name if name == "-" else name for name in files)


def _cell(value: Any) -> Any:
    value = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
    return replace_lone_surrogates(value) if isinstance(value, str) else value


def _plain(label: Any) -> str:
    return f"{label:g}" if isinstance(label, float) else str(label)


def _rounded(probability: Any) -> float:
    return round(float(probability), 6)
