"""Renders results as Markdown tables, with published results and the settings behind each score."""

import os
from collections.abc import Sequence
from pathlib import Path

from sentenc.evaluation.protocols.search import SEARCH_MODES
from sentenc.evaluation.published_results import PROTOCOLS, STS_ROWS, TRANSFER_ROWS, PublishedRow
from sentenc.evaluation.results import Results, Score
from sentenc.evaluation.senteval_tasks import STS, TRANSFER
from sentenc.io.atomic import write_text
from sentenc.metrics.ranking import RANKING_METRICS

# (title, tasks, name of the average, key in PROTOCOLS, published rows)
_FAMILIES = (
    ("Transfer", TRANSFER, "transfer avg", "transfer", TRANSFER_ROWS),
    ("Semantic textual similarity", STS, "STS avg", "sts", STS_ROWS),
)
# (title, protocol) of the user's own tasks that have a table with one column per task.
OTHER_FAMILIES = (
    ("Clustering: V-measure", "clustering"),
    ("Pair classification: average precision of the cosine", "pair-classification"),
)
# How the settings are shown in protocols that train no probe.
_OWN_SETTINGS = {
    "search": "BM25 with k1 {k1}, b {b} and language {language}, alpha {alpha}",
    "clustering": "{runs} runs of {name} with batches of {batch_size}",
}
_TEXT_VARIANTS = {"raw": "raw", "senteval": "SentEval's tokenized", "own": "the user's own"}


def to_markdown(results: Results | Sequence[Results], path: str | os.PathLike[str] | None = None) -> str:
    """Returns tables of the scores, one column per task and one row per encoder.

    Args:
        results: The results of one encoder or of several.
        path: Markdown file to write the tables to as well.

    Returns:
        Markdown. A score is marked with ``*`` if its files differ from the published ones.
    """
    results = [results] if isinstance(results, Results) else results
    evaluated = list(dict.fromkeys(task for result in results for task in result.records))
    sections = ["# Evaluation\n"]
    for title, family, average, protocol, published in _FAMILIES:
        tasks = [task for task in family if task in evaluated]
        if not tasks:
            continue
        # The published rows and the average are comparable only over the whole family.
        complete = len(tasks) == len(family)
        sections.append(f"## {title}\n\n" + _score_table(results, tasks, average if complete else None))
        if complete:
            note = f"Published, for comparison. Protocol: {PROTOCOLS[protocol]}"
            sections.append(f"{note}\n\n" + _published_table(published, tasks))
    others = [task for task in evaluated if task not in TRANSFER and task not in STS]
    searches = [task for task in others if protocol_of(results, task) == "search"]
    if searches:
        sections.append("## Search\n\n" + _search_table(results, searches))
    for title, protocol in OTHER_FAMILIES:
        tasks = [task for task in others if protocol_of(results, task) == protocol]
        if tasks:
            sections.append(f"## {title}\n\n" + _score_table(results, tasks, None))
    named = {"search", *(protocol for _, protocol in OTHER_FAMILIES)}
    rest = [task for task in others if protocol_of(results, task) not in named]
    if rest:
        sections.append("## Other tasks\n\n" + _score_table(results, rest, None))
    sections.append("## How the numbers were made\n\n" + _settings_lines(results) + _encoder_lines(results))
    mismatches = _mismatch_lines(results)
    if mismatches:
        sections.append("## Files that differ from the published ones (*)\n\n" + mismatches)
    text = "\n".join(sections)
    if path is not None:
        write_text(Path(path), text)
    return text


def protocol_of(results: Sequence[Results], task: str) -> str:
    """Returns the protocol of a task that at least one of the results has a score of."""
    return next(result.records[task].protocol for result in results if task in result.records)


def _search_table(results: Sequence[Results], tasks: Sequence[str]) -> str:
    """Returns one row per task, encoder and search mode, with all metrics."""
    rows = []
    for task in tasks:
        for result in results:
            score = result.records.get(task)
            for mode in SEARCH_MODES if score is not None else ():
                if score is not None and mode in score.details:
                    values = score.details[mode]
                    cells = [f"{values[metric]:.2f}" for metric in RANKING_METRICS]
                    rows.append([_escaped(task), _escaped(result.encoder), mode, *cells])
    return _table(["task", "encoder", "mode", *RANKING_METRICS], rows, n_names=3)


def _score_table(results: Sequence[Results], tasks: Sequence[str], average: str | None) -> str:
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


def _settings_lines(results: Sequence[Results]) -> str:
    """Returns one line per distinct protocol and settings, with the tasks that were scored so."""
    tasks_by_settings: dict[str, list[str]] = {}
    for result in results:
        for task, score in result.records.items():
            tasks = tasks_by_settings.setdefault(_protocol_settings(score), [])
            if task not in tasks:
                tasks.append(task)
    return "".join(
        f"- {', '.join(map(_escaped, tasks))}: {settings}\n" for settings, tasks in tasks_by_settings.items()
    )


def _encoder_lines(results: Sequence[Results]) -> str:
    """Returns one line per encoder, with its identity, the time taken and the software versions."""
    lines = []
    for result in results:
        scores = list(result.records.values())
        if not scores:
            continue
        encode, score = (sum(item.seconds[key] for item in scores) for key in ("encode", "score"))
        software = ", ".join(f"{name} {number}" for name, number in scores[0].versions.items())
        # Cosine tasks may compare fewer dimensions than the others.
        whole = max(scores, key=lambda item: item.encoder["dim"])
        smallest = min(item.encoder["dim"] for item in scores)
        note = f" ({smallest} in cosine tasks)" if smallest < whole.encoder["dim"] else ""
        lines.append(
            f"- {_escaped(result.encoder)}: {whole.encoder['dim']} dimensions{note}, "
            f"fingerprint {whole.encoder['fingerprint'] or 'unknown'}, {_encode_settings(whole)}"
            f"{encode:.1f} s encoding and {score:.1f} s scoring; {software}\n"
        )
    return "".join(lines)


def _protocol_settings(score: Score) -> str:
    parts = [f"{score.metric} of {score.protocol}"]
    if score.aggregation is not None:
        parts.append(f"aggregation {score.aggregation}")
    if score.folds is not None:
        parts.append(f"{score.folds} folds")
    if score.seed is not None:
        parts.append(f"seed {score.seed}")
    if score.probe is not None and score.protocol in _OWN_SETTINGS:
        parts.append(_OWN_SETTINGS[score.protocol].format_map(score.probe))
    elif score.probe is not None:
        hidden = score.probe.get("nhid")
        parts.append(f"probe {score.probe['name']}" + (f" with {hidden} hidden units" if hidden else ""))
    return ", ".join([*parts, f"{_TEXT_VARIANTS[score.text]} text"])


def _encode_settings(score: Score) -> str:
    return "".join(f"{key} {value}, " for key, value in score.encoder["settings"].items() if value)


def _mismatch_lines(results: Sequence[Results]) -> str:
    lines = [
        f"- {task}: {mismatch}\n"
        for result in results
        for task, score in result.records.items()
        for mismatch in score.mismatches
    ]
    # Encoders that were evaluated on the same files share their mismatches.
    return "".join(dict.fromkeys(lines))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], n_names: int = 1) -> str:
    # Names are left-aligned, numbers right-aligned.
    alignment = [*("---" for _ in header[:n_names]), *("---:" for _ in header[n_names:])]
    return "".join(
        f"| {' | '.join(cells)} |\n" for cells in [[_escaped(name) for name in header], alignment, *rows]
    )


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
