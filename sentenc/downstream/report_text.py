"""Formats reports as text for a terminal, and as Markdown."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from sentenc.downstream.report import LabelScores, Mistake, Report

# Limits of the text for a terminal.
_MAX_SCREEN_LABELS = 20
_N_WEAKEST_LABELS = 12
_MAX_SCREEN_CONFUSIONS = 6
_MAX_SCREEN_MISTAKES = 6
_MAX_LABEL_LENGTH = 32
_MAX_TEXT_LENGTH = 88
# Limits of the Markdown.
_MAX_CONFUSIONS = 50
_MAX_MISTAKES = 100


def to_text(report: Report) -> str:
    """Formats a report for a terminal: long tables and texts are cut, with a note."""
    parts = [_table(_score_rows(report), align="<>")]
    if report.unknown:
        parts.append(_unknown(report))
    if report.labels:
        parts.append(_labels_on_screen(report))
    confusions = report.confusions()
    if confusions and len(report.labels) > 2:
        rows = [
            (str(n), _cut(label), _cut(predicted))
            for label, predicted, n in confusions[:_MAX_SCREEN_CONFUSIONS]
        ]
        table = _table([("examples", "labeled", "but predicted"), *rows], align="><<")
        parts.append(f"most frequent confusions{_of(_MAX_SCREEN_CONFUSIONS, len(confusions))}\n{table}")
    if report.mistakes:
        shown = report.mistakes[:_MAX_SCREEN_MISTAKES]
        blocks = "\n".join(_mistake_on_screen(mistake) for mistake in shown)
        parts.append(f"{_mistakes_title(report)}{_of(_MAX_SCREEN_MISTAKES, len(report.mistakes))}\n{blocks}")
    return "\n\n".join(parts)


def to_markdown(report: Report) -> str:
    """Formats a report as Markdown, with all labels and up to 100 mistakes."""
    parts = [_markdown_table(("measure", "value"), _score_rows(report))]
    if report.unknown:
        parts.append(_unknown(report))
    if report.labels:
        parts += [
            "## Labels",
            _markdown_table(_LABEL_HEAD, [*map(_label_row, report.labels), *_average_rows(report)]),
        ]
    confusions = report.confusions()
    if confusions:
        rows = [(label, predicted, str(n)) for label, predicted, n in confusions[:_MAX_CONFUSIONS]]
        parts += [
            f"## Most frequent confusions{_of(_MAX_CONFUSIONS, len(confusions))}",
            _markdown_table(("labeled", "predicted", "examples"), rows),
        ]
    if report.mistakes:
        title = _mistakes_title(report)
        head = ("text", "labeled", "predicted", _confidence_name(report), "where")
        mistakes = [
            (
                _joined(mistake.text),
                _shown(mistake.label),
                _shown(mistake.predicted),
                _number(mistake.confidence),
                mistake.place or "",
            )
            for mistake in report.mistakes[:_MAX_MISTAKES]
        ]
        parts += [
            f"## {title[0].upper()}{title[1:]}{_of(_MAX_MISTAKES, len(report.mistakes))}",
            _markdown_table(head, mistakes),
        ]
    return "\n\n".join(parts) + "\n"


_LABEL_HEAD = ("label", "precision", "recall", "F1", "examples")


def _score_rows(report: Report) -> list[tuple[str, str]]:
    rows = [("examples", f"{report.n_examples:,}")]
    for name, value in report.scores.items():
        shown = "accuracy of the most frequent label" if name == "majority accuracy" else name
        rows.append((shown, _number(value)))
    return rows


def _label_row(scores: LabelScores) -> tuple[str, ...]:
    measures = map(_number, (scores.precision, scores.recall, scores.f1))
    return (str(scores.label), *measures, f"{scores.support:,}")


def _average_rows(report: Report) -> list[tuple[str, ...]]:
    return [(f"{name} average", *map(_number, values), "") for name, values in report.averages.items()]


def _labels_on_screen(report: Report) -> str:
    labels, note = report.labels, ""
    if len(labels) > _MAX_SCREEN_LABELS:
        # The weakest labels are the most interesting ones. Labels without examples have no scores.
        ordered = sorted(
            (label for label in labels if label.support), key=lambda label: (label.f1, -label.support)
        )
        labels, others = ordered[:_N_WEAKEST_LABELS], ordered[_N_WEAKEST_LABELS:]
        n_absent = len(report.labels) - len(ordered)
        note = f"\nthe {len(labels)} weakest of {len(report.labels):,} labels"
        if others:
            note += f"; {len(others):,} more with an F1 of {_number(others[0].f1)} or more"
        if n_absent:
            note += f"; {n_absent:,} without an example here"
    rows = [(_cut(name), *rest) for name, *rest in map(_label_row, labels)]
    return _table([_LABEL_HEAD, *rows, *_average_rows(report)], align="<>>>>") + note


def _mistakes_title(report: Report) -> str:
    return "largest distances from the label" if report.kind == "score" else "most confident errors"


def _confidence_name(report: Report) -> str:
    return "distance" if report.kind == "score" else "probability"


def _mistake_on_screen(mistake: Mistake) -> str:
    place = f"   ({mistake.place})" if mistake.place else ""
    labels = f"predicted {_shown(mistake.predicted)}, labeled {_shown(mistake.label)}"
    lines = [f"  {mistake.confidence:.2f}  {labels}{place}"]
    lines += [f"        {_cut(part, _MAX_TEXT_LENGTH)}" for part in _parts(mistake.text)]
    return "\n".join(lines)


def _unknown(report: Report) -> str:
    names = ", ".join(map(repr, report.unknown[:5])) + (", ..." if len(report.unknown) > 5 else "")
    return f"{len(report.unknown):,} labels here had no training example and cannot be predicted: {names}"


def _of(shown: int, total: int) -> str:
    return f" ({shown} of {total:,})" if total > shown else ""


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " + ".join(map(str, value)) or "(none)"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _parts(texts: Any) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)


def _joined(texts: Any) -> str:
    return " / ".join(_parts(texts))


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "not defined"


def _cut(value: Any, longest: int = _MAX_LABEL_LENGTH) -> str:
    # Control characters in a text could move the cursor or change the terminal's state.
    line = " ".join(str(value).split())
    line = "".join(c if c.isprintable() else "�" for c in line)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _table(rows: Sequence[Sequence[str]], align: str) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(align))]
    return "\n".join(
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(value: Any) -> str:
    # A bar would end the cell, a line break the table, and the other characters are markup.
    line = " ".join(str(value).split())
    for mark in "\\|<>`*[]":
        line = line.replace(mark, f"\\{mark}")
    return line if line != r"\-\-\-" else "---"
