"""Writes the Markdown tables that the documentation includes, from the JSON files in benchmarks/results.

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
    groups = ((STS, "STS avg"), (TRANSFER, "transfer avg"))
    return "\n".join(scores(data["encoders"], tasks, average) for tasks, average in groups)


def scores(encoders: Any, tasks: tuple[str, ...], average: str) -> str:
    rows = [
        [name, *(f"{encoder['scores'][task]:.1f}" for task in tasks), f"{encoder['averages'][average]:.1f}"]
        for name, encoder in encoders.items()
    ]
    return table(["", *tasks, "mean"], rows)


def transfer_speed(data: Any) -> str:
    rows = [
        [
            name,
            task["scikit-learn"]["fits"],
            f"{task['scikit-learn']['wall']:.1f}",
            f"{task['ours']['wall']:.1f}",
            f"{task['ratio']['wall']:.1f}",
        ]
        for name, task in data["tasks"].items()
    ]
    return table(["task", "fits", "scikit-learn, s", "sentenc, s", "ratio"], rows)


def encode_memory(data: Any) -> str:
    rows = [[row["way"], f"{row['output_mib']:.0f}", f"{row['added_mib']:.0f}"] for row in data["rows"]]
    return table([f"{data['texts']:,} texts", "size of the output, MiB", "memory added, MiB"], rows)


def index_speed(data: Any) -> str:
    rows = []
    for size, systems in data["sizes"].items():
        for name, system in systems.items():
            # FAISS's own indexes choose no effort: the last point is the one of highest recall.
            point = next((p for p in system["points"] if p.get("chosen")), system["points"][-1])
            rows.append(
                [
                    name,
                    f"{int(size):,}",
                    f"{sum(system['seconds'].values()):.1f}",
                    system.get("MB on disk", ""),
                    f"{point['recall@10']:.3f}",
                    f"{point['queries/s, 1,000 at once']:,.0f}",
                    f"{point['ms, one alone']:.1f}",
                ]
            )
    header = [
        "kind/store",
        "items",
        "build, s",
        "MB on disk",
        "recall@10",
        "queries/s, 1,000 at once",
        "ms, one alone",
    ]
    return table(header, rows)


def server_load(data: Any) -> str:
    rows = [
        [
            # Results of earlier versions have one worker.
            single.get("workers", 1),
            single["concurrency"],
            f"{single['requests_per_second']:,.0f}",
            f"{single['p50_ms']:.1f}",
            f"{single['p99_ms']:.1f}",
            f"{many['texts_per_second']:,.0f}",
        ]
        for single, many in zip(data["one_text"], data["32_texts"], strict=True)
    ]
    return table(
        ["workers", "clients", "requests/s, one text each", "p50, ms", "p99, ms", "texts/s, 32 a request"],
        rows,
    )


def vector_stores(data: Any) -> str:
    parts = []
    if "speed" in data:
        rows = [
            [
                name,
                f"{row['insert s']:.1f}",
                "" if "exact" in name else f"{row['index s']:.1f}",
                f"{row['ms/query']:.1f}",
                f"{row['recall@10']:.3f}",
                f"{row['MB']:.0f}",
            ]
            for name, row in data["speed"]["stores"].items()
        ]
        header = ["store", "insert, s", "index, s", "ms a query", "recall@10", "MB on disk"]
        parts.append(table(header, rows))
    if "quality" in data:
        sets = list(data["quality"])
        systems = list(data["quality"][sets[0]])
        rows = []
        for system in systems:
            values = [data["quality"][name][system]["nDCG@10"] for name in sets]
            mean = sum(values) / len(values)
            rows.append([system, *(f"{value:.2f}" for value in values), f"{mean:.2f}"])
        parts.append(table(["hybrid search, nDCG@10", *sets, "mean"], rows))
    return "\n".join(parts)


def scale(data: Any) -> str:
    # The module imports this one.
    import scale_report

    return scale_report.table(data)


def scale_projection(data: Any) -> str:
    import scale_report

    return scale_report.projection(data)


def table(header: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table with a right-aligned column for each but the first."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    rule = ["---"] + ["---:"] * (len(cells[0]) - 1)
    return "".join("| " + " | ".join(row) + " |\n" for row in (cells[0], rule, *cells[1:]))


TABLES: dict[str, Callable[[Any], str]] = {
    "transfer/summary": transfer_summary,
    "transfer_speed": transfer_speed,
    "encode_memory": encode_memory,
    "index_speed": index_speed,
    "server_load": server_load,
    "vector_stores": vector_stores,
    "scale": scale,
    "scale_projection": scale_projection,
}
# Tables of the result of another name.
SOURCES = {"scale_projection": "scale"}


def render(name: str) -> str:
    """The Markdown of one result."""
    return TABLES[name](json.loads((RESULTS / f"{SOURCES.get(name, name)}.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    for name in TABLES:
        (RESULTS / f"{name}.md").write_text(render(name), encoding="utf-8")
