"""The command ``sentenc eval``: scores several encoders on the same tasks."""

import time
from pathlib import Path
from typing import Any

import click

from sentenc.cli.model_options import load_model, model_options


@click.command("eval")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Folder in SentEval's layout (downstream/...). Your own files and folders do not need it.",
)
@click.option(
    "--tasks",
    default="all",
    show_default=True,
    help="Tasks, separated by commas: transfer, sts, all, probing, task names, paths of .csv, .tsv, .jsonl or "
    ".parquet files, or folders in BEIR's layout (FOLDER or FOLDER:SPLIT). clustering:FILE and "
    "pair-classification:FILE choose these protocols.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Folder for JSON, Markdown, plot and cached vectors.",
)
@click.option(
    "--probe",
    type=click.Choice(["logistic", "senteval"]),
    default="logistic",
    show_default=True,
    help="Probe to train: converged logistic regression, or SentEval's own Adam procedure.",
)
@click.option(
    "--hidden",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Number of hidden units of the senteval probe.",
)
@click.option(
    "--aggregation",
    type=click.Choice(["all", "mean", "wmean"]),
    default="all",
    show_default=True,
    help="How to combine the sets of an STS year: correlation of all pairs, mean, or mean weighted by size.",
)
@click.option(
    "--raw/--tokenized",
    "raw",
    default=None,
    help="Encode the text before or after SentEval's tokenization. Default: raw for similarity tasks only.",
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    default=10,
    show_default=True,
    help="Number of cross-validation folds.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1111,
    show_default=True,
    help="Seed of the folds and the probe.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1),
    default=None,
    help="Weight of the vectors in hybrid search. Default: the model's own.",
)
@click.option(
    "--language",
    default=None,
    help="Language of the texts of search tasks (en, de, ...), which chooses the stemmer. Default: the model's.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Number of texts encoded at a time.",
)
@click.option("--normalize", is_flag=True, help="Scale the vectors to unit norm.")
@click.option(
    "--compute",
    type=click.Choice(["float32", "int8"]),
    default=None,
    help="Number type of the matrix products of a BERT; by default the one stored with the model.",
)
@click.option(
    "--truncate-dim",
    type=click.IntRange(1),
    default=None,
    help="Number of leading dimensions to keep.",
)
@model_options
def evaluate_command(models: tuple[str, ...], data: Path, tasks: str, output: Path, **options: Any) -> None:
    """Score each MODEL on SentEval's tasks or on your own.

    Writes one JSON file per model, and a table and a plot of all models.

    An interrupted run can be repeated: it reuses the finished scores and the encoded texts in the output
    folder if the model, the data and the settings are the same.
    """
    from sentenc.errors import SentencError

    try:
        _run(models, data, [task.strip() for task in tasks.split(",") if task.strip()], output, options)
    except (SentencError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _run(
    models: tuple[str, ...], data: Path, tasks: list[str], output: Path, options: dict[str, Any]
) -> None:
    from sentenc.evaluation import Score, SentEvalProbe, evaluate, plot, to_markdown
    from sentenc.evaluation.protocols.search import SEARCH_MODES
    from sentenc.evaluation.senteval_tasks import select_tasks

    probe, hidden = options.pop("probe"), options.pop("hidden")
    if hidden and probe != "senteval":
        raise click.UsageError("--hidden requires --probe senteval")
    selected = select_tasks(tasks)
    names = _distinct_names(models)
    compute, normalize = options.pop("compute"), options.pop("normalize")
    how = {name: options.pop(name) for name in ("pooling", "query_prompt")}
    if len(models) > 1 and any(value is not None for value in how.values()):
        raise click.UsageError(f"--pooling and --query-prompt are for one MODEL, but there are {len(models)}")

    def print_score(score: Score) -> None:
        seconds = f"{score.seconds['encode']:.1f} s encoding, {score.seconds['score']:.1f} s scoring"
        others = [mode for mode in SEARCH_MODES[1:] if mode in score.details]
        by_mode = "".join(f", {mode} {score.details[mode][score.metric]:.2f}" for mode in others)
        value = f"{score.value:6.2f}{by_mode}"
        click.echo(f"{score.encoder['name']}  {score.task:<20} {value}  ({seconds})", err=True)

    started = time.perf_counter()
    results = [
        evaluate(
            load_model(model, **how, compute=compute),
            selected,
            data=data,
            probe=SentEvalProbe(hidden=hidden) if probe == "senteval" else "logistic",
            name=name,
            normalize_embeddings=normalize,
            cache=output / "vectors",
            output=output,
            show_progress_bar=True,
            on_score=print_score,
            **options,
        )
        for model, name in zip(models, names, strict=True)
    ]
    table = to_markdown(results, output / "results.md")
    plot(results, output / "results.png")
    click.echo(table)
    click.echo(
        f"{time.perf_counter() - started:.1f} s; wrote {output}/results.md, results.png and JSON", err=True
    )


def _distinct_names(models: tuple[str, ...]) -> list[str]:
    """Returns the last part of each model's name or path, or the whole if two last parts are equal."""
    last_parts = [Path(model).name or model for model in models]
    names = last_parts if len(set(last_parts)) == len(last_parts) else list(models)
    if len(set(names)) != len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise click.UsageError(f"the model {repeated!r} is listed twice")
    return names
