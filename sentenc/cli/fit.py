"""``sentenc fit``: fits a classifier on a file of labeled texts, and reports its quality."""

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentenc import __version__
from sentenc.cli.label_columns import choose_columns
from sentenc.cli.model_options import THREADS, load_model, pooling_option
from sentenc.errors import CheckpointError
from sentenc.io.atomic import replacing_folder
from sentenc.io.formats import FORMATS
from sentenc.io.labeled import Columns, Examples, column_names, read_examples
from sentenc.splits import train_test_split
from sentenc.texts import replace_lone_surrogates

# sentenc.downstream is imported in the functions that use it: importing scikit-learn takes a second, which
# --help should not take.
if TYPE_CHECKING:
    from sentenc.downstream.report import Report

# A file that only the folder of a classifier contains. Other folders are never replaced.
_MARKER = "head.safetensors"
# Options of --fine-tune all.
_FINE_TUNING_OPTIONS = ("epochs", "batch_size", "learning_rate", "regularization", "patience", "max_minutes")
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
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Folder for the classifier.",
)
@click.option(
    "--text-column", metavar="NAME", help="Column of the texts; by default it is chosen by its name."
)
@click.option("--text2-column", metavar="NAME", help="Column of the second texts, for pairs.")
@click.option(
    "--label-column", metavar="NAME", help="Column of the labels; by default it is chosen by its name."
)
@click.option("--score-column", metavar="NAME", help="Column of the scores of pairs, instead of labels.")
@click.option(
    "--labels-separator", metavar="TEXT", help="Separator of several labels in one field, such as ';'."
)
@click.option("--format", type=click.Choice(FORMATS[1:]), help="File format; by default from the suffix.")
@click.option(
    "--skip-empty",
    is_flag=True,
    help="Skip rows without text or label, instead of failing if they exceed 1 %.",
)
@click.option("-m", "--model", default="cse-en", show_default=True, help="Encoder: name, folder or Hub id.")
@pooling_option
@click.option(
    "--fine-tune",
    type=click.Choice(["head", "all"]),
    default="head",
    show_default=True,
    help="Train only the classifier's head, or the encoder too (extra train).",
)
@click.option(
    "--init",
    type=click.Choice(["pretrained", "random"]),
    default="pretrained",
    show_default=True,
    help="Initial weights of the encoder; random is for comparison.",
)
@click.option("--test", type=_FILE, metavar="FILE", help="Labeled test examples for the report.")
@click.option(
    "--test-fraction",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of DATA to test on, without --test; 0 for no report.",
)
@click.option("--refit", is_flag=True, help="After the report, fit again on all examples, and save that.")
@click.option(
    "-C",
    "strength",
    callback=_strength,
    default="auto",
    metavar="auto|NUMBER",
    show_default=True,
    help="Inverse strength of the head's regularization.",
)
@click.option("--balanced", is_flag=True, help="Weight classes inversely to their frequency.")
@click.option("--epochs", type=click.IntRange(1), help="Maximum number of epochs, with --fine-tune all.")
@click.option("--batch-size", type=click.IntRange(1), help="Examples per update, with --fine-tune all.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    help="Learning rate of the encoder, with --fine-tune all.",
)
@click.option(
    "--regularization",
    type=click.FloatRange(0),
    help="Strength of the penalty on the distance to the pretrained encoder, with --fine-tune all.",
)
@click.option(
    "--patience",
    type=click.IntRange(1),
    help="Stop after this many epochs without progress, with --fine-tune all.",
)
@click.option(
    "--max-minutes",
    type=click.FloatRange(0, min_open=True),
    help="Time limit of the training in minutes, with --fine-tune all.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Seed of the test split and of the training.",
)
@click.option("--threads", type=THREADS, help="Threads for encoding; all cores by default.")
@click.option("--overwrite", is_flag=True, help="Replace an existing classifier.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the report: no progress bar, no summary.")
def fit_command(data: tuple[str, ...], output: Path, quiet: bool, **options: Any) -> None:
    """Fit a classifier on the labeled texts of DATA: CSV, TSV, JSON lines or Parquet, also compressed.

    With a second text column, it classifies pairs of texts; with a score column, it predicts scores of pairs.
    A part of the examples is used for testing. The report on them is printed and saved in FOLDER/report, with
    a plot and all errors. The saved classifier is the one in the report, fitted on the other examples, unless
    --refit is given.
    """
    _check_output(output, options["overwrite"])
    if options["fine_tune"] == "head" and (
        unused := [name for name in _FINE_TUNING_OPTIONS if options[name] is not None]
    ):
        raise click.UsageError(f"--{unused[0].replace('_', '-')} requires --fine-tune all")
    if options["fine_tune"] == "all":
        # By default, torch's threads wait for each other in busy loops. The variable is read when torch is
        # imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if options["test"] is not None or options["test_fraction"]:
        from sentenc.downstream.report_plot import require_matplotlib

        require_matplotlib()

    def log(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    columns, train, test = _read(data, quiet, options)
    log(_summary(data, columns, train))
    all_examples = train if test is None else _concatenate(train, test)
    if test is None:
        train, test = _split(train, options, log)
    _warn_of_shared_texts(train, test, log)
    log(
        f"fitting on {len(train.texts):,} examples"
        + (f", testing on {len(test.texts):,}" if test.texts else "")
    )
    estimator = _fit(train, columns, quiet, options)
    log(f"fitted{_fit_details(estimator)}\n")
    report = _report(estimator, test) if test.texts else None
    history = getattr(estimator, "history_", None)
    if options["refit"] and report is not None:
        estimator = _fit(all_examples, columns, quiet, options)
        log(f"\nfitted again on all {len(all_examples.texts):,} examples{_fit_details(estimator)}")
    settings = _settings(data, columns, len(train.texts), options)
    _save(estimator, output, report, settings, history)
    if report is not None:
        from sentenc.downstream.report_text import to_text

        # After the classifier is saved, because the reader of the output may close it.
        click.echo(replace_lone_surrogates(to_text(report)))
    pair = " PAIRS.csv" if columns.text2 else " FILE"
    log(f"\nwrote the classifier to {output}" + (f" and the report to {output / 'report'}" if report else ""))
    log(f"sentenc classify {shlex.quote(str(output))}{pair}")


def _check_output(output: Path, overwrite: bool) -> None:
    # Called before minutes of work, not after.
    if not output.exists() or not any(output.iterdir()):
        return
    if not (output / _MARKER).exists():
        raise click.ClickException(f"{output} contains other files: choose another folder")
    if not overwrite:
        raise click.ClickException(f"{output} already contains a classifier: pass --overwrite to replace it")


def _read(
    data: tuple[str, ...], quiet: bool, options: dict[str, Any]
) -> tuple[Columns, Examples, Examples | None]:
    """Returns the columns, the examples of DATA, and those of ``--test``."""
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
            "scores require pairs of texts: pass the column of the second texts as --text2-column, or "
            f"--label-column {columns.label} for labels"
        )
    for flag, value in (
        ("--labels-separator", options["labels_separator"]),
        ("--balanced", options["balanced"]),
    ):
        if columns.is_score and value:
            raise click.UsageError(f"{flag} applies to labels, and {columns.label!r} contains scores")
    reading: dict[str, Any] = {
        "format": options["format"],
        "separator": options["labels_separator"],
        "skip_empty": options["skip_empty"],
        "quiet": quiet,
    }
    train = read_examples(data, columns, **reading)
    test = None if options["test"] is None else read_examples([options["test"]], columns, **reading)
    for files, examples in ((data, train), ([options["test"]], test)):
        if examples is not None and not examples.texts:
            raise click.ClickException(f"{', '.join(files)}: no example with a text and a label")
    return columns, train, test


