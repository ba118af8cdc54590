"""``sentenc eval``: several encoders, side by side."""

import time
from pathlib import Path
from typing import Any

import click


@click.command("eval")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Folder with SentEval's layout (downstream/...). Not needed for CSV and TSV tasks.",
)
@click.option(
    "--tasks",
    default="all",
    show_default=True,
    help="transfer, sts, all, probing, names of tasks, or paths of .csv and .tsv files; commas between.",
)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=Path("results"),
              show_default=True, help="Folder for JSON, Markdown, plot and cached vectors.")  # fmt: skip
@click.option("--probe", type=click.Choice(["logistic", "senteval"]), default="logistic", show_default=True,
              help="Converged logistic regression, or SentEval's own Adam procedure.")  # fmt: skip
@click.option("--hidden", type=click.IntRange(0), default=0, show_default=True,
              help="Hidden units of the senteval probe.")  # fmt: skip
@click.option("--aggregation", type=click.Choice(["all", "mean", "wmean"]), default="all", show_default=True,
              help="Of the sets of a year of STS.")  # fmt: skip
@click.option("--raw/--tokenized", "raw", default=None,
              help="Text before or after tokenization. Default: raw for similarity only.")  # fmt: skip
@click.option("--folds", type=click.IntRange(2), default=10, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1111, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--normalize", is_flag=True, help="Scale vectors to unit length first.")
@click.option("--compute", type=click.Choice(["float32", "int8"]), default=None,
              help="What BERTs multiply in; float32 by default.")  # fmt: skip
@click.option(
    "--truncate-dim", type=click.IntRange(1), default=None, help="Keep the first so many dimensions."
)
def evaluate_command(models: tuple[str, ...], data: Path, tasks: str, output: Path, **options: Any) -> None:
    """Scores MODELs on SentEval's tasks: JSON for each, and a table and a plot for all.

    A run that was interrupted continues where it stopped: finished scores and encoded texts are kept in
    the output folder, and used again only if model, data and settings are the same.
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
    from sentenc.evaluation.senteval_tasks import select_tasks
    from sentenc.registry import load

    probe, hidden = options.pop("probe"), options.pop("hidden")
    if hidden and probe != "senteval":
        raise click.UsageError("--hidden needs --probe senteval")
    chosen = select_tasks(tasks)
    names = _distinct_names(models)

    def tell(score: Score) -> None:
        seconds = f"{score.seconds['encode']:.1f} s encoding, {score.seconds['score']:.1f} s scoring"
        click.echo(f"{score.encoder['name']}  {score.task:<20} {score.value:6.2f}  ({seconds})", err=True)

    started, results = time.perf_counter(), []
    for model, name in zip(models, names, strict=True):
        results.append(
            evaluate(
                load(model, compute=options["compute"]),
                chosen,
                data=data,
                probe=SentEvalProbe(hidden=hidden) if probe == "senteval" else "logistic",
                name=name,
                normalize_embeddings=options["normalize"],
                cache=output / "vectors",
                output=output,
                show_progress_bar=True,
                on_score=tell,
                **{
                    key: options[key]
                    for key in ("aggregation", "raw", "folds", "seed", "batch_size", "truncate_dim")
                },
            )
        )
    text = to_markdown(results, output / "results.md")
    plot(results, output / "results.png")
    click.echo(text)
    click.echo(
        f"{time.perf_counter() - started:.1f} s; wrote {output}/results.md, results.png and JSON", err=True
    )


def _distinct_names(models: tuple[str, ...]) -> list[str]:
    """Last parts of the models' names or paths, or all of them where those are alike."""
    short = [Path(model).name or model for model in models]
    names = short if len(set(short)) == len(short) else list(models)
    if len(set(names)) != len(names):
        raise click.UsageError("the same model was given twice")
    return names
