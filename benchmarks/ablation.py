"""Ablates the CSE model of the paper: the gain of the n-gram path and the cost of its linearity.

    python benchmarks/ablation.py --data FOLDER --pairs FILE.tsv.xz ... --sentences FILE --work FOLDER \
        [--steps 400] [--minutes-a-cell 2] [--transfer MR,SUBJ,TREC] [--seeds 1]

Every cell is one model: CSE as released by its authors (Jiao, Wang, Feng, COLING 2018), which only sums
n-gram features, or a word average plus n-gram features. Cells differ in the widths of the n-grams and in
whether they are linear. All start from the same word vectors (word2vec, trained once on --sentences) and are
trained on the same pairs with the loss of the paper. Writes JSON, table and plot to ``results/ablation/``
after every cell. The same call resumes an interrupted run.
"""

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from ablation_cells import Cell, grid
from ablation_report import DROPOUT, L2_SP, MARGIN, NORM, averages, plot, summary, table

from sentenc.evaluation import LogisticProbe, evaluate
from sentenc.evaluation.harness import file_stem
from sentenc.evaluation.senteval_tasks import STS, TRANSFER
from sentenc.io.atomic import write_text
from sentenc.io.text import open_text
from sentenc.io.word_vectors import WordVectors
from sentenc.training.data.batching import batches
from sentenc.training.data.corpus import Corpus, Source
from sentenc.training.data.words import word_splitter
from sentenc.training.engine.loss_terms import LossTerm
from sentenc.training.engine.run_log import read_log
from sentenc.training.engine.trainer import Trainer, TrainerConfig
from sentenc.training.initialization.cse import Initialization, init_from_words
from sentenc.training.initialization.word_vectors import train_word_vectors
from sentenc.training.losses import make_loss
from sentenc.training.students.cse import CSEStudent

FOLDER = machine.RESULTS / "ablation"
# Settings of word2vec.
MIN_COUNT, WORD_EPOCHS = 5, 5
# Pairs with a longer text are left out.
MAX_WORDS = 64


class PairsInMemory:
    """A corpus in memory, which all cells share; every epoch has a random order of its own."""

    def __init__(self, pairs: list[tuple[str, ...]]) -> None:
        self.pairs = pairs

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[str, ...]]:
        for row in np.random.default_rng([seed, epoch]).permutation(len(self.pairs)):
            yield self.pairs[row]


def word_vectors(sentences: Path, dim: int, work: Path) -> tuple[WordVectors, str]:
    """Trains word2vec on the sentences once. Returns the vectors, and a hash of sentences and settings."""
    settings = json.dumps([dim, MIN_COUNT, WORD_EPOCHS]).encode()
    stamp = hashlib.sha256(sentences.read_bytes() + settings).hexdigest()[:16]
    path = work / f"words-{stamp}.npz"
    if not path.exists():
        split = word_splitter(True)
        with open_text(str(sentences)) as lines:
            texts = [split(line) for line in lines]
        print(f"word2vec on {sum(map(len, texts)):,} words", flush=True)
        trained = train_word_vectors(texts, dim=dim, min_count=MIN_COUNT, epochs=WORD_EPOCHS)
        work.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, words=np.array(trained.words), vectors=trained.vectors, counts=trained.counts)
        part.rename(path)
    with np.load(path) as arrays:
        return WordVectors(arrays["words"].tolist(), arrays["vectors"], arrays["counts"]), stamp


def train_cell(
    cell: Cell, seed: int, start: Initialization, pairs: PairsInMemory, settings: dict[str, Any], folder: Path
) -> tuple[CSEStudent, dict[str, Any]]:
    """Trains the model of a cell. Returns it with its number of steps, seconds and last loss."""
    generator = torch.Generator().manual_seed(seed)
    config = cell.config(start.tokenizer.vocab_size, start.embeddings.shape[1])
    # Without log weights, every word has the same weight at the start, as in the paper.
    student = CSEStudent(
        config, start.tokenizer, embeddings=start.embeddings, generator=generator, dropout=DROPOUT
    )
    if cell.form == "untrained":
        return student, {"steps": 0}
    loss = make_loss(
        "paraphrase_margin", {"margin": MARGIN, "negatives": "max", "scramble": cell.scramble}, dim=config.dim
    )
    term = LossTerm(
        name="pairs",
        loss=loss,
        batches=lambda epoch, skipped: batches(pairs, settings["batch"], seed, skipped, epoch=epoch),
    )
    training = TrainerConfig(
        steps=settings["steps"],
        max_minutes=settings["minutes_a_cell"],
        learning_rate=1e-3,
        warmup=0,
        schedule="constant",
        clip=None,
        regularization={"embeddings": L2_SP},
        keep="last",
        log_every=50,
        seed=seed,
        device="cpu",
    )
    identity = {key: value for key, value in settings.items() if key not in ("steps", "minutes_a_cell")}
    result = Trainer(student, [term], training, folder, identity=identity | {"cell": cell.name}).run()
    rows = [row for row in read_log(folder / "log.jsonl") if "loss" in row]
    seconds = round(60 * result.minutes, 1)
    return student, {"steps": result.steps, "seconds": seconds, "last_loss": rows[-1]["loss"]}


