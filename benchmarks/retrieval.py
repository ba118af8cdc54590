"""Measures the quality of search: BM25, vectors, and hybrids of both, for several encoders.

    python benchmarks/retrieval.py --data FOLDER [FOLDER ...] [--models cse-en,tinybert4-en]

Each FOLDER has BEIR's layout: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``. The rankings are those of
``sentenc.Index.search``, and the metrics those of ``sentenc.metrics``. For every encoder, the hybrid is measured with
all weights of the vectors in steps of 0.05. The weight of a model is the smallest whose mean over the data sets is at
most 0.1 below the best, which leaves a margin toward BM25; it must be chosen on development sets. A hybrid row uses the
weight in the model's metadata, or the default.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import numpy as np
from transfer import minilm, model2vec

from sentenc.encoders.base import Encoder
from sentenc.evaluation.beir import (
    CORPUS,
    QUERIES,
    Documents,
    Queries,
    judgments_file,
    read_documents,
    read_queries,
)
from sentenc.metrics.ranking import ranking_metrics
from sentenc.registry import load
from sentenc.retrieval import Index
from sentenc.retrieval.words import word_settings

DEPTH = 100
WEIGHTS = [round(0.05 * i, 2) for i in range(21)]
# A weight may lose this much against the best one, in points of the mean.
MARGIN = 0.1
Encode = Callable[[list[str]], np.ndarray]


class DataSet:
    """The documents and judged queries of a folder."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.documents: Documents = read_documents([folder / CORPUS], "utf-8", None)
        self.queries: Queries = read_queries([folder / QUERIES, judgments_file(folder)], "utf-8", None)
        self.judgments = dict(zip(self.queries.ids, self.queries.grades, strict=True))

    def indexed(self, encode: Encode | None) -> tuple[Index, np.ndarray]:
        """Returns an index of the documents and the vectors of the queries; zero vectors without an encoder."""
        documents, queries = list(self.documents.texts), list(self.queries.texts)
        vectors = np.zeros((len(documents), 1)) if encode is None else encode(documents)
        index = Index(dim=vectors.shape[1], language="en")
        index.add(documents, vectors=vectors, ids=list(self.documents.ids))
        return index, np.zeros((len(queries), 1)) if encode is None else np.asarray(encode(queries))

    def scores(self, index: Index, vectors: np.ndarray, k: int = DEPTH, **options: Any) -> dict[str, float]:
        """Returns the mean metrics of a search in points; recall is cut at k."""
        hits = index.search(list(self.queries.texts), k, vectors=vectors, **options)
        rankings = {name: [hit.id for hit in own] for name, own in zip(self.queries.ids, hits, strict=True)}
        values = ranking_metrics(rankings, self.judgments)
        return {name: round(100 * float(np.mean(values[name])), 2) for name in ("nDCG@10", "recall@100")}


def encoders(arguments: argparse.Namespace) -> dict[str, tuple[Encode, float]]:
    """Returns the encode function of each system and its weight in hybrids."""
    systems: dict[str, tuple[Encode, float]] = {}
    loaded: dict[str, Any] = {Path(name).name: load(name) for name in arguments.models.split(",") if name}
    if "minilm" in arguments.baselines:
        loaded["all-MiniLM-L6-v2"] = minilm()
    for name, encoder in loaded.items():
        systems[name] = quiet(encoder), word_settings("en", encoder)["alpha"]
    if "model2vec" in arguments.baselines:
        systems["model2vec of all-MiniLM-L6-v2"] = (
            model2vec(arguments.model2vec),
            word_settings("en", None)["alpha"],
        )
    return systems


def quiet(encoder: Encoder) -> Encode:
    """Returns an encoder as a function that cuts long documents silently, as the other systems do."""
    return lambda texts: encoder.encode(texts, truncate_dim=encoder.similarity_dim, on_overflow="ignore")


def chosen_weight(curve: dict[float, float]) -> float:
    """Returns the smallest weight whose mean is at most ``MARGIN`` below the best."""
    best = max(curve.values())
    return min(weight for weight, mean in curve.items() if mean >= best - MARGIN - 1e-9)


def measured(encode: Encode, alpha: float, data: list[DataSet]) -> dict[str, Any]:
    """Returns the scores of an encoder on every data set, and the curve of its weights."""
    rows: dict[str, dict[str, Any]] = {"vector": {}, "hybrid": {}}
    curves: dict[str, list[float]] = {}
    for part in data:
        started = time.perf_counter()
        index, vectors = part.indexed(encode)
        rows["vector"][part.name] = part.scores(index, vectors, mode="vector")
        rows["hybrid"][part.name] = part.scores(index, vectors, mode="hybrid", alpha=alpha)
        curves[part.name] = [
            part.scores(index, vectors, k=10, mode="hybrid", alpha=weight)["nDCG@10"] for weight in WEIGHTS
        ]
        print(f"  {part.name}: {time.perf_counter() - started:.0f} s", flush=True)
    means = {
        weight: float(np.mean([curve[i] for curve in curves.values()])) for i, weight in enumerate(WEIGHTS)
    }
    return {
        "alpha": alpha,
        "scores": rows,
        "weights": {"nDCG@10": {name: curves[name] for name in curves}, "steps": WEIGHTS},
        "weight by the rule": chosen_weight(means),
    }


def report(systems: dict[str, Any], bm25: dict[str, Any]) -> str:
    """Returns the table of nDCG@10 in Markdown."""
    names = list(bm25)
    lines = [f"| | {' | '.join(names)} | mean |", "|---|" + "---|" * (len(names) + 1)]

    def add(title: str, scores: dict[str, Any]) -> None:
        values = [scores[name]["nDCG@10"] for name in names]
        lines.append(f"| {title} | {' | '.join(f'{v:.1f}' for v in values)} | {np.mean(values):.1f} |")

    add("BM25", bm25)
    for name, system in systems.items():
        add(f"{name}, vectors", system["scores"]["vector"])
        add(f"{name}, hybrid ({system['alpha']:g})", system["scores"]["hybrid"])
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders in BEIR's layout")
    parser.add_argument(
        "--models", default="cse-en,cse-en-tiny,tinybert4-en", help="names or folders of models"
    )
    parser.add_argument("--baselines", default="minilm,model2vec")
    parser.add_argument(
        "--model2vec", type=Path, help="folder of a distilled model; by default one is distilled"
    )
    parser.add_argument("--output", default="retrieval", help="name of the result")
    arguments = parser.parse_args()
    data = [DataSet(folder) for folder in arguments.data]
    bm25 = {part.name: part.scores(*part.indexed(None), mode="lexical") for part in data}
    systems: dict[str, Any] = {}
    for name, (encode, alpha) in encoders(arguments).items():
        print(name, flush=True)
        systems[name] = measured(encode, alpha, data)
        print(report({name: systems[name]}, bm25), flush=True)
    sizes = {part.name: [len(part.documents.texts), len(part.queries.texts)] for part in data}
    content = {**machine.circumstances(), "documents and queries": sizes, "BM25": bm25, "systems": systems}
    machine.write(arguments.output, content)
    print(report(systems, bm25))


if __name__ == "__main__":
    main()
