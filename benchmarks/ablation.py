"""Ablates the CSE model of the paper: the gain of the n-gram path and the cost of its linearity.

    python benchmarks/ablation.py --data FOLDER --pairs FILE.tsv.xz ... --sentences FILE --work FOLDER \
        [--steps 400] [--minutes-a-cell 2] [--transfer MR,SUBJ,TREC] [--seeds 1]

Every cell is one model: CSE as released by its authors (Jiao, Wang, Feng, COLING 2018), which only sums n-gram
features, or a word average plus n-gram features. Cells differ in the widths of the n-grams and in whether they are
linear. All start from the same word vectors (word2vec, trained once on --sentences) and are trained on the same pairs
with the loss of the paper. Writes JSON, table and plot to ``results/ablation/`` after every cell. The same call
resumes an interrupted run.
"""

import argparse
import hashlib
import json
import shutil
import statistics
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch

from sentenc import CSEConfig
from sentenc.evaluation import LogisticProbe, evaluate
from sentenc.evaluation.harness import file_stem
from sentenc.evaluation.senteval_tasks import STS, TRANSFER
from sentenc.figures import BLACK, BLUE, ORANGE, new_figure, save_figure
from sentenc.io.atomic import write_text
from sentenc.io.text import open_text
from sentenc.training.data.batching import batches
from sentenc.training.data.corpus import Corpus, Source
from sentenc.training.data.words import word_splitter
from sentenc.training.engine.loss_terms import LossTerm
from sentenc.training.engine.run_log import read_log
from sentenc.training.engine.trainer import Trainer, TrainerConfig
from sentenc.training.initialization.cse import Initialization, init_from_words
from sentenc.training.initialization.word_vectors import WordVectors, train_word_vectors
from sentenc.training.losses import make_loss
from sentenc.training.students.cse import CSEStudent

FOLDER = machine.RESULTS / "ablation"
YEARS = ("STS12", "STS13", "STS14", "STS15", "STS16")
# A penalized classifier depends on the norm of its inputs, and sums have larger norms than means. The vectors of each
# cell are therefore scaled by one number to this root mean square norm, which is that of cse-en.
NORM = 3.0
# Values of the paper that differ from the library's defaults.
MARGIN, DROPOUT, L2_SP = 0.6, 0.1, 1e-6
# Settings of word2vec.
MIN_COUNT, WORD_EPOCHS = 5, 5
# Pairs with a longer text are left out.
MAX_WORDS = 64


@dataclass(frozen=True)
class Cell:
    """A model of the grid.

    Attributes:
        form: "untrained" and "average" have only words, "paper" only n-grams, "residual" both.
        widths: The widths of the n-grams.
        phi: The non-linearity of the n-grams.
        scramble: The fraction of training pairs whose words are shuffled.
    """

    form: str
    widths: tuple[int, ...] = ()
    phi: str = "identity"
    scramble: float = 0.5

    @property
    def row(self) -> str:
        """The name that cells share if they differ only in phi and scramble."""
        widths = "{" + ", ".join(map(str, self.widths)) + "}"
        names = {
            "untrained": "word average, untrained",
            "average": "word average",
            "paper": f"paper {widths}",
        }
        return names.get(self.form, f"word average + {widths}")

    @property
    def name(self) -> str:
        """The name of the cell, which is unique."""
        if not self.widths:
            return self.row
        return f"{self.row}, {self.phi}" + ("" if self.scramble else ", not scrambled")

    def config(self, vocab_size: int, dim: int) -> CSEConfig:
        """Returns the configuration of the model, with ``dim`` n-gram features in total."""
        shared = {
            "embedding_dim": dim,
            "widths": self.widths,
            "phi": self.phi,
            "num_filters": dim // max(1, len(self.widths)),
        }
        if self.form == "paper":
            return CSEConfig.paper(vocab_size, **shared)
        return CSEConfig(vocab_size=vocab_size, combine="residual", pooling="mean", unknown="row", **shared)