def _split(
    examples: Examples, options: dict[str, Any], log: Callable[[str], None]
) -> tuple[Examples, Examples]:
    """Splits examples into training and test examples."""
    train_rows, test_rows = train_test_split(examples.labels, options["test_fraction"], options["seed"])
    train, test = _rows(examples, train_rows), _rows(examples, test_rows)
    if not test.texts:
        few = "too few examples for a test split" if options["test_fraction"] else "no test split"
        log(f"{few}, so there is no report")
    return train, test


def _warn_of_shared_texts(train: Examples, test: Examples, log: Callable[[str], None]) -> None:
    train_texts = set(train.texts)
    if shared := sum(text in train_texts for text in test.texts):
        log(
            f"warning: {shared:,} of the {len(test.texts):,} test examples have a text that is in the "
            "training examples too, so the report is too optimistic for new texts"
        )


def _fit(train: Examples, columns: Columns, quiet: bool, options: dict[str, Any]) -> Any:
    from sentenc import downstream

    # The estimator has defaults for the options that are not given.
    settings = {name: options[name] for name in _FINE_TUNING_OPTIONS if options[name] is not None}
    if options["balanced"]:
        settings["class_weight"] = "balanced"
    kind: Any = downstream.SentenceClassifier
    if columns.text2 is not None:
        kind = downstream.SentencePairRegressor if columns.is_score else downstream.SentencePairClassifier
    estimator = kind(
        load_model(options["model"], options["pooling"], threads=options["threads"]),
        fine_tune=options["fine_tune"],
        init=options["init"],
        C=options["strength"],
        random_state=options["seed"],
        show_progress_bar=not quiet,
        **settings,
    )
    try:
        return estimator.fit(train.texts, train.labels)
    except FloatingPointError as error:
        raise click.ClickException(str(error)) from error


