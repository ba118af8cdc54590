"""Measures retrieval quality on a BEIR data set (scifact): several encoders, BM25, and hybrids.

    python benchmarks/retrieval.py --data FOLDER [--models cse-en] [--baselines minilm,model2vec,bm25]

FOLDER has BEIR's layout: ``corpus.jsonl``, ``queries.jsonl``, ``qrels/test.tsv``. A document is its title and
its text. nDCG at 10 and recall at 100 are defined as in BEIR: gains are the judgments, unjudged documents
have no gain, and the mean is over the judged queries. A hybrid is the reciprocal rank fusion (Cormack et al.
2009, k = 60) of the first 100 documents of BM25 and of the encoder. Nothing is tuned.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import numpy as np
from transfer import minilm, model2vec

from sentenc.encoders.base import Encoder
from sentenc.registry import load
from sentenc.retrieval import Index

BM25 = "BM25 (bm25s)"
DEPTH = 100
# The ids of the best documents of each query.
Run = dict[str, list[str]]


def read_beir(folder: Path) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]:
    """Returns the documents, the judged queries, and the judgments as {query: {document: gain}}."""
    judged: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, gain = line.split("\t")
        judged.setdefault(query, {})[document] = int(gain)
    documents, queries = {}, {}
    for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        documents[row["_id"]] = f"{row.get('title', '')} {row['text']}".strip()
    for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["_id"] in judged:
            queries[row["_id"]] = row["text"]
    return documents, queries, judged


def ndcg(ranking: list[str], gains: dict[str, int], k: int = 10) -> float:
    def discounted(ordered_gains: list[int]) -> float:
        return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(ordered_gains[:k]))

    return discounted([gains.get(name, 0) for name in ranking]) / discounted(
        sorted(gains.values(), reverse=True)
    )


def recall(ranking: list[str], gains: dict[str, int], k: int = DEPTH) -> float:
    relevant = {name for name, gain in gains.items() if gain > 0}
    return len(relevant & set(ranking[:k])) / len(relevant)


def fused(runs: list[Run], k: int = 60) -> Run:
    """Returns the reciprocal rank fusion of several runs."""
    merged = {}
    for query in runs[0]:
        scores: dict[str, float] = {}
        for run in runs:
            for rank, name in enumerate(run[query], 1):
                scores[name] = scores.get(name, 0.0) + 1 / (k + rank)
        merged[query] = sorted(scores, key=lambda name: (-scores[name], name))[:DEPTH]
    return merged


def by_encoder(
    encode: Callable[[list[str]], np.ndarray], documents: dict[str, str], queries: dict[str, str]
) -> tuple[Run, dict[str, float]]:
    started = time.perf_counter()
    vectors = encode(list(documents.values()))
    index = Index(dim=vectors.shape[1])
    index.add(list(documents.values()), vectors=vectors, ids=list(documents))
    built = time.perf_counter()
    hits = index.search(np.asarray(encode(list(queries.values())), np.float32), DEPTH)
    seconds = {"index": built - started, "search": time.perf_counter() - built}
    return {name: [hit.id for hit in row] for name, row in zip(queries, hits, strict=True)}, seconds


def by_bm25(documents: dict[str, str], queries: dict[str, str]) -> tuple[Run, dict[str, float]]:
    import bm25s

    started = time.perf_counter()
    names = list(documents)
    index = bm25s.BM25()
    index.index(
        bm25s.tokenize(list(documents.values()), stopwords="en", show_progress=False), show_progress=False
    )
    built = time.perf_counter()
    tokens = bm25s.tokenize(list(queries.values()), stopwords="en", show_progress=False)
    rows, _ = index.retrieve(tokens, k=DEPTH, show_progress=False)
    seconds = {"index": built - started, "search": time.perf_counter() - built}
    return {name: [names[i] for i in row] for name, row in zip(queries, rows, strict=True)}, seconds


def quiet(encoder: Any) -> Callable[[list[str]], np.ndarray]:
    """Returns an encoder as a function that cuts long documents silently, as the other systems do."""
    if not isinstance(encoder, Encoder):
        return encoder
    return lambda texts: encoder.encode(texts, on_overflow="ignore")


def retrieval_systems(
    arguments: argparse.Namespace, documents: dict[str, str], queries: dict[str, str]
) -> dict[str, Callable[[], tuple[Run, dict[str, float]]]]:
    """Returns a function for each system that returns its run and its seconds. BM25 is the last system."""
    baselines = arguments.baselines.split(",")
    systems: dict[str, Callable[[], tuple[Run, dict[str, float]]]] = {}
    for model in arguments.models.split(","):
        encode = quiet(load(model))
        encode(["read the tables before anything is timed"])
        systems[Path(model).name] = lambda encode=encode: by_encoder(encode, documents, queries)
    if "minilm" in baselines:
        systems["all-MiniLM-L6-v2"] = lambda: by_encoder(quiet(minilm()), documents, queries)
    if "model2vec" in baselines:
        systems["model2vec of all-MiniLM-L6-v2"] = lambda: by_encoder(
            model2vec(arguments.model2vec), documents, queries
        )
    if "bm25" in baselines:
        systems[BM25] = lambda: by_bm25(documents, queries)
    return systems


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder in BEIR's layout")
    parser.add_argument("--models", default="cse-en", help="names or folders of models, separated by commas")
    parser.add_argument("--baselines", default="minilm,model2vec,bm25")
    parser.add_argument(
        "--model2vec", type=Path, help="folder of a distilled model; by default one is distilled"
    )
    arguments = parser.parse_args()
    documents, queries, judged = read_beir(arguments.data)
    runs, rows = {}, {}
    for name, system in retrieval_systems(arguments, documents, queries).items():
        runs[name], seconds = system()
        rows[name] = {**scores(runs[name], judged), "seconds": {k: round(v, 3) for k, v in seconds.items()}}
        print(name, rows[name], flush=True)
    if BM25 in runs:
        for name in runs:
            if name != BM25:
                rows[f"hybrid of BM25 and {name}"] = scores(fused([runs[BM25], runs[name]]), judged)
                print(name, rows[f"hybrid of BM25 and {name}"], flush=True)
    content = {
        **machine.circumstances(),
        "data": arguments.data.name,
        "documents": len(documents),
        "queries": len(queries),
        "systems": rows,
    }
    machine.write("retrieval", content)


def scores(run: Run, judged: dict[str, dict[str, int]]) -> dict[str, float]:
    """Returns the mean metrics of a run in points."""

    def mean(metric: Callable[[list[str], dict[str, int]], float]) -> float:
        return round(100 * float(np.mean([metric(run[query], gains) for query, gains in judged.items()])), 2)

    return {"nDCG@10": mean(ndcg), "recall@100": mean(recall)}


if __name__ == "__main__":
    main()
