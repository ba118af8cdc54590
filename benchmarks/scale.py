"""Compares engines that encode a folder of Parquet files into another one, in one run.

    python benchmarks/scale.py [--rows 1500000] [--texts FILE]

The engines are one plain process, ``sentenc encode --processes``, Polars, Ray Data and Spark. Each runs in a process of
its own, one after the other, on all files and on the first of them alone. The difference of both is the cost of the rows
without the start-up. All write Parquet without compression and without a dictionary of the vectors; sentenc compresses
the other columns. The vectors are the first 256 components of cse-en, of unit length and in float32. After each run,
the ids of the output are compared with those of the input, and some vectors with those of ``encode``.
"""

import argparse
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import machine
import numpy as np
import process_tree
import scale_report
from encode_speed import natural_sentences

from sentenc.installed import installed_versions

MODEL, DIM = "cse-en", 256
OPTIONS: dict[str, Any] = {"normalize_embeddings": True, "truncate_dim": DIM}
FILES = 12
PROCESSES = 2
BATCH = 8192
# The engines that encode, and the packages that they need.
NEEDS = {"plain": "pyarrow", "processes": "pyarrow", "polars": "polars", "ray": "ray", "spark": "pyspark"}


def texts(words: list[str], rows: int) -> Iterator[str]:
    """Yields texts of 8 to 24 successive words of a source, 16 on average."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(8, 25, rows)
    starts = rng.integers(0, len(words) - 24, rows)
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        yield " ".join(words[start : start + length])


def write_input(folder: Path, source: Path | None, rows: int) -> None:
    """Writes the files of the input, with the columns id and text."""
    import pyarrow
    import pyarrow.parquet

    words = " ".join(natural_sentences(source)).split()
    stream = texts(words, rows)
    bounds = np.linspace(0, rows, FILES + 1).astype(int).tolist()
    folder.mkdir()
    for number, (start, stop) in enumerate(pairwise(bounds)):
        table = pyarrow.table({"id": range(start, stop), "text": [next(stream) for _ in range(stop - start)]})
        pyarrow.parquet.write_table(table, folder / f"part-{number:05d}.parquet")


def run_plain(source: Path, output: Path) -> None:
    """One process: a loop over files and batches."""
    import pyarrow.parquet

    import sentenc
    from sentenc.io.parquet_writing import open_writer

    encoder = sentenc.load(MODEL, threads=1)
    output.mkdir()
    for path in sorted(source.glob("*.parquet")):
        writer = None
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(BATCH):
            table = encoder.encode_table(batch, **OPTIONS)
            writer = writer or open_writer(output / path.name, table.schema, ["embedding"])
            writer.write_table(table)
        writer.close()


def run_processes(source: Path, output: Path) -> None:
    """The command line with several processes."""
    from sentenc.cli import cli

    files = [str(path) for path in sorted(source.glob("*.parquet"))]
    options = ["--processes", str(PROCESSES), "--normalize", "--truncate-dim", str(DIM), "-q"]
    cli.main(["encode", *files, "-o", f"{output}/", "-m", MODEL, *options], standalone_mode=False)


def run_polars(source: Path, output: Path) -> None:
    """Polars's streaming engine, with one file of output."""
    import polars

    from sentenc.integrations.polars import encode

    output.mkdir()
    frame = polars.scan_parquet(source / "*.parquet")
    frame = frame.with_columns(embedding=encode(polars.col("text"), model=MODEL, **OPTIONS))
    frame.sink_parquet(output / "part.parquet", compression="uncompressed")


def run_ray(source: Path, output: Path) -> None:
    """Ray Data with an actor for each process."""
    import ray

    from sentenc.integrations.ray import EncodeBatch

    # A socket has a path of at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        ray.init(num_cpus=PROCESSES + 1, include_dashboard=False, _temp_dir=folder)
        ray.data.DataContext.get_current().enable_progress_bars = False
        dataset = ray.data.read_parquet(str(source)).map_batches(
            EncodeBatch,
            fn_constructor_kwargs={"model": MODEL, **OPTIONS},
            batch_format="pyarrow",
            batch_size=BATCH,
            compute=ray.data.ActorPoolStrategy(size=PROCESSES),
        )
        dataset.write_parquet(str(output), compression="none", use_dictionary=["text"])
        ray.shutdown()


