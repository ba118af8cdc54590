"""Measures the latency and memory of lexical, vector and hybrid search, one query at a time on one thread.

    python benchmarks/search_speed.py --passages FILE --queries FILE [--sizes 100000,1000000]

Both files contain one text per line. Every system searches the same passages in a process of its own, which opens
what an earlier process built. The peers are the lexical engine bm25s (Lucene's BM25, English stemmer and stop
words) and the flat index of FAISS, on the same vectors; neither stores texts or ids, and neither can delete. A
query is a text, so the time of a vector search contains its encoding. The time to open does not contain the
loading of the model. Memory is the anonymous memory of the
process after its queries, and the memory of mapped files that it has read.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import machine
import numpy as np

import sentenc
from sentenc.retrieval import Index

K = 10
ROUNDS = 3
SYSTEMS = ("lexical", "vector", "hybrid", "bm25s", "FAISS flat")
BLOCK = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--passages", type=Path, required=True, help="text file with one passage per line")
    parser.add_argument("--queries", type=Path, required=True, help="text file with one query per line")
    parser.add_argument("--sizes", default="100000,1000000", help="numbers of passages")
    parser.add_argument("--model", default="cse-en", help="name or folder of the encoder")
    parser.add_argument("--limit", type=int, default=200, help="number of queries")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(*options.worker, options.model)))
        return
    with open(options.queries, encoding="utf-8") as file:
        queries = [line.strip() for line in islice(file, options.limit)]
    content = {
        **machine.circumstances(),
        "model": options.model,
        "queries": len(queries),
        "k": K,
        "sizes": {},
    }
    for size in map(int, options.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "queries.json").write_text(json.dumps(queries))
            content["sizes"][str(size)] = measure(size, Path(folder), options)
        path = machine.write("search_speed", content)
    path.with_suffix(".md").write_text(table(content) + "\n")
    print(table(content))


def measure(size: int, folder: Path, options: argparse.Namespace) -> dict:
    """Builds everything, and returns one entry for each system; the systems take turns in every round."""
    built = in_process("build", f"{options.passages}:{size}", folder, options.model)
    runs: dict[str, list[dict]] = {name: [] for name in SYSTEMS}
    for _ in range(ROUNDS):
        for name, own in runs.items():
            own.append(in_process(name, str(size), folder, options.model))
    systems = {}
    for name, own in runs.items():
        # The median over the rounds of a query, then over the queries.
        times = np.median([run.pop("seconds") for run in own], axis=0)
        systems[name] = {
            "p50_ms": float(np.median(times)) * 1e3,
            "p95_ms": float(np.quantile(times, 0.95)) * 1e3,
            "per_second": 1 / float(times.mean()),
            **{key: statistics.median(run[key] for run in own) for key in own[0]},
        }
    return {"passages": built, "systems": systems}


def in_process(system: str, what: str, folder: Path, model: str) -> dict:
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    command = [sys.executable, __file__, "--passages", "-", "--queries", "-", "--model", model]
    command += ["--worker", system, what, str(folder)]
    result = subprocess.run(command, env=os.environ | threads, stdout=subprocess.PIPE, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def work(system: str, what: str, folder: str, model: str) -> dict:
    """Builds, or measures one system; runs in a process of its own."""
    if system == "build":
        passages, _, size = what.rpartition(":")
        return build(Path(passages), int(size), Path(folder), model)
    queries = json.loads(Path(folder, "queries.json").read_text())
    encoder = sentenc.load(model)
    start = time.perf_counter()
    search = OPEN[system](Path(folder), encoder)
    opened = time.perf_counter() - start
    for query in queries[:10]:
        search(query)
    seconds = []
    for query in queries:
        start = time.perf_counter()
        search(query)
        seconds.append(time.perf_counter() - start)
    status = Path("/proc/self/status").read_text().splitlines()
    memory = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in status if line.startswith("Rss")}
    return {
        "seconds": seconds,
        "open_s": opened,
        "anonymous_mib": memory.get("RssAnon", 0),
        "mapped_mib": memory.get("RssFile", 0),
    }


def build(passages: Path, size: int, folder: Path, model: str) -> dict:
    import bm25s
    import Stemmer

    with open(passages, encoding="utf-8") as file:
        texts = [line.strip() for line in islice(file, size)]
    if len(texts) < size:
        raise SystemExit(f"{passages} has {len(texts):,} lines, expected at least {size:,}")
    encoder = sentenc.load(model)
    start = time.perf_counter()
    index = Index(encoder, kind="exact")
    for first in range(0, size, BLOCK):
        index.add(texts[first : first + BLOCK])
    index.save(folder / "index")
    index_seconds = time.perf_counter() - start
    vectors = np.empty((size, index.dim), np.float32)
    encoder.encode(texts, truncate_dim=index.dim, normalize_embeddings=True, out=vectors)
    np.save(folder / "vectors.npy", vectors)
    start = time.perf_counter()
    tokens = bm25s.tokenize(texts, stopwords="en", stemmer=Stemmer.Stemmer("english"), show_progress=False)
    engine = bm25s.BM25(k1=1.2, b=0.75)
    engine.index(tokens, show_progress=False)
    engine.save(folder / "bm25s")
    return {
        "words_a_passage": statistics.mean(len(text.split()) for text in texts),
        "index_s": index_seconds,
        "index_mb": sum(path.stat().st_size for path in (folder / "index").rglob("*")) / 1e6,
        "bm25s_s": time.perf_counter() - start,
        "bm25s_mb": sum(path.stat().st_size for path in (folder / "bm25s").rglob("*")) / 1e6,
    }


def open_index(mode: str) -> Callable[[Path, sentenc.Encoder], Callable]:
    def opened(folder: Path, encoder: sentenc.Encoder) -> Callable:
        index = Index.open(folder / "index", encoder)
        return lambda query: index.search(query, K, mode=mode)

    return opened


def open_bm25s(folder: Path, encoder: sentenc.Encoder) -> Callable:
    import bm25s
    import Stemmer

    engine, stemmer = bm25s.BM25.load(folder / "bm25s", mmap=True), Stemmer.Stemmer("english")

    def search(query: str):
        tokens = bm25s.tokenize([query], stopwords="en", stemmer=stemmer, show_progress=False)
        return engine.retrieve(tokens, k=K, show_progress=False)

    return search


def open_faiss(folder: Path, encoder: sentenc.Encoder) -> Callable:
    import faiss

    vectors = np.load(folder / "vectors.npy")
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)

    def search(query: str):
        return flat.search(encoder.encode([query], truncate_dim=flat.d, normalize_embeddings=True), K)

    return search


OPEN = {
    "lexical": open_index("lexical"),
    "vector": open_index("vector"),
    "hybrid": open_index("hybrid"),
    "bm25s": open_bm25s,
    "FAISS flat": open_faiss,
}


def table(content: dict) -> str:
    lines = [
        "| passages | system | p50, ms | p95, ms | queries/s | opened in, s | memory, MiB | mapped, MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names = {"lexical": "Index, words", "vector": "Index, vectors", "hybrid": "Index, hybrid"}
    for size, measured in content["sizes"].items():
        for system, own in measured["systems"].items():
            lines.append(
                f"| {int(size):,} | {names.get(system, system)} | {own['p50_ms']:.2f} | {own['p95_ms']:.2f} "
                f"| {own['per_second']:,.0f} | {own['open_s']:.2f} | {own['anonymous_mib']:,.0f} "
                f"| {own['mapped_mib']:,.0f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