def scores(student: CSEStudent, texts: list[str], data: str, tasks: list[str]) -> dict[str, dict[str, float]]:
    """Returns Pearson of STS (mean over sets), Spearman of STS (over all pairs), and accuracies."""
    encoder = student.encoder(tables="float32")
    norms = np.linalg.norm(encoder.encode(texts), axis=1)
    scale = np.float32(NORM / np.sqrt(np.mean(norms**2)))

    def encode_scaled(texts: list[str]) -> np.ndarray:
        return encoder.encode(texts, on_overflow="ignore") * scale

    # The same number of threads as in training, which OMP_NUM_THREADS sets.
    probe = LogisticProbe(n_threads=torch.get_num_threads())
    records = evaluate(encode_scaled, [*STS, *tasks], data=data, probe=probe, show_progress_bar=True).records
    return {
        "pearson_mean": {task: records[task].details["pearson"]["mean"] for task in STS},
        "spearman_all": {task: records[task].details["spearman"]["all"] for task in STS},
        "transfer": {task: records[task].value for task in tasks},
    }


def write(rows: list[dict[str, Any]], settings: dict[str, Any], folder: Path) -> None:
    content = {**machine.circumstances(), "settings": settings, "summary": summary(rows), "rows": rows}
    write_text(folder / "ablation.md", table(rows, settings))
    plot(rows, folder / "ablation.png")
    # The JSON file comes last, because a resumed run takes its rows as done.
    machine.write(str((folder / "ablation").resolve()), content)


def main() -> None:
    options = _options()
    words, stamp = word_vectors(options.sentences, options.dim, options.work)
    start = init_from_words(words, unknown="row")
    corpus = Corpus([Source(files=(str(path),), form="pairs") for path in options.pairs], max_words=MAX_WORDS)
    pairs = PairsInMemory(list(corpus.epoch(0, 0)))
    settings = {
        "steps": options.steps,
        "batch": options.batch,
        "minutes_a_cell": options.minutes_a_cell,
        "dim": options.dim,
        "pairs": [path.name.split(".")[0] for path in options.pairs],
        "n_pairs": len(pairs.pairs),
        "corpus": corpus.fingerprint(),
        "words": stamp,
        "vocabulary": start.tokenizer.vocab_size,
        "transfer": [name for name in options.transfer.split(",") if name],
    }
    options.output.mkdir(parents=True, exist_ok=True)
    rows = machine.earlier_rows(options.output / "ablation.json", settings)
    done = {(row["cell"], row["seed"]) for row in rows}
    cells = [(cell, seed) for seed in range(1, options.seeds + 1) for cell in grid()]
    missing = [(cell, seed) for cell, seed in cells if (cell.name, seed) not in done]
    print(f"{len(missing)} of {len(cells)} cells to do, {len(pairs.pairs):,} pairs", flush=True)
    started = time.perf_counter()
    for number, (cell, seed) in enumerate(missing, 1):
        row = run_cell(cell, seed, start, pairs, settings, options)
        rows.append(row)
        write(rows, settings, options.output)
        minutes = (time.perf_counter() - started) / 60
        means = ", ".join(f"{name} {value:.2f}" for name, value in averages(row).items())
        print(
            f"[{number}/{len(missing)}] {cell.name}, seed {seed}: {means}; {minutes:.1f} min, about "
            f"{minutes / number * (len(missing) - number):.0f} left",
            flush=True,
        )


def run_cell(
    cell: Cell,
    seed: int,
    start: Initialization,
    pairs: PairsInMemory,
    settings: dict[str, Any],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Trains and evaluates a cell. Returns its row."""
    folder = options.work / "cells" / file_stem(f"{cell.name}, seed {seed}")
    student, training = train_cell(cell, seed, start, pairs, settings, folder)
    started = time.perf_counter()
    texts = [pair[0] for pair in pairs.pairs[:2000]]
    row = {
        "cell": cell.name,
        "seed": seed,
        "training": training,
        "scores": scores(student, texts, options.data, settings["transfer"]),
        "seconds_of_evaluation": round(time.perf_counter() - started, 1),
    }
    # The state of the training is large and no longer needed.
    shutil.rmtree(folder, ignore_errors=True)
    return row


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder in SentEval's layout")
    parser.add_argument(
        "--pairs", type=Path, nargs="+", required=True, help="TSV files of two texts per line"
    )
    parser.add_argument(
        "--sentences", type=Path, required=True, help="text file with one text per line, for the word vectors"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for word vectors and run states")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--minutes-a-cell", type=float, help="limit of the training time per cell")
    parser.add_argument(
        "--transfer", default=",".join(TRANSFER), help="tasks, separated by commas; '' for none"
    )
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds to run the grid with")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--dim", type=int, default=300)
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    return parser.parse_args()


if __name__ == "__main__":
    main()
