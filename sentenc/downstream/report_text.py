"""A report as text: for a screen, cut to what can be read there, and as Markdown, with everything in it."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from sentenc.downstream.report import LabelScores, Mistake, Report

# On a screen: rows of a table that are read rather than scrolled past.
_SHOWN_LABELS = 20
_WORST_LABELS = 12
_SHOWN_CONFUSIONS = 6
_SHOWN_MISTAKES = 6
_LONGEST_LABEL = 32
_LONGEST_TEXT = 88
# In the file.
_WRITTEN_CONFUSIONS = 50
_WRITTEN_MISTAKES = 100


def to_text(report: Report) -> str:
    """Formats a report for a terminal: long tables and texts are cut, with a note."""
    parts = [_table(_score_rows(report), align="<>")]
    if report.unknown:
        parts.append(_unknown(report))
    if report.labels:
        parts.append(_labels_on_screen(report))
    confusions = report.confusions()
    if confusions and len(report.labels) > 2:
        rows = [(str(n), _cut(label), _cut(given)) for label, given, n in confusions[:_SHOWN_CONFUSIONS]]
        table = _table([("examples", "labeled", "but predicted"), *rows], align="><<")
        parts.append(f"mixed up most often{_of(_SHOWN_CONFUSIONS, len(confusions))}\n{table}")
    if report.mistakes:
        shown = report.mistakes[:_SHOWN_MISTAKES]
        blocks = "\n".join(_mistake_on_screen(one) for one in shown)
        parts.append(f"{_mistakes_title(report)}{_of(_SHOWN_MISTAKES, len(report.mistakes))}\n{blocks}")
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
        rows = [(label, given, str(n)) for label, given, n in confusions[:_WRITTEN_CONFUSIONS]]
        parts += [
            f"## Mixed up most often{_of(_WRITTEN_CONFUSIONS, len(confusions))}",
            _markdown_table(("labeled", "predicted", "examples"), rows),
        ]
    if report.mistakes:
        title = _mistakes_title(report)
        head = ("text", "labeled", "predicted", _confidence_name(report), "where")
        mistakes = [
            (_joined(one.text), _shown(one.label), _shown(one.predicted), _number(one.confidence), one.place or "")
            for one in report.mistakes[:_WRITTEN_MISTAKES]
        ]  # fmt: skip
        parts += [
            f"## {title[0].upper()}{title[1:]}{_of(_WRITTEN_MISTAKES, len(report.mistakes))}",
            _markdown_table(head, mistakes),
        ]
    return "\n\n".join(parts) + "\n"


_LABEL_HEAD = ("label", "precision", "recall", "F1", "examples")


def _score_rows(report: Report) -> list[tuple[str, str]]:
    rows = [("examples", f"{report.n_examples:,}")]
    for name, value in report.scores.items():
        told = "accuracy of the most frequent label" if name == "majority accuracy" else name
        rows.append((told, _number(value)))
    return rows


def _label_row(one: LabelScores) -> tuple[str, ...]:
    return (str(one.label), _number(one.precision), _number(one.recall), _number(one.f1), f"{one.support:,}")


def _average_rows(report: Report) -> list[tuple[str, ...]]:
    return [(f"{name} average", *map(_number, values), "") for name, values in report.averages.items()]


def _labels_on_screen(report: Report) -> str:
    labels, note = report.labels, ""
    if len(labels) > _SHOWN_LABELS:
        # The weakest are what one looks for; labels without examples say nothing.
        ordered = sorted((one for one in labels if one.support), key=lambda one: (one.f1, -one.support))
        labels, others = ordered[:_WORST_LABELS], ordered[_WORST_LABELS:]
        silent = len(report.labels) - len(ordered)
        note = f"\nthe {len(labels)} weakest of {len(report.labels):,} labels"
        if others:
            note += f"; {len(others):,} more with F1 of {_number(others[0].f1)} and above"
        if silent:
            note += f"; {silent:,} without an example here"
    rows = [(_cut(name), *rest) for name, *rest in map(_label_row, labels)]
    return _table([_LABEL_HEAD, *rows, *_average_rows(report)], align="<>>>>") + note


def _mistakes_title(report: Report) -> str:
    return "farthest from the label" if report.kind == "score" else "most confident errors"


def _confidence_name(report: Report) -> str:
    return "distance" if report.kind == "score" else "probability"


def _mistake_on_screen(one: Mistake) -> str:
    place = f"   ({one.place})" if one.place else ""
    lines = [f"  {one.confidence:.2f}  predicted {_shown(one.predicted)}, labeled {_shown(one.label)}{place}"]
    lines += [f"        {_cut(part, _LONGEST_TEXT)}" for part in _parts(one.text)]
    return "\n".join(lines)


def _unknown(report: Report) -> str:
    names = ", ".join(map(repr, report.unknown[:5])) + (", ..." if len(report.unknown) > 5 else "")
    return f"{len(report.unknown):,} labels here had no training example and cannot be right: {names}"


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


def _cut(value: Any, longest: int = _LONGEST_LABEL) -> str:
    # Control characters of a text would move the cursor, or worse.
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
    # A bar ends a cell and a line break the table; the rest would be read as mark-up.
    line = " ".join(str(value).split())
    for mark in "\\|<>`*[]":
        line = line.replace(mark, f"\\{mark}")
    return line if line != r"\-\-\-" else "---"
