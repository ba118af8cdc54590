"""Measures the quality of search: BM25, vectors, hybrids of both, and reranking, for several encoders.

    python benchmarks/retrieval.py --data FOLDER [FOLDER ...] [--models cse-en,...] [--word-columns cse-en,...] [--weights]

Each FOLDER has BEIR's layout: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``. The rankings are
those of ``sentenc.Index.search``, and the metrics those of ``sentenc.metrics``. BM25 is that of ``Index``;
the row of bm25s is Lucene's, with the stop words of bm25s and the same stemmer. Documents and queries are
encoded in their roles: with the prompts of a model, and by the two encoders of a pair. A hybrid row uses the
weight in the model's metadata, or the default.

With ``--weights``, the hybrid is also measured with all weights of the vectors in steps of 0.1, and drawn. The
weight of a model is the smallest whose mean over the data sets is at most 0.1 below the best, which leaves a margin
toward BM25. It must be chosen on development sets: leave the option out for a test set.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import machine
import numpy as np
from teachers import add_options, teachers
from transfer import minilm, model2vec

from sentenc.combining import hybrid
from sentenc.encoders.base import Encoder
from sentenc.errors import TruncationWarning
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
RERANKER = "tinybert4-en"
MINILM = "all-MiniLM-L6-v2"
CANDIDATES = 100
WEIGHTS = [round(0.1 * i, 1) for i in range(11)]
# A weight may lose this much against the best one, in points of the mean.
MARGIN = 0.1
Encode = Callable[[list[str]], np.ndarray]


class Functions(NamedTuple):
    """The functions that encode documents and queries."""

    documents: Encode
    queries: Encode


class DataSet:
    """The documents and judged queries of a folder."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.documents: Documents = read_documents([folder / CORPUS], "utf-8", None)
        self.queries: Queries = read_queries([folder / QUERIES, judgments_file(folder)], "utf-8", None)
        self.judgments = dict(zip(self.queries.ids, self.queries.grades, strict=True))

    def indexed(self, encode: Functions | None) -> tuple[Index, np.ndarray]:
        """Returns an index of the documents and the vectors of the queries; zero vectors without an encoder."""
        documents, queries = list(self.documents.texts), list(self.queries.texts)
        vectors = np.zeros((len(documents), 1)) if encode is None else encode.documents(documents)
        index = Index(dim=vectors.shape[1], language="en")
        index.add(documents, vectors=vectors, ids=list(self.documents.ids))
        if encode is None:
            return index, np.zeros((len(queries), 1))
        return index, np.asarray(encode.queries(queries))

    def scores(
        self, index: Index, vectors: np.ndarray | None, k: int = DEPTH, **options: Any
    ) -> dict[str, float]:
        """Returns the mean metrics of a search in points; recall is cut at k."""
        hits = index.search(list(self.queries.texts), k, vectors=vectors, **options)
        rankings = {name: [hit.id for hit in own] for name, own in zip(self.queries.ids, hits, strict=True)}
        return self.means(rankings)

    def means(self, rankings: dict[str, list[str]]) -> dict[str, float]:
        """Returns the mean metrics of rankings in points."""
        values = ranking_metrics(rankings, self.judgments)
        return {name: round(100 * float(np.mean(values[name])), 2) for name in ("nDCG@10", "recall@100")}


def encoders(arguments: argparse.Namespace) -> dict[str, tuple[Functions, float]]:
    """Returns the encode functions of each system and its weight in hybrids."""
    systems: dict[str, tuple[Functions, float]] = {}
    loaded: dict[str, Any] = {Path(name).name: load(name) for name in arguments.models.split(",") if name}
    if "minilm" in arguments.baselines:
        loaded[MINILM] = minilm()
    loaded |= teachers(arguments)
    for name, encoder in loaded.items():
        systems[name] = quiet(encoder), word_settings("en", encoder)["alpha"]
    if "model2vec" in arguments.baselines:
        encode = model2vec(arguments.model2vec)
        alpha = word_settings("en", None)["alpha"]
        systems["model2vec of all-MiniLM-L6-v2"] = Functions(encode, encode), alpha
    return systems


def with_word_columns(arguments: argparse.Namespace) -> dict[str, Encoder]:
    """Returns encoders with word columns, by the names of those without."""
    names = [name for name in arguments.word_columns.split(",") if name]
    return {Path(name).name: hybrid(minilm() if name == MINILM else name) for name in names}


