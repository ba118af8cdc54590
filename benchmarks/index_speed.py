"""Measures the index at several sizes: build time, memory, size on disk, and speed against recall.

    python benchmarks/index_speed.py --texts FILE [--sizes 100000,1000000] [--model cse-en]

FILE contains one sentence per line. The first 1,000 lines are the queries, and the rest is indexed. All
configurations use the same vectors, one after the other, each in a process of its own. Memory is the
anonymous memory of the process beyond its input, without mapped files. For comparison, the flat index and the
graph of FAISS are measured on the same vectors with FAISS's own calls. They store neither ids, texts nor
payloads, and have no exact scores and no deletions.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import machine
import numpy as np

QUERIES = 1000
KINDS = ("exact", "ivf", "ivfpq", "hnsw")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=Path, required=True, help="text file with one sentence per line")
    parser.add_argument("--sizes", default="100000,1000000", help="numbers of sentences to index")
    parser.add_argument("--model", default="cse-en", help="name or folder of the encoder")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of each measurement")
    parser.add_argument("--only", help="configurations to measure, separated by commas")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(work(*arguments.worker, arguments.rounds)))
        return
    content = {**machine.circumstances(), "model": arguments.model, "queries": QUERIES, "k": 10, "sizes": {}}
    for size in map(int, arguments.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            content["sizes"][str(size)] = measure(size, Path(folder), arguments)
            machine.write("index_speed", content)
            plot(content)


def plot(content: dict) -> None:
    """Draws queries per second against recall, with one panel per size, into results/index_speed.png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(name for rows in content["sizes"].values() for name in rows))
    colors = dict(zip(names, pyplot.get_cmap("tab10").colors, strict=False))
    figure, axes = pyplot.subplots(1, len(content["sizes"]), figsize=(11, 4.6), sharey=True, squeeze=False)
    for axis, (size, rows) in zip(axes[0], content["sizes"].items(), strict=True):
        for name, row in rows.items():
            recall = [point["recall@10"] for point in row["points"]]
            speed = [point["queries/s, 1,000 at once"] for point in row["points"]]
            style = {"linestyle": "--", "marker": "x"} if name.startswith("faiss") else {"marker": "o"}
            axis.plot(
                recall, speed, color=colors[name], label=name.replace("/float32", ""), markersize=5, **style
            )
        axis.set(title=f"{int(size):,} sentences", xlabel="recall@10", yscale="log")
        axis.grid(alpha=0.3, which="both")
    axes[0][0].set_ylabel("queries/s, 1,000 at once, 2 cores")
    handles = {
        label: line for axis in axes[0] for line, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    axes[0][0].legend(handles.values(), handles.keys(), fontsize=8, loc="lower left")
    figure.tight_layout()
    figure.savefig(machine.RESULTS / "index_speed.png", dpi=110)


def measure(size: int, folder: Path, arguments: argparse.Namespace) -> dict:
    prepare(size, folder, arguments)
    rows = {}
    configurations = [f"{kind}/float32" for kind in KINDS] + ["ivf/int8", "auto/binary"]
    configurations += ["faiss-flat", "faiss-hnsw"]
    # These take very long to build at large sizes.
    if size > 200_000:
        configurations = [name for name in configurations if name not in ("ivfpq/float32", "faiss-hnsw")]
    for name in arguments.only.split(",") if arguments.only else configurations:
        command = [
            sys.executable,
            __file__,
            "--texts",
            str(arguments.texts),
            "--rounds",
            str(arguments.rounds),
        ]
        done = subprocess.run(
            [*command, "--worker", name, str(folder), str(size)], capture_output=True, text=True, check=True
        )
        rows[name] = json.loads(done.stdout.splitlines()[-1])
        print(size, name, rows[name], flush=True)
    return rows


def prepare(size: int, folder: Path, arguments: argparse.Namespace) -> None:
    """Writes the vectors, the queries, the texts and the exact 10 best rows of each query."""
    from sentenc.registry import load

    with open(arguments.texts, encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line, _ in zip(file, range(size + QUERIES), strict=False)]
    if len(lines) < size + QUERIES:
        raise SystemExit(f"{arguments.texts} has {len(lines)} lines, expected at least {size + QUERIES}")
    encoder = load(arguments.model)
    # The columns that an index of texts keeps.
    vectors = encoder.encode(lines, truncate_dim=encoder.similarity_dim, normalize_embeddings=True)
    np.save(folder / "queries.npy", vectors[:QUERIES])
    np.save(folder / "vectors.npy", vectors[QUERIES:])
    (folder / "texts.json").write_text(json.dumps(lines[QUERIES:]), encoding="utf-8")
    best = []
    for start in range(0, QUERIES, 100):
        scores = vectors[start : start + 100] @ vectors[QUERIES:].T
        top = np.argpartition(-scores, 10, axis=1)[:, :10]
        best.append(top)
    np.save(folder / "best.npy", np.concatenate(best))


def work(name: str, folder: str, size: str, rounds: int) -> dict:
    """Returns the measurements of one configuration."""
    path = Path(folder)
    vectors, queries = np.load(path / "vectors.npy", mmap_mode="r"), np.load(path / "queries.npy")
    best = [set(row) for row in np.load(path / "best.npy").tolist()]
    if name.startswith("faiss-"):
        return measure_faiss(name, vectors, queries, best, rounds)
    from sentenc.retrieval import Index

    kind, store = name.split("/")
    index = Index(dim=vectors.shape[1], kind=kind, store=store)
    texts = json.loads((path / "texts.json").read_text(encoding="utf-8"))
    memory, before = OwnMemory(), OwnMemory().peak
    started, target = time.perf_counter(), path / f"{kind}-{store}"
    for low in range(0, int(size), 65_536):
        index.add(texts[low : low + 65_536], vectors=vectors[low : low + 65_536])
        index.save(target)
    added = time.perf_counter()
    index.optimize()
    index.save()
    built = time.perf_counter()
    building = memory.peak - before
    del index, texts
    gc.collect()
    before = machine.own_memory()
    index = Index.open(target)
    row = {
        "seconds": {"add": round(added - started, 1), "structure": round(built - added, 1)},
        "MiB of memory while building": building,
        "MB on disk": round(index.info()["bytes"] / 1e6, 1),
        "points": [],
    }
    # The public interface has no way to set the search effort, because optimize() chooses it.
    structure = index._snapshot.ann
    efforts = [None] if structure is None else structure.efforts()
    chosen = None if structure is None else structure.effort
    for effort in efforts:
        if structure is not None:
            structure.effort = effort
        point = timed(
            lambda part: [[hit.id for hit in hits] for hits in index.search(part, 10)], queries, best, rounds
        )
        row["points"].append({"effort": effort, "chosen": effort == chosen, **point})
        if point["recall@10"] > 0.99:
            break
    row["MiB of memory while searching"] = machine.own_memory() - before
    return row


def measure_faiss(name: str, vectors: np.ndarray, queries: np.ndarray, best: list[set], rounds: int) -> dict:
    import faiss

    started, before = time.perf_counter(), OwnMemory().peak
    dim = vectors.shape[1]
    index = (
        faiss.IndexFlatIP(dim)
        if name == "faiss-flat"
        else faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
    )
    index.add(np.ascontiguousarray(vectors))
    row = {"seconds": {"add": 0.0, "structure": round(time.perf_counter() - started, 1)}, "points": []}
    for effort in [None] if name == "faiss-flat" else (32, 64, 128):
        if effort:
            index.hnsw.efSearch = effort
        point = timed(lambda part: index.search(part, 10)[1].tolist(), queries, best, rounds)
        row["points"].append({"effort": effort, **point})
    row["MiB of memory while searching"] = OwnMemory().peak - before
    return row


def timed(search, queries: np.ndarray, best: list[set], rounds: int) -> dict:
    """Returns the recall of a search function and its speed, in one call and with single queries."""
    batch, single = [], []
    results = search(queries)
    for _ in range(rounds):
        started = time.perf_counter()
        search(queries)
        batch.append(QUERIES / (time.perf_counter() - started))
        started = time.perf_counter()
        for i in range(200):
            search(queries[i : i + 1])
        single.append((time.perf_counter() - started) / 200 * 1000)
    recall = np.mean([len(exact & set(row)) / 10 for exact, row in zip(best, results, strict=True)])
    return {
        "recall@10": round(float(recall), 4),
        "queries/s, 1,000 at once": round(float(np.median(batch)), 1),
        "ms, one alone": round(float(np.median(single)), 3),
    }


class OwnMemory:
    """Samples the peak of the process's anonymous memory, so that mapped files do not count."""

    def __init__(self) -> None:
        self.peak = machine.own_memory()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, machine.own_memory())
            time.sleep(0.02)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
