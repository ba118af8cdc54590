"""Writes the files of a report next to the classifier that it evaluates."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentenc.downstream.report import Report
from sentenc.downstream.report_plot import plot_confusion, plot_history, plot_label_scores, plot_scores
from sentenc.downstream.report_text import to_markdown
from sentenc.texts import replace_lone_surrogates

_PICTURES = {
    "single": ("confusion_matrix.png", "Confusion matrix"),
    "multi": ("labels.png", "Precision and recall of the labels"),
    "score": ("scores.png", "Predicted and true scores"),
}


def write_report(
    report: Report, folder: Path, settings: dict[str, Any], history: Sequence[dict[str, Any]] | None
) -> None:
    """Writes report.md, report.json, errors.tsv, a plot, and the loss curve if the encoder was fine-tuned.

    Args:
        report: The report.
        folder: The folder to create.
        settings: The settings that the report lists, by name.
        history: The ``history_`` of the estimator; None or empty without fine-tuning.
    """
    folder.mkdir()
    pictures = [_PICTURES[report.kind]]
    picture = folder / pictures[0][0]
    if report.kind == "single":
        plot_confusion(report, picture)
    elif report.kind == "score":
        plot_scores(report, picture)
    elif any(label.support for label in report.labels):
        plot_label_scores(report, picture)
    else:
        pictures = []
    if any(row.get(name) is not None for row in history or () for name in ("train_loss", "validation_loss")):
        plot_history(history or (), folder / "history.png")
        pictures.append(("history.png", "Losses by epoch"))
    lines = ["# Classification report", ""]
    lines += [f"- {name}: {_one_line(value)}" for name, value in settings.items()]
    lines += ["", *(f"![{title}]({name})" for name, title in pictures), "", to_markdown(report)]
    # A text or a label may contain a lone surrogate, which UTF-8 cannot encode.
    (folder / "report.md").write_text(replace_lone_surrogates("\n".join(lines)), encoding="utf-8")
    body = {"settings": settings, **report.to_dict()}
    # One line for each part, so that people can read it, without a line for every number.
    parts = ",\n".join(f" {json.dumps(name)}: {json.dumps(body[name], ensure_ascii=False)}" for name in body)
    (folder / "report.json").write_text(replace_lone_surrogates(f"{{\n{parts}\n}}\n"), encoding="utf-8")
    _write_errors(report, folder / "errors.tsv")


def _write_errors(report: Report, path: Path) -> None:
    number = "distance" if report.kind == "score" else "probability"
    pairs = any(isinstance(mistake.text, tuple) for mistake in report.mistakes)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(
            [*(("text1", "text2") if pairs else ("text",)), "label", "predicted", number, "where"]
        )
        for mistake in report.mistakes:
            texts = mistake.text if isinstance(mistake.text, tuple) else (mistake.text,)
            labels = _plain(mistake.label), _plain(mistake.predicted)
            cells = [replace_lone_surrogates(str(value)) for value in (*texts, *labels)]
            writer.writerow([*cells, f"{mistake.confidence:.4f}", mistake.place])


def _plain(value: Any) -> Any:
    return ";".join(map(str, value)) if isinstance(value, tuple) else value


def _one_line(value: Any) -> str:
    return " ".join(str(value).split())