def quiet(encoder: Encoder) -> Functions:
    """Returns functions that cut long documents silently, as the other systems do."""
    options: Any = {"truncate_dim": encoder.similarity_dim, "on_overflow": "ignore"}
    return Functions(
        lambda texts: encoder.encode_document(texts, **options),
        lambda texts: encoder.encode_query(texts, **options),
    )


def chosen_weight(curve: dict[float, float]) -> float:
    """Returns the smallest weight whose mean is at most ``MARGIN`` below the best."""
    best = max(curve.values())
    return min(weight for weight, mean in curve.items() if mean >= best - MARGIN - 1e-9)


def measured(encode: Functions, alpha: float, data: list[DataSet], with_weights: bool) -> dict[str, Any]:
    """Returns the scores of an encoder on every data set, and the curve of its weights."""
    rows: dict[str, dict[str, Any]] = {"vector": {}, "hybrid": {}}
    curves: dict[str, list[float]] = {}
    for part in data:
        started = time.perf_counter()
        index, vectors = part.indexed(encode)
        rows["vector"][part.name] = part.scores(index, vectors, mode="vector")
        rows["hybrid"][part.name] = part.scores(index, vectors, mode="hybrid", alpha=alpha)
        if with_weights:
            curves[part.name] = [
                part.scores(index, vectors, k=10, mode="hybrid", alpha=weight)["nDCG@10"]
                for weight in WEIGHTS
            ]
        print(f"  {part.name}: {time.perf_counter() - started:.0f} s", flush=True)
    system: dict[str, Any] = {"alpha": alpha, "scores": rows}
    if with_weights:
        means = np.mean(list(curves.values()), axis=0).tolist()
        system |= {
            "weights": {"steps": WEIGHTS, "nDCG@10": curves, "mean": means},
            "weight by the rule": chosen_weight(dict(zip(WEIGHTS, means, strict=True))),
        }
    return system


def reranked(model: str, reranker: str, data: list[DataSet]) -> dict[str, Any]:
    """Returns the scores of the hybrid of a model whose candidates are ordered by another one."""
    rows = {}
    encoder = load(model)
    for part in data:
        index = Index(encoder, language="en", rerank_store=reranker)
        with warnings.catch_warnings():
            # Long documents are cut for the first search, as those of the other systems are.
            warnings.simplefilter("ignore", TruncationWarning)
            index.add(list(part.documents.texts), ids=list(part.documents.ids))
        rows[part.name] = part.scores(index, None, rerank=reranker, candidates=CANDIDATES)
    return rows


def by_bm25s(part: DataSet) -> dict[str, float]:
    import bm25s
    import Stemmer

    def tokens(texts: tuple[str, ...]) -> Any:
        return bm25s.tokenize(
            list(texts), stopwords="en", stemmer=Stemmer.Stemmer("english"), show_progress=False
        )

    engine = bm25s.BM25(k1=1.2, b=0.75)
    engine.index(tokens(part.documents.texts), show_progress=False)
    rows, _ = engine.retrieve(tokens(part.queries.texts), k=DEPTH, show_progress=False)
    ids = part.documents.ids
    rankings = {name: [ids[i] for i in row] for name, row in zip(part.queries.ids, rows, strict=True)}
    return part.means(rankings)


def report(systems: dict[str, Any], lexical: dict[str, Any], rerankings: dict[str, Any]) -> str:
    """Returns the table of nDCG@10 in Markdown."""
    names = list(next(iter(lexical.values())))
    lines = [f"| nDCG@10 | {' | '.join(names)} | mean |", "|---|" + "---|" * (len(names) + 1)]

    def add(title: str, scores: dict[str, Any]) -> None:
        values = [scores[name]["nDCG@10"] for name in names]
        lines.append(f"| {title} | {' | '.join(f'{v:.1f}' for v in values)} | {np.mean(values):.1f} |")

    for name, scores in lexical.items():
        add(name, scores)
    for name, system in systems.items():
        add(f"{name}, vectors", system["scores"]["vector"])
        add(f"{name}, hybrid (alpha {system['alpha']:g})", system["scores"]["hybrid"])
    for name, scores in rerankings.items():
        add(name, scores)
    return "\n".join(lines)


