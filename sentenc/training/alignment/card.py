"""The model card of an aligned model."""

from sentenc._version import __version__
from sentenc.training.alignment.report import AlignmentReport


def alignment_card(name: str, teacher: str, report: AlignmentReport, command: str | None) -> str:
    """Returns a model card in Markdown.

    Args:
        name: The name of the model.
        teacher: The name of the teacher.
        report: The measurements.
        command: The command that made the model, if there was one.
    """
    lines = [
        f"# {name}",
        "",
        f"A table of word vectors in the space of {teacher}, {report.dim} dimensions, fitted by sentenc "
        f"{__version__}. It encodes queries for an index whose documents were encoded by {teacher}.",
        "",
        "## Measurements",
        "",
        "On texts that were kept out of training:",
        "",
        "| measure | value |",
        "|---|---|",
        *(f"| {measure} | {value} |" for measure, value in report.lines()),
        "",
    ]
    lines += [f"- {remark[0].upper()}{remark[1:]}." for remark in report.warnings]
    if report.warnings:
        lines.append("")
    if command is not None:
        lines += ["## How it was made", "", "```", command, "```", ""]
    return "\n".join(lines)
