"""The files of a report, beside the classifier that it is about."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentenc.downstream.report import Report
from sentenc.downstream.report_plot import plot_confusion, plot_history, plot_label_scores, plot_scores
from sentenc.downstream.report_text import to_markdown

_PICTURES = {
    "single": ("confusion_matrix.png", "What each label was taken for"),
    "multi": ("labels.png", "Precision and recall of the labels"),
    "score": ("scores.png", "Predicted scores against given ones"),
}


def write_report(
    report: Report, folder: Path, settings: dict[str, Any], history: Sequence[dict[str, Any]] | None
) -> None:
    """Writes report.md, report.json, errors.tsv, a picture, and for end-to-end tuning its curve.

    Args:
        report: What to write.
        folder: Made here.
        settings: What the report is about, by name.
        history: Rows of the epochs, if there were any.
    """
    folder.mkdir()
    pictures = [_PICTURES[report.kind]]
    picture = folder / pictures[0][0]
    if report.kind == "single":
        plot_confusion(report, picture)
    elif report.kind == "score":
        plot_scores(report, picture)
    elif any(one.support for one in report.labels):
        plot_label_scores(report, picture)
    else:
        pictures = []
    if any(row.get(name) is not None for row in history or () for name in ("train_loss", "validation_loss")):
        plot_history(history or (), folder / "history.png")
        pictures.append(("history.png", "Losses over the epochs"))
    lines = ["# How good the classifier is", ""]
    lines += [f"- {name}: {_one_line(value)}" for name, value in settings.items()]
    lines += ["", *(f"![{title}]({name})" for name, title in pictures), "", to_markdown(report)]
    (folder / "report.md").write_text("\n".join(lines), encoding="utf-8")
    body = {"settings": settings, **report.to_dict()}
    # A line for each part: to be read by people too, and no number on a line of its own.
    parts = ",\n".join(f" {json.dumps(name)}: {json.dumps(body[name], ensure_ascii=False)}" for name in body)
    (folder / "report.json").write_text(f"{{\n{parts}\n}}\n", encoding="utf-8")
    _write_errors(report, folder / "errors.tsv")


def _write_errors(report: Report, path: Path) -> None:
    number = "distance" if report.kind == "score" else "probability"
    pairs = any(isinstance(one.text, tuple) for one in report.mistakes)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(
            [*(("text1", "text2") if pairs else ("text",)), "label", "predicted", number, "where"]
        )
        for one in report.mistakes:
            texts = one.text if isinstance(one.text, tuple) else (one.text,)
            writer.writerow(
                [*texts, _plain(one.label), _plain(one.predicted), f"{one.confidence:.4f}", one.place]
            )


def _plain(value: Any) -> Any:
    return ";".join(map(str, value)) if isinstance(value, tuple) else value


def _one_line(value: Any) -> str:
    return " ".join(str(value).split())