def run_spark(source: Path, output: Path) -> None:
    """Spark on this machine, with a Python worker for each process."""
    from pyspark.sql import SparkSession

    from sentenc.integrations.spark import encode_column

    builder = SparkSession.builder.master(f"local[{PROCESSES}]").config("spark.ui.enabled", "false")
    session = (
        builder.config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )
    frame = encode_column(session.read.parquet(str(source)), model=MODEL, **OPTIONS)
    writer = frame.write.option("compression", "uncompressed")
    writer.option("parquet.enable.dictionary#embedding.list.element", "false").parquet(str(output))
    session.stop()


WAYS: dict[str, Callable[[Path, Path], None]] = {
    "plain": run_plain, "processes": run_processes, "polars": run_polars, "ray": run_ray, "spark": run_spark,
}  # fmt: skip


def check(source: Path, output: Path) -> int:
    """Compares ids and some vectors of an output with its input; returns the bytes of the output.

    Raises:
        SystemExit: A row is missing, is there twice or has another vector.
    """
    import pyarrow.dataset

    import sentenc

    files = [path for path in sorted(output.rglob("*.parquet")) if not path.name.startswith((".", "_"))]
    expected = pyarrow.dataset.dataset(source).to_table(columns=["id"])["id"].to_numpy()
    ids = pyarrow.dataset.dataset(files).to_table(columns=["id"])["id"].to_numpy()
    if not np.array_equal(np.sort(ids), np.sort(expected)):
        raise SystemExit(
            f"{output} has {len(ids)} rows with {len(np.unique(ids))} ids, expected {len(expected)}"
        )
    for path in (files[0], files[-1]):
        head = pyarrow.dataset.dataset(path).head(100)
        vectors = np.array(head["embedding"].to_pylist(), np.float32)
        encoded = sentenc.load(MODEL).encode(head["text"].to_pylist(), **OPTIONS)
        if not np.allclose(vectors, encoded, atol=1e-5):
            raise SystemExit(f"{path} has other vectors than encode")
    return sum(path.stat().st_size for path in files)


def measure(way: str, source: Path, work: Path) -> dict[str, Any]:
    """Runs a way in a process of its own and returns its resources."""
    output = work / "output"
    command = [sys.executable, __file__, "--way", way, "--input", str(source), "--output", str(output)]
    usage = process_tree.run(command, _environment(), work / "log.txt")
    size = check(source, output)
    shutil.rmtree(output)
    return {
        "wall": usage.wall, "cpu": usage.cpu, "peak_pss": usage.peak_pss, "processes": usage.processes, "bytes": size,
    }  # fmt: skip


def _environment() -> dict[str, str]:
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    return os.environ | {
        "PYTHONPATH": paths,
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_500_000, help="texts of all files together")
    parser.add_argument(
        "--texts", type=Path, help="a file of sentences; by default a corpus that gensim contains"
    )
    parser.add_argument("--source", default="Lee corpus", help="its name, for the result")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="by default all")
    parser.add_argument("--name", default="scale", help="the name of the result, without .json")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--input", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        WAYS[options.way](options.input, options.output)
        return
    for way in options.ways:
        if importlib.util.find_spec(NEEDS[way]) is None:
            raise SystemExit(f"{way} needs the package {NEEDS[way]}")
    content = {**machine.circumstances(), "settings": settings(options)}
    content["rows"], content["settings"]["input_bytes"] = measure_all(options)
    path = machine.write(options.name, content)
    scale_report.write(path, content)
    print(scale_report.table(content))


def settings(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "model": MODEL, "dim": DIM, "dtype": "float32", "rows": options.rows, "files": FILES,
        "processes": PROCESSES, "source": options.source,
        "versions": installed_versions(sorted(set(NEEDS.values()))),
    }  # fmt: skip


def measure_all(options: argparse.Namespace) -> tuple[list[dict[str, Any]], int]:
    """Returns the measurements of all ways, on all files and on the first, and the bytes of all files."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_input(work / "input", options.texts, options.rows)
        (work / "first").mkdir()
        shutil.copy(work / "input" / "part-00000.parquet", work / "first")
        size = sum(path.stat().st_size for path in (work / "input").iterdir())
        first = options.rows // FILES
        for way in options.ways:
            rows.append({"way": way, "rows": options.rows, **measure(way, work / "input", work)})
            rows[-1]["one_file"] = {"rows": first, **measure(way, work / "first", work)}
            print(f"{way}: {rows[-1]}", file=sys.stderr)
    return rows, size


if __name__ == "__main__":
    main()
