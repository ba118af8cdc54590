"""The card of a trained model: what it is, what it scores, what it was made from and how."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import tomli_w

from sentenc._version import __version__
from sentenc.training.config.pretraining import RunConfig, TeacherConfig, normalized_weights
from sentenc.training.data.corpus import Corpus, SourceReport

_PACKAGES = ("torch", "numpy", "numba", "tokenizers", "transformers", "sentence-transformers")


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
) -> str:
    """A model card in Markdown.

    Args:
        run: What was run.
        name: The model's.
        command: That began it.
        dim: Length of the vectors.
        outcome: steps, minutes, score (of the finished model, or None), step (of its weights) and examples.
        corpora: The corpora by name.
        reports: The counts of each source, by corpus.
        teacher_texts: Number of texts with an embedding of the teacher; None without one.
    """
    kind = {"cse": "An n-gram CNN sentence encoder (CSE)", "bert": "A BERT sentence encoder"}[
        run.student.kind
    ]
    lines = [f"# {name}", "", f"{kind} of {dim} dimensions, trained by sentenc {__version__}.", ""]
    lines += ["## Scores", ""]
    if run.evaluation is not None and outcome["score"] is not None:
        lines += [
            f"{run.evaluation.metric.capitalize()} of the cosine x 100 on `{_base(run.evaluation.sts)}`, which "
            f'chose the weights if `keep` is "best": {outcome["score"]:.2f}.',
        ]
    else:
        lines += ["None: the run had no evaluation."]
    lines += ["", "## How it was made", "", "```", command, "```", ""]
    lines += [
        f"{outcome['steps']:,} steps in {outcome['minutes']:.1f} minutes; the weights are those of step "
        f"{outcome['step']:,}. `log.jsonl` and `curve.png` beside this file show the course.",
        "",
        "```toml",
        tomli_w.dumps(run.table).rstrip(),
        "```",
        "",
        "## Sources",
        "",
    ]
    if run.teacher is not None:
        texts = "" if teacher_texts is None else f", vectors of {teacher_texts:,} texts"
        lines += [f"Teacher: {_teachers(run.teacher)}{texts}.", ""]
    for corpus_name, corpus in corpora.items():
        lines += _corpus_lines(corpus_name, corpus, reports[corpus_name])
    lines += [
        "## Versions",
        "",
        ", ".join([f"Python {platform.python_version()}", *package_versions()]) + ".",
        "",
    ]
    return "\n".join(lines)


def _corpus_lines(name: str, corpus: Corpus, reports: Sequence[SourceReport]) -> list[str]:
    lines = [
        f"Corpus `{name}`, fingerprint `{corpus.fingerprint()[:16]}`. The counts are those of one epoch, as far as it "
        "was read:",
        "",
    ]
    lines += ["| files | form | read | kept | duplicates | too short | too long | malformed |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for source, report in zip(corpus.sources, reports, strict=True):
        files = ", ".join(map(_base, source.files))
        counts = (
            report.read, report.kept, report.duplicates, report.too_short, report.too_long, report.malformed,
        )  # fmt: skip
        lines.append(f"| {files} | {source.form} | {' | '.join(f'{count:,}' for count in counts)} |")
    return [*lines, ""]


def _teachers(teacher: TeacherConfig) -> str:
    names = [_base(model) for model in teacher.models] or ["unnamed"]
    if len(names) == 1:
        return names[0]
    shares = normalized_weights(len(names), teacher.weights)
    return "the vectors side by side of " + ", ".join(
        f"{name} (share {share:.2f})" for name, share in zip(names, shares, strict=True)
    )


def package_versions() -> list[str]:
    """Names and versions of the packages that a model depends on, those that are installed."""
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found


def _base(path: str) -> str:
    # The folders of whoever trained it are nobody's business.
    return path if path.startswith("hf:") else path.rstrip("/").rpartition("/")[2] or path