def _report(estimator: Any, test: Examples) -> "Report":
    from sentenc.downstream.report import classification_report, multi_label_report, regression_report

    if hasattr(estimator, "steps_"):
        return regression_report(test.labels, estimator.predict(test.texts), test.texts, test.places)
    # predict() would compute the probabilities a second time.
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

    # The classifier and its report appear together.
    with replacing_folder(output, _MARKER, CheckpointError, "a classifier") as staging:
        estimator.save(staging)
        if report is not None:
            write_report(report, staging / "report", settings, history)


def _settings(
    data: tuple[str, ...], columns: Columns, n_train: int, options: dict[str, Any]
) -> dict[str, Any]:
    return {
        "command": shlex.join(["sentenc", *sys.argv[1:]]),
        "data": ", ".join(data),
        "tested on": options["test"] or f"{options['test_fraction']:.0%} of the data",
        "columns": ", ".join(name for name in columns[:3] if name is not None),
        "fitted on": f"{n_train:,} examples" + (" (the saved classifier on all)" if options["refit"] else ""),
        "encoder": options["model"],
        "trained": "head" if options["fine_tune"] == "head" else "head and encoder",
        "version": f"sentenc {__version__}",
    }


def _rows(examples: Examples, rows: list[int]) -> Examples:
    texts, labels, places = ([column[i] for i in rows] for column in examples[:3])
    return examples._replace(texts=texts, labels=labels, places=places)


def _concatenate(first: Examples, second: Examples) -> Examples:
    texts, labels, places = (a + b for a, b in zip(first[:3], second[:3], strict=True))
    return first._replace(texts=texts, labels=labels, places=places)


def _summary(data: tuple[str, ...], columns: Columns, examples: Examples) -> str:
    names = [label for item in examples.labels for label in (item if isinstance(item, list) else [item])]
    texts = " and ".join(repr(name) for name in columns[:2] if name is not None)
    what = (
        f"scores {columns.label!r}"
        if columns.is_score
        else f"{len(set(names)):,} labels in {columns.label!r}"
    )
    empty = f"; skipped without text or label: {examples.n_empty:,}" if examples.n_empty else ""
    return f"{', '.join(data)}: {len(examples.texts):,} examples, texts in {texts}, {what}{empty}"


def _fit_details(estimator: Any) -> str:
    strength = "" if estimator.C_ is None else f", C = {estimator.C_:g}"
    return f" in {estimator.metrics_['seconds']:.1f} s{strength}"
