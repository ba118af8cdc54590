"""``sentenc fit``: a classifier from a file of labeled texts, and a report on how good it is."""

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentenc.io.records import FORMATS

if TYPE_CHECKING:
    from sentenc.downstream.report import Report
    from sentenc.io.labeled import Columns, Examples

# What only the folder of a classifier holds: no other folder is ever replaced.
_MARKER = "head.safetensors"
# Options of end-to-end tuning.
_TUNING = ("epochs", "batch_size", "learning_rate", "regularization", "patience", "max_minutes")
_FILE = click.Path(exists=True, dir_okay=False)


def _strength(ctx: click.Context, param: click.Parameter, value: str) -> float | str:
    if value == "auto":
        return value
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise click.BadParameter(f"{value!r} is neither 'auto' nor a number above 0")
    return number


@click.command("fit")
@click.argument("data", nargs=-1, required=True, type=_FILE, metavar="DATA...")
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path),
              metavar="FOLDER", help="Where the classifier goes.")  # fmt: skip
@click.option("--text-column", metavar="NAME", help="The texts; by default the obvious column.")
@click.option("--text2-column", metavar="NAME", help="The second texts, of pairs.")
@click.option("--label-column", metavar="NAME", help="The labels; by default the obvious column.")
@click.option("--score-column", metavar="NAME", help="Scores of pairs instead of labels.")
@click.option(
    "--labels-separator", metavar="TEXT", help="What stands between labels, where a text may have several."
)
@click.option("--format", type=click.Choice(FORMATS[1:]), help="Of the files; by default their suffixes say.")
@click.option("--skip-empty", is_flag=True, help="Leave out rows without text or label, however many.")
@click.option("-m", "--model", default="cse-en", show_default=True, help="Encoder: name, folder or Hub id.")
@click.option("--tune", type=click.Choice(["head", "all"]), default="head", show_default=True,
              help="The classifier on top, or the encoder too (extra train).")  # fmt: skip
@click.option("--init", type=click.Choice(["pretrained", "random"]), default="pretrained", show_default=True,
              help="Start of the encoder; random is for comparison.")  # fmt: skip
@click.option("--test", type=_FILE, metavar="FILE", help="Labeled examples to report on.")
@click.option("--test-fraction", type=click.FloatRange(0, 1, max_open=True), default=0.2, show_default=True,
              help="Share of DATA to report on, without --test; 0: no report.")  # fmt: skip
@click.option("--refit", is_flag=True, help="After the report, fit once more on all examples, and save that.")
@click.option("-C", "strength", callback=_strength, default="auto", metavar="auto|NUMBER", show_default=True,
              help="Inverse of the head's regularization.")  # fmt: skip
