"""Measures tables of word vectors that ``sentenc.align`` fits into the space of a teacher: quality and speed.

    python benchmarks/align.py TEACHER --queries FILE --data FOLDER [FOLDER ...] --cache FOLDER
    python benchmarks/align.py --joint ENCODER=WEIGHT ENCODER=WEIGHT --dim 384 --passages FILE --queries FILE ...
    python benchmarks/align.py --latency --passages FILE --queries FILE

The first form fits tables on growing numbers of texts, one text per line of FILE, and ranks the documents of
data sets in BEIR's layout: documents by the teacher, queries by the teacher and by the table. Queries of the
data sets that are in FILE are left out of training. Rows of several teachers are collected in one file of
results. With ``--collection`` it also fits one table to each collection alone, from its documents and their
vectors.

With ``--joint`` the teacher is the joint space of several encoders, reduced to its principal axes on passages
and queries of the training texts. Texts to learn from are encoded with ``--compute`` (int8 is fastest), and
those of the data sets always in float32.

The last form measures a query on a hybrid index of 100,000 passages, encoded by a table and by the document
half, on one thread. The peer is sentence-transformers' StaticEmbedding with the same vocabulary and dimension.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import machine
import numpy as np
from joint_space import joint_encoder
from retrieval import DataSet

import sentenc
from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.reading import is_plain_bert_folder
from sentenc.encoders.cse.encoder import CSE
from sentenc.errors import NotBertError
from sentenc.registry import resolve_model
from sentenc.retrieval import Index
from sentenc.retrieval.words import word_settings
from sentenc.training.alignment import align_vectors
from sentenc.training.alignment.teacher_vectors import TeacherVectors

SIZES = (12_500, 25_000, 50_000, 100_000, 300_000)
ROUNDS = 7
PASSAGES = 100_000
# Sentences of the collections that are added to the texts, the default of AlignmentSettings.
MORE = 20_000
K = 10
# Passages, and a tenth of the queries, that the axes of a joint space are computed from.
FOR_AXES = 5_000


def lines(path: Path, limit: int | None = None) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return [line.strip() for line in islice(file, limit) if line.strip()]


class Judged:
    """A data set with the vectors of its documents and queries by a teacher."""

    def __init__(self, folder: Path, vectors: TeacherVectors) -> None:
        self.part = DataSet(folder)
        texts = list(self.part.documents.texts)
        self.documents, _ = vectors(texts, "document", f"documents of {folder.name}")
        self.queries, _ = vectors(list(self.part.queries.texts), "query", f"queries of {folder.name}")
        self.index = Index(dim=self.documents.shape[1], language="en")
        self.index.add(texts, vectors=self.documents, ids=list(self.part.documents.ids))

    def score(self, queries: np.ndarray, **options: Any) -> float:
        return self.part.scores(self.index, queries, k=K, **options)["nDCG@10"]

    def scores(self, encoder: CSE) -> dict[str, float]:
        own = encoder.encode(list(self.part.queries.texts))
        alpha = word_settings("en", encoder)["alpha"]
        return {
            "vector": self.score(own, mode="vector"),
            "hybrid": self.score(own, mode="hybrid", alpha=alpha),
        }


def means(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    """Returns the mean over the data sets of each column."""
    columns = next(iter(rows.values()))
    return {name: round(float(np.mean([row[name] for row in rows.values()])), 2) for name in columns}


def quality(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the entry of one teacher."""
    texts = list(dict.fromkeys(lines(options.queries)))
    teacher, quick = teachers(options, texts)
    vectors = TeacherVectors(teacher, options.cache / "float32", show_progress_bar=True)
    judged = {folder.name: Judged(folder, vectors) for folder in options.data}
    excluded = {text for own in judged.values() for text in own.part.queries.texts}
    texts = [text for text in texts if text not in excluded]
    alpha = word_settings("en", teacher)["alpha"]
    by_teacher = {
        name: {
            "vector": own.score(own.queries, mode="vector"),
            "hybrid": own.score(own.queries, mode="hybrid", alpha=alpha),
        }
        for name, own in judged.items()
    }
    entry: dict[str, Any] = {
        "dim": teacher.similarity_dim,
        "teacher": by_teacher | {"mean": means(by_teacher)},
        "tables": {},
    }
    for size in options.sizes:
        result = fitted(quick, options.cache, queries=texts[:size], max_texts=size)
        rows = {name: own.scores(result.encoder) for name, own in judged.items()}
        entry["tables"][str(size)] = {
            "texts": result.report.n_texts,
            "seconds": round(result.report.seconds, 1),
            "cosine": round(result.report.cosine, 4),
            "scores": rows | {"mean": means(rows)},
        }
        print(size, entry["tables"][str(size)], flush=True)
    if options.sentences:
        documents = [text for own in judged.values() for text in own.part.documents.texts]
        result = fitted(quick, options.cache, queries=texts, corpus=documents, max_texts=len(texts) + MORE)
        rows = {name: own.scores(result.encoder) for name, own in judged.items()}
        entry["with sentences of the collections"] = {
            "texts": result.report.n_texts,
            "seconds": round(result.report.seconds, 1),
            "scores": rows | {"mean": means(rows)},
        }
        print(entry["with sentences of the collections"], flush=True)
    if options.collection:
        rows = {}
        for name, own in judged.items():
            alone = align_vectors(own.index, show_progress_bar=True)
            rows[name] = own.scores(alone.encoder) | {"seconds": round(alone.report.seconds, 1)}
        entry["from the collection alone"] = rows | {"mean": means(rows)}
    return entry


