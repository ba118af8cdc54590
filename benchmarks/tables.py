"""Writes the Markdown tables of benchmarks/results that the documentation includes, from the JSON files beside them.

python benchmarks/tables.py
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
STS = ("STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R")
TRANSFER = ("MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC")


def transfer_summary(data: Any) -> str:
    rows = [
        [
            name,
            *(f"{encoder['scores'][task]:.1f}" for task in STS),
            f"{encoder['averages']['STS avg']:.1f}",
            *(f"{encoder['scores'][task]:.1f}" for task in TRANSFER),
            f"{encoder['averages']['transfer avg']:.1f}",
        ]
        for name, encoder in data["encoders"].items()
    ]
    return table(["", *STS, "STS mean", *TRANSFER, "transfer mean"], rows)


def transfer_agreement(data: Any) -> str:
    tasks = data["tasks"]
    rows = [
        [name, *(f"{task[key]['accuracy']:.2f}" for task in tasks.values())]
        for name, key in (("scikit-learn", "scikit-learn"), ("sentenc", "ours"))
    ]
    return table(["accuracy", *tasks], rows)


def transfer_speed(data: Any) -> str:
    rows = [
        [name, task["scikit-learn"]["fits"], f"{task['scikit-learn']['wall']:.1f}", f"{task['ours']['wall']:.1f}",
         f"{task['ratio']['wall']:.1f}"]
        for name, task in data["tasks"].items()
    ]  # fmt: skip
    return table(["task", "fits", "scikit-learn, s", "sentenc, s", "ratio"], rows)


def encode_memory(data: Any) -> str:
    rows = [[row["way"], f"{row['output_mib']:.0f}", f"{row['added_mib']:.0f}"] for row in data["rows"]]
    return table([f"{data['texts']:,} texts", "size of the output, MiB", "memory added, MiB"], rows)


def table(header: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table with a right-aligned column for each but the first."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    rule = ["---"] + ["---:"] * (len(cells[0]) - 1)
    return "".join("| " + " | ".join(row) + " |\n" for row in (cells[0], rule, *cells[1:]))


TABLES: dict[str, Callable[[Any], str]] = {
    "transfer/summary": transfer_summary,
    "transfer_agreement": transfer_agreement,
    "transfer_speed": transfer_speed,
    "encode_memory": encode_memory,
}


def render(name: str) -> str:
    """The Markdown of one result."""
    return TABLES[name](json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    for name in TABLES:
        (RESULTS / f"{name}.md").write_text(render(name), encoding="utf-8")