@click.option("--balanced", is_flag=True, help="Rare labels count as much as frequent ones.")
@click.option("--epochs", type=click.IntRange(1), help="At most so many, with --tune all.")
@click.option("--batch-size", type=click.IntRange(1), help="Examples in a step, with --tune all.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="With --tune all.")
@click.option("--regularization", type=click.FloatRange(0),
              help="Pull towards the pretrained encoder, with --tune all.")  # fmt: skip
@click.option("--patience", type=click.IntRange(1), help="Epochs without progress, with --tune all.")
@click.option("--max-minutes", type=click.FloatRange(0, min_open=True),
              help="End the tuning within this time, with --tune all.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Threads that encode; all cores by default.")
@click.option("--overwrite", is_flag=True, help="Replace the classifier that is there.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bars and no summary, only the report.")
def fit_command(data: tuple[str, ...], output: Path, quiet: bool, **options: Any) -> None:
    """Fit a classifier to the labeled texts of DATA: CSV, TSV, JSON lines or Parquet, also .gz and .xz.

    With a second text column it classifies pairs; with a score column it learns to score them. A part of
    the examples is held out, and a report on it is printed and kept in FOLDER/report, with a picture and
    all errors. What is saved is what was reported on, fitted to the other part, unless --refit is given.
    """
    _check_output(output, options["overwrite"])
    if options["tune"] == "head" and (idle := [name for name in _TUNING if options[name] is not None]):
        raise click.UsageError(f"--{idle[0].replace('_', '-')} is for --tune all")
    if options["tune"] == "all":
        # torch's threads wait for each other in a busy loop by default; read when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if options["test"] is not None or options["test_fraction"]:
        from sentenc.downstream.report_plot import require_matplotlib

        require_matplotlib()

    def say(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    columns, train, test = _read(data, quiet, options)
    say(_about(data, columns, train))
    everything = train if test is None else _joined(train, test)
    if test is None:
        train, test = _divided(train, options, say)
    say(
        f"fitting on {len(train.texts):,} examples"
        + (f", testing on {len(test.texts):,}" if test.texts else "")
    )
    estimator = _fitted(train, columns, quiet, options)
    say(f"fitted{_how(estimator)}\n")
    report = _report(estimator, test) if test.texts else None
    history = getattr(estimator, "history_", None)
    if report is not None:
        from sentenc.downstream.report_text import to_text

        click.echo(to_text(report))
    if options["refit"] and report is not None:
        estimator = _fitted(everything, columns, quiet, options)
        say(f"\nfitted again, on all {len(everything.texts):,} examples{_how(estimator)}")
    settings = _settings(data, columns, len(train.texts), options)
    _save(estimator, output, report, settings, history)
    pair = " PAIRS.csv" if columns.text2 else " FILE"
    say(f"\nthe classifier is in {output}" + (f", the report in {output / 'report'}" if report else ""))
    say(f"sentenc classify {shlex.quote(str(output))}{pair}")


def _check_output(output: Path, overwrite: bool) -> None:
    # Before minutes of work, not after.
    if not output.exists() or not any(output.iterdir()):
        return
    if not (output / _MARKER).exists():
        raise click.ClickException(f"{output} is a folder with other things in it: choose another place")
    if not overwrite:
        raise click.ClickException(f"there is a classifier in {output} already: --overwrite replaces it")


def _read(
    data: tuple[str, ...], quiet: bool, options: dict[str, Any]
) -> "tuple[Columns, Examples, Examples | None]":
    """Columns, examples to fit to, and those of ``--test``."""
    from sentenc.io.labeled import choose_columns, column_names, read_examples

    names = column_names(data[0], options["format"])
    if not names:
        raise click.ClickException(
            f"{data[0]} has no columns, expected CSV, TSV, JSON lines or Parquet (--format)"
        )
    columns = choose_columns(
        data[0],
        names,
        text=options["text_column"],
        text2=options["text2_column"],
        label=options["label_column"],
        score=options["score_column"],
    )
    if columns.is_score and columns.text2 is None:
        raise click.UsageError(
            f"scores are learnt for pairs of texts: name the second text with --text2-column, or call "
            f"{columns.label!r} a label with --label-column"
        )
    for flag, given in (
        ("--labels-separator", options["labels_separator"]),
        ("--balanced", options["balanced"]),
    ):
        if columns.is_score and given:
            raise click.UsageError(f"{flag} is for labels, not for the scores in {columns.label!r}")
    how: dict[str, Any] = {
        "format": options["format"], "separator": options["labels_separator"],
        "skip_empty": options["skip_empty"], "quiet": quiet,
    }  # fmt: skip
    train = read_examples(data, columns, **how)
    test = None if options["test"] is None else read_examples([options["test"]], columns, **how)
    for files, examples in ((data, train), ([options["test"]], test)):
        if examples is not None and not examples.texts:
            raise click.ClickException(f"{', '.join(files)}: no example with a text and a label")
    return columns, train, test


def _divided(
    examples: "Examples", options: dict[str, Any], say: Callable[[str], None]
) -> "tuple[Examples, Examples]":
    """Examples to fit to, and those held out."""
    from sentenc.splits import train_test_split

    train_rows, test_rows = train_test_split(examples.labels, options["test_fraction"], options["seed"])
    train, test = _rows(examples, train_rows), _rows(examples, test_rows)
    if not test.texts:
        few = "too few examples to hold any out" if options["test_fraction"] else "no example is held out"
        say(f"{few}: there is no report")
    known = set(train.texts)
    if shared := sum(text in known for text in test.texts):
        say(
            f"warning: {shared:,} of the {len(test.texts):,} examples held out have a text that is fitted to as "
            "well: the report is too good for new texts"
        )
    return train, test


def _fitted(train: "Examples", columns: "Columns", quiet: bool, options: dict[str, Any]) -> Any:
    import sentenc
    from sentenc import downstream

    threads = {} if options["threads"] is None else {"threads": options["threads"]}
    # What is not said is left to the estimator's own defaults.
    chosen = {name: options[name] for name in _TUNING if options[name] is not None}
    if options["balanced"]:
        chosen["class_weight"] = "balanced"
    kind: Any = downstream.SentenceClassifier
    if columns.text2 is not None:
        kind = downstream.SentencePairRegressor if columns.is_score else downstream.SentencePairClassifier
    estimator = kind(
        sentenc.load(options["model"], **threads),
        tune=options["tune"],
        init=options["init"],
        C=options["strength"],
        random_state=options["seed"],
        show_progress_bar=not quiet,
        **chosen,
    )
    try:
        return estimator.fit(train.texts, train.labels)
    except FloatingPointError as error:
        raise click.ClickException(str(error)) from error


def _report(estimator: Any, test: "Examples") -> "Report":
    from sentenc.downstream.report import classification_report, multi_label_report, regression_report

    if hasattr(estimator, "steps_"):
        return regression_report(test.labels, estimator.predict(test.texts), test.texts, test.places)
    # Once, rather than once more for predict().
    probabilities = estimator.predict_proba(test.texts)
    if estimator.multi_label_:
        predicted: list[Any] = [estimator.classes_[row > 0.5] for row in probabilities]
        make: Any = multi_label_report
    else:
        predicted = list(estimator.classes_[probabilities.argmax(axis=1)])
        make = classification_report
    report: Report = make(test.labels, predicted, probabilities, estimator.classes_, test.texts, test.places)
    return report


def _save(
    estimator: Any, output: Path, report: "Report | None", settings: dict[str, Any], history: Any
) -> None:
    from sentenc.cli.fit_report import write_report
    from sentenc.errors import CheckpointError
    from sentenc.io.atomic import replacing_folder

    # Classifier and report take their place together.
    with replacing_folder(output, _MARKER, CheckpointError, "a classifier") as staging:
        estimator.save(staging)
        if report is not None:
            write_report(report, staging / "report", settings, history)


def _settings(
    data: tuple[str, ...], columns: "Columns", n_train: int, options: dict[str, Any]
) -> dict[str, Any]:
    from sentenc import __version__

    return {
        "command": shlex.join(["sentenc", *sys.argv[1:]]),
        "data": ", ".join(data),
        "tested on": options["test"] or f"{options['test_fraction']:.0%} of the data, held out",
        "columns": ", ".join(name for name in columns[:3] if name is not None),
        "fitted on": f"{n_train:,} examples" + (" (the saved one then on all)" if options["refit"] else ""),
        "encoder": options["model"],
        "tuned": "the head" if options["tune"] == "head" else "head and encoder",
        "version": f"sentenc {__version__}",
    }


def _rows(examples: "Examples", rows: list[int]) -> "Examples":
    texts, labels, places = ([column[i] for i in rows] for column in examples[:3])
    return examples._replace(texts=texts, labels=labels, places=places)


def _joined(one: "Examples", other: "Examples") -> "Examples":
    texts, labels, places = (a + b for a, b in zip(one[:3], other[:3], strict=True))
    return one._replace(texts=texts, labels=labels, places=places)


def _about(data: tuple[str, ...], columns: "Columns", examples: "Examples") -> str:
    names = [label for item in examples.labels for label in (item if isinstance(item, list) else [item])]
    texts = " and ".join(repr(name) for name in columns[:2] if name is not None)
    what = (
        f"scores {columns.label!r}"
        if columns.is_score
        else f"{len(set(names)):,} labels in {columns.label!r}"
    )
    empty = f"; left out for want of text or label: {examples.n_empty:,}" if examples.n_empty else ""
    return f"{', '.join(data)}: {len(examples.texts):,} examples, texts in {texts}, {what}{empty}"


def _how(estimator: Any) -> str:
    strength = "" if estimator.C_ is None else f", C = {estimator.C_:g}"
    return f" in {estimator.metrics_['seconds']:.1f} s{strength}"
