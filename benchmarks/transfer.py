"""Evaluates the shipped models and several baselines on the STS and transfer tasks.

    python benchmarks/transfer.py --data FOLDER [--models cse-en] [--baselines minilm,model2vec,random,tfidf]

Writes to ``results/transfer/``: one JSON file per encoder, a table and a plot of all encoders in the folder,
and a summary with the machine of the last measurement. all-MiniLM-L6-v2 validates the readers and
aggregations, because its scores must agree with the published ones.
"""

import argparse
import hashlib
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import numpy as np
from bag_of_words import NAME as BAG_OF_WORDS
from bag_of_words import evaluate_bag_of_words
from teachers import add_options, teachers

from sentenc.evaluation import Results, evaluate, plot, to_markdown
from sentenc.evaluation.harness import file_stem
from sentenc.evaluation.senteval_tasks import select_tasks

FOLDER = machine.RESULTS / "transfer"
# The scores in MTEB, except that SICK-R is on the test set, as in SentEval. (MTEB uses all pairs.)
PUBLISHED = {
    "STS12": 72.37,
    "STS13": 80.60,
    "STS14": 75.59,
    "STS15": 85.39,
    "STS16": 78.99,
    "STS-B": 82.03,
    "SICK-R": 77.15,
}


def minilm() -> Any:
    from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder

    return SentenceTransformerEncoder(machine.minilm_folder(), name="all-MiniLM-L6-v2")


def model2vec(folder: Path | None) -> Callable[[list[str]], np.ndarray]:
    """Returns the encode function of a distilled all-MiniLM-L6-v2, read from a folder or distilled now."""
    from model2vec import StaticModel

    if folder is not None:
        return StaticModel.from_pretrained(str(folder)).encode
    from model2vec.distill import distill

    return distill(model_name=str(machine.minilm_folder()), pca_dims=256).encode


class RandomWords:
    """The mean of one random vector per lower-cased word: a bag of words without training."""

    def __init__(self, dim: int = 256) -> None:
        self.dim = dim
        self._vectors: dict[str, np.ndarray] = {}

    def __call__(self, texts: list[str]) -> np.ndarray:
        zero = np.zeros(self.dim, np.float32)
        rows = [[self._vector(word) for word in text.lower().split()] for text in texts]
        return np.stack([np.mean(row, axis=0) if row else zero for row in rows])

    def _vector(self, word: str) -> np.ndarray:
        if word not in self._vectors:
            seed = list(hashlib.sha256(word.encode()).digest()[:8])
            drawn = np.random.default_rng(seed).standard_normal(self.dim) / np.sqrt(self.dim)
            self._vectors[word] = drawn.astype(np.float32)
        return self._vectors[word]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder in SentEval's layout")
    parser.add_argument("--tasks", default="all,sts-b-dev", help="tasks, separated by commas")
    parser.add_argument("--models", default="cse-en", help="names or folders of models, separated by commas")
    parser.add_argument("--baselines", default="minilm,model2vec,random,tfidf")
    parser.add_argument(
        "--model2vec", type=Path, help="folder of a distilled model; by default one is distilled"
    )
    add_options(parser)
    parser.add_argument("--probe", choices=["logistic", "senteval"], default="logistic")
    parser.add_argument("--cache", help="folder in which vectors are stored between runs")
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    baselines = [name for name in arguments.baselines.split(",") if name]
    tasks = select_tasks(arguments.tasks.split(","))
    started, results = time.perf_counter(), []
    for name, encoder in _encoders(arguments, baselines):
        results.append(
            evaluate(
                encoder,
                tasks,
                data=arguments.data,
                name=name,
                probe=arguments.probe,
                cache=arguments.cache,
                show_progress_bar=True,
                on_score=lambda score: print(score.encoder["name"], score.task, score.value, flush=True),
            )
        )
        # After every encoder, so that an interrupted run keeps its results.
        _write(results, arguments, time.perf_counter() - started)
    if "tfidf" in baselines:
        results.append(evaluate_bag_of_words(tasks, arguments.data))
        _write(results, arguments, time.perf_counter() - started)


def _encoders(arguments: argparse.Namespace, baselines: list[str]) -> list[tuple[str, Any]]:
    encoders: list[tuple[str, Any]] = []
    for model in arguments.models.split(","):
        if model:
            from sentenc.registry import load

            encoders.append((Path(model).name, load(model)))
    if "minilm" in baselines:
        encoders.append(("all-MiniLM-L6-v2", minilm()))
    encoders += teachers(arguments).items()
    if "model2vec" in baselines:
        encoders.append(("model2vec of all-MiniLM-L6-v2", model2vec(arguments.model2vec)))
    if "random" in baselines:
        encoders.append(("random word vectors", RandomWords()))
    return encoders


def _write(measured: list[Results], arguments: argparse.Namespace, seconds: float) -> None:
    results = _with_earlier(measured, arguments.output)
    for result in measured:
        result.to_json(arguments.output / f"{file_stem(result.encoder)}.json")
        if result.encoder == "all-MiniLM-L6-v2":
            _validate(result)
    to_markdown(results, arguments.output / "results.md")
    plot(results, arguments.output / "results.png")
    content = {**machine.circumstances(), "seconds": round(seconds, 1), "probe": arguments.probe}
    content["encoders"] = {
        result.encoder: {"scores": result.scores, "averages": result.averages} for result in results
    }
    content["notes"] = {
        BAG_OF_WORDS: "scikit-learn fold by fold; words and word pairs; without supervised relatedness"
    }
    machine.write(str((arguments.output / "summary").resolve()), content)


def _with_earlier(measured: list[Results], folder: Path) -> list[Results]:
    """Adds the results of earlier runs in the folder, and sorts all by STS average, the best first."""
    names = {result.encoder for result in measured}
    earlier = [Results.from_json(path) for path in folder.glob("*.json") if path.name != "summary.json"]
    results = measured + [result for result in earlier if result.encoder not in names]
    return sorted(results, key=lambda result: -(result.averages.get("STS avg") or 0))


def _validate(result: Results) -> None:
    for task, published in PUBLISHED.items():
        if task in result.scores and abs(result.scores[task] - published) > 0.1:
            warnings.warn(f"{task} is {result.scores[task]}, expected {published} as published", stacklevel=2)


if __name__ == "__main__":
    main()
