"""Model cards of pretraining: kind, score, configuration, sources and versions of a trained model."""

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w

from sentenc._version import __version__
from sentenc.installed import installed_versions
from sentenc.training.config.evaluation import ScoreConfig
from sentenc.training.config.pretraining import RunConfig
from sentenc.training.config.teacher import TeacherConfig, normalized_weights
from sentenc.training.data.corpus import Corpus, SourceReport
from sentenc.training.data.sources import is_data_set

_PACKAGES = ("torch", "numpy", "tokenizers", "transformers", "sentence-transformers")


def model_card(
    run: RunConfig,
    *,
    name: str,
    command: str,
    dim: int,
    outcome: Mapping[str, Any],
    corpora: Mapping[str, Corpus],
    reports: Mapping[str, Sequence[SourceReport]],
    teacher_texts: int | None,
    with_embedding: Mapping[str, tuple[int, int]] | None = None,
) -> str:
    """Returns a model card in Markdown.

    Args:
        run: The run.
        name: Name of the model.
        command: The command that started the run.
        dim: Length of the vectors.
        outcome: "steps", "minutes", "step" (of the model's weights), "score" (of the finished model, or
            None) and, if it is the mean of several, "scores" by name.
        corpora: The corpora by name.
        reports: The counts of each source, by corpus.
        teacher_texts: Number of texts with an embedding of the teacher; None without one.
        with_embedding: How many examples have an embedding and how many were read, by corpus whose examples may lack one.
    """
    kind = {"cse": "An n-gram CNN sentence encoder (CSE)", "bert": "A BERT sentence encoder"}[
        run.student.kind
    ]
    lines = [f"# {name}", "", f"{kind} of {dim} dimensions, trained by sentenc {__version__}.", ""]
    lines += ["## Scores", ""]
    if run.evaluation is not None and outcome["score"] is not None:
        selected = " The weights were selected by this score." if run.training.keep == "best" else ""
        lines += _score_lines(run.evaluation.entries, outcome, selected)
    else:
        lines += ["The run had no evaluation."]
    lines += ["", "## How it was made", "", "```", command, "```", ""]
    lines += [
        f"{outcome['steps']:,} steps in {outcome['minutes']:.1f} minutes; the weights are those of step "
        f"{outcome['step']:,}. `log.jsonl` and `curve.png` in this folder show the learning curves.",
        "",
        "```toml",
        tomli_w.dumps(run.table).rstrip(),
        "```",
        "",
        "## Sources",
        "",
    ]
    if run.teacher is not None:
        texts = "" if teacher_texts is None else f", embeddings of {teacher_texts:,} texts"
        lines += [f"Teacher: {_teachers(run.teacher)}{texts}.", ""]
    for corpus_name, corpus in corpora.items():
        lines += _corpus_lines(corpus_name, corpus, reports[corpus_name])
        if with_embedding and corpus_name in with_embedding:
            n_selected, n_read = with_embedding[corpus_name]
            lines += [f"{n_selected:,} of {n_read:,} examples have an embedding of the teacher.", ""]
    lines += [
        "## Versions",
        "",
        ", ".join([f"Python {platform.python_version()}", *package_versions()]) + ".",
        "",
    ]
    return "\n".join(lines)


def _score_lines(entries: Sequence[ScoreConfig], outcome: Mapping[str, Any], selected: str) -> list[str]:
    if "scores" not in outcome:
        return [f"{_described(entries[0])}: {outcome['score']:.2f}.{selected}"]
    lines = ["| name | measure | score | weight |", "|---|---|---|---|"]
    for entry in entries:
        score = f"{outcome['scores'][entry.label]:.2f}"
        lines.append(f"| {entry.label} | {_described(entry)} | {score} | {entry.weight:g} |")
    return [*lines, "", f"Weighted mean: {outcome['score']:.2f}.{selected}"]


def _described(entry: ScoreConfig) -> str:
    limits = [
        f"{getattr(entry, f'max_{what}'):,} {what}"
        for what in ("queries", "documents", "examples")
        if getattr(entry, f"max_{what}") is not None
    ]
    sample = f" (at most {', '.join(limits)})" if limits else ""
    place = f"`{_base_name(entry.path)}`{sample}"
    if entry.kind == "sts":
        return f"{entry.chosen_metric.capitalize()} correlation (x 100) of the cosines on {place}"
    if entry.kind == "search":
        return f"{entry.chosen_metric} (x 100) of the search in {place}"
    return f"Cross-validated accuracy (x 100) on {place}"


def _corpus_lines(name: str, corpus: Corpus, reports: Sequence[SourceReport]) -> list[str]:
    lines = [
        f"Corpus `{name}`, fingerprint `{corpus.fingerprint()[:16]}`. The counts are those of one epoch, "
        "as far as it was read:",
        "",
    ]
    lines += ["| files | form | read | kept | duplicates | too short | too long | malformed |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for source, report in zip(corpus.sources, reports, strict=True):
        files = ", ".join(map(_base_name, source.files))
        counts = (
            report.read, report.kept, report.duplicates, report.too_short, report.too_long, report.malformed,
        )  # fmt: skip
        lines.append(f"| {files} | {source.form} | {' | '.join(f'{count:,}' for count in counts)} |")
    return [*lines, ""]


def _teachers(teacher: TeacherConfig) -> str:
    names = [_base_name(model) for model in teacher.names] or ["unnamed"]
    if len(names) == 1:
        return names[0]
    weights = normalized_weights(len(names), teacher.model_weights)
    return "the concatenated vectors of " + ", ".join(
        f"{name} (weight {weight:.2f})" for name, weight in zip(names, weights, strict=True)
    )


def package_versions() -> list[str]:
    """Returns names and versions of the installed packages that a trained model depends on."""
    return [f"{package} {version}" for package, version in installed_versions(_PACKAGES).items()]


def _base_name(path: str) -> str:
    # A published card must not contain the author's folders.
    return path if is_data_set(path) else path.rstrip("/").rpartition("/")[2] or path