def teachers(options: argparse.Namespace, texts: list[str]) -> tuple[Encoder, Encoder]:
    """Returns the teacher in float32, and with the number type of ``--compute``."""

    def encoder(name: str, compute: str | None) -> Encoder:
        stated = {} if not is_plain_bert_folder(resolve_model(name)) else {
            "pooling": options.pooling, "query_prompt": options.query_prompt,
        }  # fmt: skip
        try:
            return sentenc.load(name, compute=compute, **stated)
        except NotBertError:  # sentence-transformers runs it, in float32
            return sentenc.load(name, **stated)

    if not options.joint:
        pair = encoder(options.teacher, "float32"), encoder(options.teacher, options.compute)
        for one in pair:
            one.metadata |= {"language": "en"} | ({"hybrid_alpha": options.alpha} if options.alpha else {})
        return pair
    names, weights = zip(*(part.rsplit("=", 1) for part in options.joint), strict=True)
    shares = [float(weight) for weight in weights]
    passages = lines(options.passages, FOR_AXES)
    quick = joint_encoder(
        [encoder(name, options.compute) for name in names], shares, options.cache / "parts",
        options.dim, texts[: 10 * FOR_AXES], passages,
    )  # fmt: skip
    exact = joint_encoder(
        [encoder(name, "float32") for name in names], shares, options.cache / "parts-float32",
        options.dim, [], [], quick.axes,
    )  # fmt: skip
    return exact, quick


def fitted(teacher: Encoder, cache: Path, **options: Any) -> Any:
    settings = sentenc.AlignmentSettings(max_texts=options.pop("max_texts"))
    return sentenc.align(teacher, cache=cache, settings=settings, show_progress_bar=True, **options)


def quality_table(content: dict[str, Any]) -> str:
    rows = []
    for name, entry in content["teachers"].items():
        sets = [key for key in entry["teacher"] if key != "mean"]
        if not rows:
            rows = [
                f"| documents by | queries by | {' | '.join(sets)} | mean | mean, hybrid |",
                "|---|---|" + "---|" * (len(sets) + 2),
            ]

        def row(title: str, scores: dict[str, Any], name: str = name, sets: list[str] = sets) -> str:
            values = " | ".join(f"{scores[key]['vector']:.1f}" for key in [*sets, "mean"])
            return f"| {name} | {title} | {values} | {scores['mean']['hybrid']:.1f} |"

        rows.append(row("itself", entry["teacher"]))
        for own in entry["tables"].values():
            rows.append(row(f"a table, {own['texts']:,} texts, {own['seconds']:.0f} s", own["scores"]))
        if more := entry.get("with sentences of the collections"):
            title = (
                f"a table, {more['texts']:,} texts with sentences of the collections, {more['seconds']:.0f} s"
            )
            rows.append(row(title, more["scores"]))
        if alone := entry.get("from the collection alone"):
            rows.append(row("a table from the collection alone", alone))
    return "\n".join(rows)


