"""Compares classifiers on pretrained sentence embeddings with random weights, TF-IDF and a larger encoder.

    python benchmarks/downstream.py --data FOLDER --work FOLDER [--tasks TREC,banking77] [--systems ...]
        [--fractions 0.01,0.1,1] [--seeds 5]
    python benchmarks/downstream.py --data FOLDER --work FOLDER --fit-time

Tasks: SST2, TREC, MR, banking77 (accuracy), SICK-E (accuracy), SICK-R (Pearson). Every system is trained on
the same 1 %, 10 % and all of the training data. A seed draws the subset and everything else that a system
draws; it is the same for all systems. All choices are made on training data, and test sets are only scored.
MR has no test set, so that a fixed fifth of it is used. Writes JSON, table and plot to
``results/downstream/`` after every cell. The same call resumes an interrupted run.

``--fit-time`` measures only the head, on 10,000 texts of banking77, with all cores and including the
encoding.
"""

import argparse
import csv
import json
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import machine
import numpy as np
from downstream_report import ALL, HEAD, MINILM, MODEL2VEC, NAMES, RANDOM, SYSTEMS, WORDS, plot, table

import sentenc
from sentenc import Encoder
from sentenc.downstream import SentenceClassifier, SentencePairClassifier, SentencePairRegressor
from sentenc.evaluation.senteval_tasks import TASKS
from sentenc.io.atomic import write_text

FOLDER = machine.RESULTS / "downstream"
# The fraction of MR that is its test set, and the seed that draws it.
MR_TEST, MR_SEED = 0.2, 0
# Number of texts on which the speed of an encoder with stored vectors is measured.
SPEED_SAMPLE = 256
# End-to-end fine-tuning: the least number of steps, and the least number of steps without progress before it
# ends.
MIN_STEPS, MIN_PATIENCE = 600, 100
# Regularization strengths on TF-IDF; the best one on a tenth of the training data is used.
STRENGTHS = (0.25, 1.0, 4.0, 16.0, 64.0, 256.0)


@dataclass(frozen=True)
class Data:
    """Texts or pairs and targets of a task."""

    kind: str
    train: tuple[list[Any], np.ndarray]
    test: tuple[list[Any], np.ndarray]

    @property
    def is_pairs(self) -> bool:
        return self.kind != "texts"

    def subset(self, fraction: float, seed: int) -> tuple[list[Any], np.ndarray]:
        """Returns a random fraction of the training data, in random order."""
        texts, targets = self.train
        order = np.random.default_rng([seed, 11]).permutation(len(texts))
        chosen = order[: max(2, round(fraction * len(texts)))]
        return [texts[i] for i in chosen], targets[chosen]


def read(name: str, folder: Path) -> Data:
    if name == "banking77":
        return Data("texts", *(_banking(folder / "banking77" / f"{part}.csv") for part in ("train", "test")))
    task = TASKS["SICK-R-supervised" if name == "SICK-R" else name]
    parts = task.read(folder, "raw" if task.raw else "senteval")
    kind = "texts"
    labeled = {}
    for part, examples in parts.items():
        items, targets = list(examples.texts), examples.targets
        if examples.partners is not None:
            items = list(zip(examples.texts, examples.partners, strict=True))
            kind = "scores" if name == "SICK-R" else "pairs"
        if kind != "scores":
            targets = np.array(task.classes)[targets]
        labeled[part] = (items, targets)
    if "train" in labeled:
        return Data(kind, labeled["train"], labeled["test"])
    texts, targets = labeled["all"]
    order = np.random.default_rng(MR_SEED).permutation(len(texts))
    cut = round(MR_TEST * len(texts))
    test, train = (([texts[i] for i in rows], targets[rows]) for rows in (order[:cut], order[cut:]))
    return Data(kind, train, test)


def _banking(path: Path) -> tuple[list[str], np.ndarray]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], np.array([row["category"] for row in rows])


class StoredVectors(Encoder):
    """An encoder with vectors that are stored in a file; their cost is measured on a sample of the texts."""

    def __init__(self, encoder: Encoder, texts: list[str], file: Path) -> None:
        self.encoder = encoder
        self._rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        if not file.exists():
            vectors = encoder.encode(list(self._rows), show_progress_bar=True, on_overflow="ignore")
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(".part.npy")
            np.save(part, vectors)
            part.rename(file)
        self._vectors = np.load(file)
        chosen = np.random.default_rng(0).permutation(len(self._rows))[:SPEED_SAMPLE]
        sample = np.array(list(self._rows), object)[chosen].tolist()
        encoder.encode(sample[:8])
        started = time.perf_counter()
        encoder.encode(sample, on_overflow="ignore")
        self.seconds_per_text = (time.perf_counter() - started) / len(sample)

    @property
    def dim(self) -> int:
        return self.encoder.dim

    @property
    def max_tokens(self) -> int:
        return self.encoder.max_tokens

    def count_tokens(self, texts: Any) -> np.ndarray:
        return np.zeros(len(texts), np.int64)

    def fingerprint(self) -> str:
        return self.encoder.fingerprint()

    def save(self, folder: Any) -> None:
        self.encoder.save(folder)

    def _encode_block(self, texts: list[str], batch_size: int, out: np.ndarray) -> np.ndarray:
        out[...] = self._vectors[[self._rows[text] for text in texts]]
        return np.zeros(len(texts), np.int64)


