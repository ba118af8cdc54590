"""Results as Markdown: one table a family of tasks, how each number was made, and published rows."""

from collections.abc import Sequence

from sentenc.evaluation.published_results import PROTOCOLS, STS_ROWS, TRANSFER_ROWS, PublishedRow
from sentenc.evaluation.results import Results, Score
from sentenc.evaluation.senteval_tasks import STS, TRANSFER


def markdown(results: Sequence[Results]) -> str:
    """Tables of the scores of several encoders, side by side.

    Args:
        results: One for each encoder.

    Returns:
        Markdown. A number is marked with ``*`` where the files were not the published ones.
    """
    tasks = list(dict.fromkeys(task for result in results for task in result.records))
    sections = ["# Evaluation\n"]
    families = (
        ("Transfer", [task for task in TRANSFER if task in tasks], "transfer avg", "transfer", TRANSFER_ROWS),
        ("Semantic textual similarity", [task for task in STS if task in tasks], "STS avg", "sts", STS_ROWS),
    )
    for title, chosen, average, key, published in families:
        if chosen:
            complete = len(chosen) == len(TRANSFER)
            sections.append(f"## {title}\n\n" + _own_table(results, chosen, average if complete else None))
            if complete:
                note = f"Published, for comparison. Protocol: {PROTOCOLS[key]}"
                sections.append(f"{note}\n\n" + _published_table(published, chosen))
    others = [task for task in tasks if task not in TRANSFER and task not in STS]
    if others:
        sections.append("## Other tasks\n\n" + _own_table(results, others, None))
    sections.append("## How the numbers were made\n\n" + _circumstances(results))
    mismatches = _mismatches(results)
    if mismatches:
        sections.append("## Files that differ from the published ones (*)\n\n" + mismatches)
    return "\n".join(sections)


def _own_table(results: Sequence[Results], tasks: Sequence[str], average: str | None) -> str:
    rows = []
    for result in results:
        cells = [_cell(result.records.get(task)) for task in tasks]
        if average is not None:
            cells.append(f"{result.averages[average]:.2f}" if average in result.averages else "")
        rows.append([_escaped(result.encoder), *cells])
    return _table(["encoder", *tasks, *([average] if average else [])], rows)


def _cell(score: Score | None) -> str:
    return "" if score is None else f"{score.value:.2f}" + ("*" if score.mismatches else "")


def _published_table(published: Sequence[PublishedRow], tasks: Sequence[str]) -> str:
    rows = []
    for row in published:
        mean = sum(row.values) / len(row.values)
        rows.append([row.model, *(f"{value:.2f}" for value in row.values), f"{mean:.2f}", row.source])
    return _table(["published model", *tasks, "mean", "source"], rows)


def _circumstances(results: Sequence[Results]) -> str:
    """One line for every way in which a number was made, with the tasks that were made so."""
    ways: dict[str, list[str]] = {}
    for result in results:
        for task, score in result.records.items():
            names = ways.setdefault(_way(score), [])
            if task not in names:
                names.append(task)
    lines = [f"- {', '.join(_escaped(name) for name in names)}: {way}" for way, names in ways.items()]
    for result in results:
        first = next(iter(result.records.values()), None)
        if first is not None:
            seconds = {
                key: sum(score.seconds[key] for score in result.records.values())
                for key in ("encode", "score")
            }
            software = ", ".join(f"{name} {number}" for name, number in first.versions.items())
            lines.append(
                f"- {_escaped(result.encoder)}: {first.encoder['dim']} dimensions, fingerprint "
                f"{first.encoder['fingerprint'] or 'unknown'}, {_settings(first)}"
                f"{seconds['encode']:.1f} s encoding and {seconds['score']:.1f} s scoring; {software}"
            )
    return "\n".join(lines) + "\n"


def _way(score: Score) -> str:
    parts = [f"{score.metric} of {score.protocol}"]
    if score.aggregation is not None:
        parts.append(f"aggregation {score.aggregation}")
    if score.folds is not None:
        parts.append(f"{score.folds} folds")
    if score.seed is not None:
        parts.append(f"seed {score.seed}")
    if score.probe is not None:
        hidden = score.probe.get("nhid")
        parts.append(f"probe {score.probe['name']}" + (f" with {hidden} hidden units" if hidden else ""))
    text = {"raw": "raw", "senteval": "SentEval's tokenized", "own": "the user's own"}[score.text]
    return ", ".join([*parts, f"{text} text"])


def _settings(score: Score) -> str:
    settings = [f"{key} {value}" for key, value in score.encoder["settings"].items() if value]
    return ", ".join(settings) + ", " if settings else ""


def _mismatches(results: Sequence[Results]) -> str:
    found: dict[str, None] = {}
    for result in results:
        for task, score in result.records.items():
            found.update(dict.fromkeys(f"- {task}: {mismatch}" for mismatch in score.mismatches))
    return "".join(f"{line}\n" for line in found)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    # Names to the left, numbers to the right.
    rule = ["---", *("---:" for _ in header[1:])]
    return "".join(
        f"| {' | '.join(cells)} |\n" for cells in [[_escaped(name) for name in header], rule, *rows]
    )


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