def grid() -> list[Cell]:
    """Returns all cells, the most informative ones first."""
    forms, widest = ("paper", "residual"), (1, 2, 3)
    narrower = {"paper": [(1,), (1, 2)], "residual": [(2, 3), (2,), (1,)]}
    phis = ("identity", "relu")
    return [
        Cell("untrained"),
        Cell("average"),
        *(Cell(form, widest, phi) for form in forms for phi in phis),
        *(Cell(form, widest, "relu", scramble=0.0) for form in forms),
        *(Cell(form, widths, phi) for form in forms for widths in narrower[form] for phi in phis),
        # Linear n-grams are almost independent of the word order. These cells show that scrambling costs nothing.
        *(Cell(form, widest, "identity", scramble=0.0) for form in forms),
    ]


class PairsInMemory:
    """A corpus in memory, which all cells share; every epoch has a random order of its own."""

    def __init__(self, pairs: list[tuple[str, ...]]) -> None:
        self.pairs = pairs

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[str, ...]]:
        for row in np.random.default_rng([seed, epoch]).permutation(len(self.pairs)):
            yield self.pairs[row]


def word_vectors(sentences: Path, dim: int, work: Path) -> tuple[WordVectors, str]:
    """Trains word2vec on the sentences, once. Returns the vectors, and a hash of the sentences and settings."""
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
    objective = make_loss(
        "paraphrase_margin", {"margin": MARGIN, "negatives": "max", "scramble": cell.scramble}, dim=config.dim
    )
    term = LossTerm(
        name="pairs",
        loss=objective,
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


def averages(row: dict[str, Any]) -> dict[str, float]:
    """Returns the averages of a row: Pearson, Spearman and, if measured, transfer."""
    pearson, spearman = row["scores"]["pearson_mean"], row["scores"]["spearman_all"]
    means = {
        "STS12-16 Pearson": statistics.mean(pearson[year] for year in YEARS),
        "STS Spearman": statistics.mean(spearman[task] for task in STS),
    }
    if row["scores"]["transfer"]:
        means["transfer"] = statistics.mean(row["scores"]["transfer"].values())
    return means


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the averages of every cell and their gains over the word average, by seed."""
    base = {row["seed"]: averages(row) for row in rows if row["cell"] == Cell("average").name}
    by_cell: dict[str, dict[str, Any]] = {}
    for row in rows:
        entry = by_cell.setdefault(row["cell"], {"seeds": 0, "values": {}, "gains": {}})
        entry["seeds"] += 1
        for name, value in averages(row).items():
            entry["values"].setdefault(name, []).append(value)
            if row["seed"] in base:
                entry["gains"].setdefault(name, []).append(value - base[row["seed"]][name])
    return by_cell


def in_order(names: Container[str]) -> list[Cell]:
    """Returns the cells of these names, sorted by form, widths, scrambling and phi."""
    forms = ["untrained", "average", "paper", "residual"]

    def position(cell: Cell) -> tuple[Any, ...]:
        return forms.index(cell.form), len(cell.widths), cell.widths, -cell.scramble, cell.phi

    return sorted((cell for cell in grid() if cell.name in names), key=position)


def table(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    by_cell = summary(rows)
    names = list(next(iter(by_cell.values()))["values"])
    tasks = [*YEARS, "STS-B", "SICK-R"]
    heads = [*(f"{name} | gain" for name in names), *(f"{task} r" for task in tasks), *settings["transfer"]]
    lines = [f"| cell | seeds | {' | '.join(heads)} |"]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    for cell in (cell.name for cell in in_order(by_cell)):
        entry = by_cell[cell]
        fields = [f"{statistics.mean(entry['values'][name]):.2f} | {_gain(entry, name)}" for name in names]
        seeds = [row["scores"] for row in rows if row["cell"] == cell]
        for kind, columns in (("pearson_mean", tasks), ("transfer", settings["transfer"])):
            fields += [f"{statistics.mean(scores[kind][task] for scores in seeds):.1f}" for task in columns]
        lines.append(f"| {cell} | {entry['seeds']} | {' | '.join(fields)} |")
    return "\n".join([*lines, "", *_notes(settings)]) + "\n"


def _gain(entry: dict[str, Any], name: str) -> str:
    gains = entry["gains"].get(name)
    if not gains:
        return ""
    spread = f" ({min(gains):+.2f} to {max(gains):+.2f})" if len(gains) > 1 else ""
    return f"{statistics.mean(gains):+.2f}{spread}"


def _notes(settings: dict[str, Any]) -> list[str]:
    """Returns the paragraphs under the table: how the scores were made."""
    left_out = [task for task in TRANSFER if task not in settings["transfer"]]
    steps = f"{settings['steps']} steps of {settings['batch']} pairs"
    if settings["minutes_a_cell"]:
        steps += f" or {settings['minutes_a_cell']} minutes"
    measurement = [
        "Gains are over the trained word average with the same seed, with the range over seeds in brackets.",
        "Pearson: the mean over the sets of a year on raw text, as in the paper; the average is over the five years.",
        "Spearman: the correlation over all pairs of a year; the average is over the seven STS tasks.",
        f"Transfer: accuracy of a logistic regression on vectors with a root mean square norm of {NORM:g}.",
    ]
    if left_out:
        measurement.append(f"To save time, {', '.join(left_out)} left out.")
    training = [
        f"Trained for {steps}, from {settings['n_pairs']:,} pairs: {', '.join(settings['pairs'])}.",
        f"Loss: paraphrase margin {MARGIN} with the hardest negatives; dropout {DROPOUT}; Adam with learning rate 1e-3.",
        f"The embeddings are regularized towards their initial values (L2-SP, {L2_SP:g}).",
        "Half of the pairs are scrambled, unless the name of the cell excludes it.",
        f"Initial word vectors: word2vec of {settings['vocabulary']:,} words with {settings['dim']} dimensions.",
        "The number of n-gram features is the same.",
    ]
    return [" ".join(measurement), "", " ".join(training)]


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws the gains over the trained word average, with one panel per average."""
    by_cell = summary(rows)
    cells = [cell for cell in in_order(by_cell) if cell.form != "average" and by_cell[cell.name]["gains"]]
    if not cells:
        return
    positions = list(dict.fromkeys(cell.row for cell in cells))
    names = list(by_cell[cells[0].name]["gains"])
    size = (3.6 * len(names) + 1.6, 1.4 + 0.42 * len(positions))
    figure = new_figure(*size, extra="eval", feature="the plot")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        panel.axvline(0, color="#555555", linewidth=1)
        for cell in cells:
            _mark(panel, positions.index(cell.row), cell, by_cell[cell.name]["gains"][name])
        panel.set_title(name, loc="left", fontsize=10)
        panel.set_xlabel("points over the trained word average", fontsize=9)
        panel.grid(axis="x", color="#e5e5e5")
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(positions)), positions)
    panels[0].set_ylim(len(positions) - 0.5, -0.5)
    marks = {mark.get_label(): mark for mark in panels[0].collections}
    figure.legend(marks.values(), marks.keys(), loc="outside upper center", ncols=len(marks), frameon=False)
    save_figure(figure, path)