def estimator(data: Data, encoder: Any, seed: int, **options: Any) -> Any:
    kinds = {"texts": SentenceClassifier, "pairs": SentencePairClassifier, "scores": SentencePairRegressor}
    return kinds[data.kind](encoder, random_state=seed, **options)


class EndToEnd:
    """Fine-tunes all weights, for enough epochs that a few examples are trained for enough steps."""

    def __init__(self, data: Data, seed: int, init: str) -> None:
        self.data, self.seed, self.init = data, seed, init

    def fit(self, items: list[Any], targets: np.ndarray) -> "EndToEnd":
        steps = math.ceil(len(items) / 32)
        epochs = max(20, math.ceil(MIN_STEPS / steps))
        patience = max(3, math.ceil(MIN_PATIENCE / steps))
        self.model = estimator(
            self.data, "cse-en", self.seed, fine_tune="all", init=self.init, epochs=epochs, patience=patience
        ).fit(items, targets)
        return self

    def predict(self, items: list[Any]) -> np.ndarray:
        return self.model.predict(items)


class TfidfModel:
    """TF-IDF of words and word pairs with logistic regression; pairs have the features [|u - v|; u * v]."""

    def __init__(self, data: Data, seed: int) -> None:
        self.data, self.seed = data, seed

    def features(self, items: list[Any]) -> Any:
        if not self.data.is_pairs:
            return self.vectorizer.transform(items)
        from scipy.sparse import hstack

        u, v = (self.vectorizer.transform([pair[i] for pair in items]) for i in (0, 1))
        return hstack([abs(u - v), u.multiply(v)]).tocsr()

    def fit(self, items: list[Any], targets: np.ndarray) -> "TfidfModel":
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression, Ridge

        self.vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        self.vectorizer.fit([t for pair in items for t in pair] if self.data.is_pairs else items)
        x = self.features(items)
        n_dev = max(1, len(items) // 10)
        best = (-np.inf, STRENGTHS[0])

        def regression(strength: float) -> Any:
            if self.data.kind == "scores":
                return Ridge(alpha=1 / strength)
            return LogisticRegression(C=strength, max_iter=1000)

        for strength in STRENGTHS:
            if len(set(targets[n_dev:].tolist())) < 2:
                break
            score = regression(strength).fit(x[n_dev:], targets[n_dev:]).score(x[:n_dev], targets[:n_dev])
            best = max(best, (score, strength), key=lambda scored: scored[0])
        self.model = regression(best[1]).fit(x, targets)
        return self

    def predict(self, items: list[Any]) -> np.ndarray:
        return self.model.predict(self.features(items))


class Model2vecModel:
    """The classifier of model2vec: its static vectors and a layer on top, trained end to end."""

    def __init__(self, data: Data, seed: int, folder: Path) -> None:
        self.seed, self.folder = seed, folder

    def fit(self, items: list[str], targets: np.ndarray) -> "Model2vecModel":
        import lightning
        from model2vec import StaticModel
        from model2vec.train import StaticModelForClassification

        lightning.seed_everything(self.seed, verbose=False)
        model = StaticModelForClassification.from_static_model(model=StaticModel.from_pretrained(self.folder))
        self.model = model.fit(items, targets.tolist(), device="cpu")
        return self

    def predict(self, items: list[str]) -> np.ndarray:
        return np.asarray(self.model.predict(items))


def model2vec_folder(work: Path) -> Path:
    """Returns the folder of a distilled all-MiniLM-L6-v2, which is distilled once."""
    folder = work / "model2vec"
    if not folder.exists():
        from model2vec.distill import distill

        distill(str(machine.minilm_folder()), pca_dims=256).save_pretrained(str(folder))
    return folder


def systems(data: Data, name: str, work: Path) -> dict[str, Callable[[int], Any] | None]:
    """Returns a function per system from a seed to a model to fit; None if a system cannot do the task."""

    @cache
    def minilm_vectors() -> StoredVectors:
        items = data.train[0] + data.test[0]
        texts = [text for pair in items for text in pair] if data.is_pairs else items
        return StoredVectors(sentenc.load(machine.minilm_folder()), texts, work / f"minilm-{name}.npy")

    return {
        HEAD: lambda seed: estimator(data, "cse-en", seed),
        ALL: lambda seed: EndToEnd(data, seed, "pretrained"),
        RANDOM: lambda seed: EndToEnd(data, seed, "random"),
        WORDS: lambda seed: TfidfModel(data, seed),
        MODEL2VEC: None if data.is_pairs else lambda seed: Model2vecModel(data, seed, model2vec_folder(work)),
        MINILM: lambda seed: estimator(data, minilm_vectors(), seed),
    }


def measured(data: Data, model: Any, items: list[Any], targets: np.ndarray) -> dict[str, Any]:
    """Returns the score on the test set and the times, which include the time of stored vectors."""
    wall, cpu = time.perf_counter(), time.process_time()
    model.fit(items, targets)
    fit_wall, fit_cpu = time.perf_counter() - wall, time.process_time() - cpu
    wall = time.perf_counter()
    predicted = model.predict(data.test[0])
    predict_wall = time.perf_counter() - wall
    encoder = getattr(model, "encoder", None)
    if isinstance(encoder, StoredVectors):
        texts = 2 if data.is_pairs else 1
        fit_wall += texts * len(items) * encoder.seconds_per_text
        predict_wall += texts * len(data.test[0]) * encoder.seconds_per_text
    gold = data.test[1]
    score = np.corrcoef(predicted, gold)[0, 1] if data.kind == "scores" else np.mean(predicted == gold)
    return {
        "score": 100 * float(np.nan_to_num(score)),
        "n_train": len(items),
        "fit_seconds": fit_wall,
        "fit_cpu_seconds": fit_cpu,
        "predict_texts_per_second": len(gold) / predict_wall,
    }


def write(rows: list[dict[str, Any]], about: dict[str, Any], output: Path) -> None:
    content = json.dumps(about | {"rows": rows}, indent=1)
    write_text(output / "downstream.json", content + "\n")
    write_text(output / "downstream.md", table(rows))
    plot(rows, output / "downstream.png")


def fit_time(folder: Path, output: Path) -> None:
    """Measures fitting the head on 10,000 texts of 77 classes, including the encoding and the choice of C."""
    texts, labels = (part[:10_000] for part in read("banking77", folder).train)
    encoder = sentenc.load("cse-en")
    # Warm-up: kernels and imports.
    SentenceClassifier(encoder, C=1.0).fit(texts[:500], labels[:500])
    content = machine.circumstances() | {"texts": len(texts), "rows": []}
    for seed in range(1, 6):
        wall, cpu = time.perf_counter(), time.process_time()
        fitted = SentenceClassifier(encoder, random_state=seed).fit(texts, labels)
        row = {"seed": seed, "seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        content["rows"].append(row | {"C": fitted.C_})
    write_text(output / "fit_time.json", json.dumps(content, indent=1) + "\n")
    print([round(row["seconds"], 2) for row in content["rows"]])


def main() -> None:
    options = _options()
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    if options.fit_time:
        fit_time(options.data, output)
        return
    file = output / "downstream.json"
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    done = {(r["task"], r["system"], r["fraction"], r["seed"]) for r in rows}
    about = machine.circumstances()
    for fraction in options.fractions:
        for name in options.tasks:
            data = read(name, options.data)
            for system, make in systems(data, name, options.work).items():
                for seed in range(1, options.seeds + 1):
                    key = (name, system, fraction, seed)
                    if make is None or system not in options.systems or key in done:
                        continue
                    items, targets = data.subset(fraction, seed)
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        result = measured(data, make(seed), items, targets)
                    rows.append({"task": name, "system": system, "fraction": fraction, "seed": seed} | result)
                    write(rows, about, output)
                    measurement = f"{result['score']:.2f}, {result['fit_seconds']:.1f} s"
                    print(f"{name} {fraction:.0%} {system} seed {seed}: {measurement}", flush=True)
    print(table(rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def names(choices: tuple[str, ...], separator: str) -> Callable[[str], list[str]]:
        def parse(text: str) -> list[str]:
            selected = [name.strip() for name in text.split(separator)]
            if unknown := [name for name in selected if name not in choices]:
                raise argparse.ArgumentTypeError(
                    f"{unknown[0]!r} is unknown, expected one or more of {', '.join(choices)}"
                )
            return selected

        return parse

    parser.add_argument(
        "--data", type=Path, required=True, help="folder in SentEval's layout, with banking77/"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for vectors and distilled models")
    parser.add_argument("--tasks", type=names(NAMES, ","), default=list(NAMES))
    parser.add_argument(
        "--systems", type=names(SYSTEMS, ";"), default=list(SYSTEMS), help="systems, separated by semicolons"
    )
    parser.add_argument(
        "--fractions", type=lambda t: [float(x) for x in t.split(",")], default=[0.01, 0.1, 1.0]
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fit-time", action="store_true", help="measure the seconds to fit the head instead")
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    return parser.parse_args()


if __name__ == "__main__":
    main()