def word_columns_report(systems: dict[str, Any], scores: dict[str, Any]) -> str:
    """Returns the table of searches by vectors alone, without and with word columns, in Markdown."""
    names = list(next(iter(scores.values()))["vector"])
    lines = [
        f"| nDCG@10 of vectors alone | {' | '.join(names)} | mean |",
        "|---|" + "---|" * (len(names) + 1),
    ]
    for model, own in scores.items():
        before = systems[model]["scores"]["vector"]
        for title, rows in ((model, before), (f"{model} with word columns", own["vector"])):
            values = [rows[name]["nDCG@10"] for name in names]
            lines.append(f"| {title} | {' | '.join(f'{v:.1f}' for v in values)} | {np.mean(values):.1f} |")
    return "\n".join(lines)


def plot(systems: dict[str, Any], lexical: dict[str, Any], path: Path) -> None:
    """Draws the mean nDCG@10 of hybrids against the weight of the vectors."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for number, (name, system) in enumerate(systems.items()):
        means = system["weights"]["mean"]
        axes.plot(WEIGHTS, means, color=f"C{number}", label=name)
        axes.plot(system["alpha"], np.interp(system["alpha"], WEIGHTS, means), "o", color=f"C{number}")
    bar = float(np.mean([scores["nDCG@10"] for scores in lexical["BM25 of Index"].values()]))
    axes.axhline(bar, color="gray", linestyle="--", linewidth=1, label="BM25 alone")
    axes.set_xlabel("weight of the vectors, alpha (dots: the weights in use)")
    axes.set_ylabel("nDCG@10, mean of the data sets")
    axes.set_xlim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders in BEIR's layout")
    parser.add_argument(
        "--models", default="cse-en,tinybert4-en,tinybert6-en,pair-en", help="names or folders of models"
    )
    parser.add_argument("--baselines", default="minilm,model2vec")
    parser.add_argument(
        "--word-columns", default="", metavar="MODELS", help="models to measure with word columns, too"
    )
    add_options(parser)
    parser.add_argument(
        "--model2vec", type=Path, help="folder of a distilled model; by default one is distilled"
    )
    parser.add_argument(
        "--weights", action="store_true", help="measure all weights; on development sets alone"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the results of systems that are not measured again"
    )
    parser.add_argument("--output", default="retrieval", help="name of the result")
    arguments = parser.parse_args()
    unmeasured = set(filter(None, arguments.word_columns.split(","))) - set(arguments.models.split(","))
    if not arguments.keep and unmeasured - {MINILM}:
        parser.error(f"--word-columns has {', '.join(sorted(unmeasured))}, which --models lacks")
    data = [DataSet(folder) for folder in arguments.data]
    lexical = {
        "BM25 of Index": {part.name: part.scores(*part.indexed(None), mode="lexical") for part in data},
        "BM25 of bm25s": {part.name: by_bm25s(part) for part in data},
    }
    systems: dict[str, Any] = {}
    for name, (encode, alpha) in encoders(arguments).items():
        print(name, flush=True)
        systems[name] = measured(encode, alpha, data, arguments.weights)
    word_columns = {
        name: measured(quiet(encoder), word_settings("en", encoder)["alpha"], data, False)["scores"]
        for name, encoder in with_word_columns(arguments).items()
    }
    if arguments.keep:
        earlier = json.loads((machine.RESULTS / f"{arguments.output}.json").read_text(encoding="utf-8"))
        systems = {**earlier["systems"], **systems}
        word_columns = {**earlier.get("word columns", {}), **word_columns}
    rerankings = {
        f"{name}, hybrid, {CANDIDATES} candidates reranked by {RERANKER}": reranked(name, RERANKER, data)
        for name in ("cse-en",)
        if name in systems
    }
    content = {
        **machine.circumstances(),
        "documents and queries": {
            part.name: [len(part.documents.texts), len(part.queries.texts)] for part in data
        },
        "lexical": lexical,
        "systems": systems,
        "word columns": word_columns,
        "reranked": rerankings,
    }
    path = machine.write(arguments.output, content)
    path.with_suffix(".md").write_text(report(systems, lexical, rerankings) + "\n")
    if word_columns:
        table = word_columns_report(systems, word_columns)
        path.with_name(f"{path.stem}_word_columns.md").write_text(table + "\n")
        print(table)
    if arguments.weights:
        plot(systems, lexical, path.with_suffix(".png"))
    print(report(systems, lexical, rerankings))


if __name__ == "__main__":
    main()