def _mark(panel: Any, row: int, cell: Cell, gains: list[float]) -> None:
    # The shapes distinguish cells in a grayscale print. The marks of a row are shifted, so that all are visible.
    color, shape, shift = (BLUE, "o", -0.1) if cell.phi == "identity" else (ORANGE, "s", 0.1)
    label = {"identity": "linear", "relu": "relu"}[cell.phi] + ("" if cell.scramble else ", not scrambled")
    if cell.form == "untrained":
        color, shape, shift, label = BLACK, "D", 0.0, "untrained"
    height = row + shift * (1 if cell.scramble else 2.6)
    panel.plot([min(gains), max(gains)], [height, height], color=color, linewidth=1.2)
    look = {"color": color if cell.scramble else "white", "edgecolors": color, "marker": shape, "s": 34}
    panel.scatter([statistics.mean(gains)], [height], label=label, **look)


def earlier_rows(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the rows of an earlier call, if it had the same settings."""
    if not path.exists():
        return []
    content = json.loads(path.read_text("utf-8"))
    if content["settings"] != settings:
        changed = [key for key in settings if content["settings"].get(key) != settings[key]]
        raise SystemExit(
            f"{path} was made with other settings ({', '.join(changed)}): use the same settings or another --output"
        )
    return content["rows"]


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
    rows = earlier_rows(options.output / "ablation.json", settings)
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