def plot(content: dict[str, Any], path: Path) -> None:
    """Draws quality against the number of texts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for number, (name, entry) in enumerate(content["teachers"].items()):
        own = entry["tables"].values()
        axes.plot(
            [table["texts"] for table in own],
            [table["scores"]["mean"]["vector"] for table in own],
            "o-", color=f"C{number}", label=f"documents by {name}",
        )  # fmt: skip
        axes.axhline(entry["teacher"]["mean"]["vector"], color=f"C{number}", linestyle="--", linewidth=1)
    axes.set_xlabel("texts that the table was fitted to (dashed: queries by the teacher)")
    axes.set_ylabel("nDCG@10, mean of the data sets")
    axes.set_xscale("log")
    axes.set_xticks(SIZES, [f"{size:,}" for size in SIZES])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def latency(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the milliseconds of a query: encoding alone, and the whole search."""
    passages, queries = lines(options.passages, PASSAGES), lines(options.queries, 200)
    if len(passages) < PASSAGES:
        raise SystemExit(f"{options.passages} has {len(passages):,} lines, expected at least {PASSAGES:,}")
    exact = sentenc.load(options.documents, threads=1)
    table = sentenc.align(exact, queries=lines(options.queries, 5000)).encoder
    with tempfile.TemporaryDirectory() as folder:
        table.save(folder)
        fast = sentenc.load(folder, threads=1)
    # Speed does not depend on the values of the vectors; those of the table are computed in seconds.
    index = Index(exact, kind="exact")
    index.add(passages, vectors=table.encode(passages, on_overflow="ignore"))
    index.set_query_encoder(fast)
    peer = static_embedding(table)
    calls: dict[str, Callable[[str], Any]] = {
        "encode, table": fast.encode_query,
        "encode, StaticEmbedding of sentence-transformers": lambda text: peer.encode(text),
        f"encode, {options.documents}": exact.encode_query,
        "search, words alone": lambda text: index.search(text, K, mode="lexical"),
        "search, vectors, fast queries": lambda text: index.search(text, K, mode="vector", queries="fast"),
        "search, hybrid, fast queries": lambda text: index.search(text, K, queries="fast"),
        "search, hybrid, exact queries": lambda text: index.search(text, K, queries="exact"),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(queries[0])
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            for query in queries:
                call(query)
            times[name].append((time.perf_counter() - start) / len(queries))
    return {name: statistics.median(own) * 1e3 for name, own in times.items()}


def static_embedding(table: CSE) -> Any:
    """Returns a StaticEmbedding of the same vocabulary and dimension, with any rows."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer

    rows = np.random.default_rng(0).standard_normal((table.config.vocab_size, table.dim)).astype(np.float32)
    module = StaticEmbedding(Tokenizer.from_str(table.tokenizer.spec), embedding_weights=rows)
    return SentenceTransformer(modules=[module], device="cpu")


def latency_table(content: dict[str, Any]) -> str:
    rows = ["| one query, one thread | ms |", "|---|---|"]
    return "\n".join([*rows, *(f"| {name} | {value:.3f} |" for name, value in content["ms"].items())])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("teacher", nargs="?", help="name or folder of the encoder of the documents")
    parser.add_argument("--name", help="name of the teacher in the table")
    parser.add_argument("--queries", type=Path, required=True, help="text file with one query per line")
    parser.add_argument("--data", type=Path, nargs="+", help="folders in BEIR's layout")
    parser.add_argument("--cache", type=Path, help="folder of the teacher's vectors")
    parser.add_argument("--pooling", choices=("cls", "mean"), help="for a folder that does not state it")
    parser.add_argument("--query-prompt", help="for a folder that does not state it")
    parser.add_argument("--compute", help="number type of the texts to learn from: float32 or int8")
    parser.add_argument("--alpha", type=float, help="weight of the teacher's vectors in hybrid search")
    parser.add_argument("--joint", nargs="+", metavar="ENCODER=WEIGHT", help="parts of a joint space")
    parser.add_argument("--dim", type=int, default=384, help="dimension of a joint space")
    parser.add_argument(
        "--sizes", type=lambda text: [int(size) for size in text.split(",") if size], default=SIZES
    )
    parser.add_argument("--result", default="align", help="name of the file of results")
    parser.add_argument(
        "--sentences", action="store_true", help="fit to all texts and sentences of the collections as well"
    )
    parser.add_argument("--collection", action="store_true", help="fit to each collection alone as well")
    parser.add_argument("--latency", action="store_true", help="measure the speed instead")
    parser.add_argument("--passages", type=Path, help="text file with one passage per line")
    parser.add_argument("--documents", default="tinybert4-en", help="encoder of documents for --latency")
    options = parser.parse_args()
    if options.latency:
        content = {**machine.circumstances(), "passages": PASSAGES, "ms": latency(options)}
        text = latency_table(content)
        path = machine.write("align_latency", content)
    else:
        path = machine.RESULTS / f"{options.result}.json"
        content = json.loads(path.read_text()) if path.exists() else {"teachers": {}}
        name = options.name or Path(options.teacher or "joint space").name
        teachers = content["teachers"] | {name: quality(options)}
        content = {**machine.circumstances(), "teachers": teachers}
        text = quality_table(content)
        path = machine.write(options.result, content)
        if any(entry["tables"] for entry in teachers.values()):
            plot(content, path.with_suffix(".png"))
    path.with_suffix(".md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
