"""The tables of ``scale.py``, and the arithmetic from its figures to more texts.

``python benchmarks/tables.py`` writes both from benchmarks/results/scale.json.
"""

from pathlib import Path
from typing import Any

from tables import table as markdown_table

from sentenc.io.atomic import write_text

NAMES = {
    "plain": "one process",
    "processes": "`sentenc encode --processes 2`",
    "polars": "Polars",
    "ray": "Ray Data",
    "spark": "Spark",
}
# The assumptions of the projection.
TEXTS = {"100 million": 100_000_000, "10 billion": 10_000_000_000}
CORES = 32
GIGABIT = 10
MACHINES = {"100 million": 1, "10 billion": 20}


def table(content: dict[str, Any]) -> str:
    """Returns the measurements as Markdown."""
    settings = content["settings"]
    rows = [
        [
            NAMES[row["way"]],
            f"{row['rows'] / row['wall']:,.0f}",
            f"{row['wall']:.1f}",
            f"{row['cpu'] * 1e6 / row['rows']:.1f}",
            f"{marginal(row):.1f}",
            f"{start_up(row):.1f}",
            f"{row['peak_pss'] / 2**20:,.0f}",
            f"{row['bytes'] / row['rows']:,.0f}",
        ]
        for row in content["rows"]
    ]
    header = [
        "", "rows/s", "wall, s", "CPU s a million rows", "the same without start-up", "start-up, CPU s",
        "peak memory, MiB", "output, bytes a row",
    ]  # fmt: skip
    machine = content["machine"]
    note = (
        f"{settings['rows']:,} texts of 16 words on average, made of words of the {settings['source']}, in "
        f"{settings['files']} files. {settings['model']}, {settings['dim']} components, {settings['dtype']}. "
        f"{machine['cores']} cores of {machine['cpu']}, one run ({content['date']}), a load of "
        f"{machine['load_at_start']:.1f} at its start. The processes of a way are measured with all that they start: "
        "CPU seconds every 0.05 s and at the end, memory (proportional set size) every 0.5 s. The columns without "
        "start-up come from a second run on one file."
    )
    return markdown_table(header, rows) + "\n" + note + "\n"


def marginal(row: dict[str, Any]) -> float:
    """Returns the CPU seconds of a million more rows."""
    one = row["one_file"]
    more = (row["cpu"] - one["cpu"]) * 1e6 / (row["rows"] - one["rows"])
    # With few rows, the start-up differs by more than the rows cost.
    return float(more if more > 0 else row["cpu"] * 1e6 / row["rows"])


def start_up(row: dict[str, Any]) -> float:
    """Returns the CPU seconds that do not depend on the number of rows."""
    return float(row["cpu"] - marginal(row) * row["rows"] / 1e6)


def projection(content: dict[str, Any]) -> str:
    """Returns the hours, machines and bytes of more texts as Markdown, by arithmetic from the measurements."""
    parts = [_assumptions(content), _hours(content), _storage(content), _drivers(content)]
    return "\n".join(parts)


def _assumptions(content: dict[str, Any]) -> str:
    machine = content["machine"]
    return (
        f"Assumptions: a machine has {CORES} cores, each like one of the measurement ({machine['cpu']}, "
        f"{content['date']}), which are busy all the time, and a network of {GIGABIT} Gbit/s to the storage, in each "
        "direction. Cores do not slow each other down. There are many more files than cores. Start-up, failures and limits "
        "of the storage are left out. The texts have 16 words.\n"
    )


def _hours(content: dict[str, Any]) -> str:
    rows = []
    for row in content["rows"]:
        wire = max(row["bytes"] / row["rows"], _input_bytes(content)) / (GIGABIT / 8 * 1e9)
        for name, texts in TEXTS.items():
            machines = MACHINES[name]
            if row["way"] == "plain" or (row["way"] == "polars" and machines > 1):
                continue
            core_hours = texts * marginal(row) / 1e6 / 3600
            compute, network = core_hours / CORES / machines, texts * wire / machines / 3600
            rows.append(
                [
                    NAMES[row["way"]].replace(" 2`", f" {CORES}`"),
                    name,
                    machines,
                    f"{core_hours:,.1f}",
                    _duration(compute),
                    _duration(network),
                    "network" if network > compute else "cores",
                ]
            )
    header = ["", "texts", "machines", "core hours", "time of the cores", "time of the network", "limit"]
    return "### Time\n\n" + markdown_table(header, rows)


def _storage(content: dict[str, Any]) -> str:
    dim = content["settings"]["dim"]
    reference = next((row for row in content["rows"] if row["way"] == "plain"), content["rows"][0])
    texts_alone = _input_bytes(content)
    vector = {
        "float32": reference["bytes"] / reference["rows"] - texts_alone, "float16": 2.0 * dim, "int8": dim + 4.0,
    }  # fmt: skip
    rows = [
        [dtype, f"{size:,.0f}", *(_bytes(texts * (size + texts_alone)) for texts in TEXTS.values())]
        for dtype, size in vector.items()
    ]
    rows.append(["no vectors", "0", *(_bytes(texts * texts_alone) for texts in TEXTS.values())])
    header = ["vectors", "bytes a vector", *(f"{name} texts" for name in TEXTS)]
    note = (
        f"The sizes of ids, texts ({texts_alone:,.0f} bytes a row) and float32 are measured. Those of float16 and int8 "
        f"are the bytes of {dim} components, and a scale of 4 bytes: they were not measured."
    )
    return "### Storage\n\n" + markdown_table(header, rows) + "\n" + note + "\n"


def _drivers(content: dict[str, Any]) -> str:
    plain = next((row for row in content["rows"] if row["way"] == "plain"), None)
    lines = ["### What costs most\n"]
    if plain is not None:
        for row in content["rows"]:
            if row["way"] in ("ray", "spark", "polars"):
                lines.append(
                    f"- {NAMES[row['way']]} takes {marginal(row) / marginal(plain):.1f} times the CPU of one process, "
                    f"and starts in {start_up(row):.1f} CPU seconds."
                )
        size = plain["bytes"] / plain["rows"]
        full = GIGABIT / 8 * 1e9 / size * marginal(plain) / 1e6
        lines.append(
            f"- A network of {GIGABIT} Gbit/s takes the output of {full:.0f} cores in float32. More cores of a machine wait for "
            "it, so many small machines are faster than a few large ones."
        )
        lines.append(
            f"- A row has {size:,.0f} bytes, of which {size - _input_bytes(content):,.0f} are the vector in float32. "
            "float16 halves them, and int8 leaves a quarter; fewer components (`truncate_dim`) save in proportion."
        )
    lines.append(
        "- The cost is the number of machines times the longer of both times, times the price of a machine an hour, and "
        "the storage times its price a month. No price is assumed here."
    )
    return "\n".join(lines) + "\n"


def _input_bytes(content: dict[str, Any]) -> float:
    # The bytes a row of the input, which the output contains again.
    return float(content["settings"]["input_bytes"] / content["settings"]["rows"])


def _duration(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"


def _bytes(count: float) -> str:
    return f"{count / 1e12:,.2f} TB" if count >= 1e12 else f"{count / 1e9:,.1f} GB"


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes both texts next to the JSON file of a result."""
    write_text(path.with_suffix(".md"), table(content))
    write_text(path.with_name(f"{path.stem}_projection.md"), projection(content))
