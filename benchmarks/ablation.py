"""The paper's model taken apart: does the n-gram path help, by how much, and what does linearity cost?

    python benchmarks/ablation.py --data FOLDER --pairs FILE.tsv.xz ... --sentences FILE --work FOLDER \
        [--steps 400] [--minutes-a-cell 2] [--transfer MR,SUBJ,TREC] [--seeds 1]

Every cell is one model: CSE as its authors released it (Jiao, Wang, Feng, COLING 2018: summed n-gram
features, nothing else), or a word average plus n-gram features; n-grams of some widths; linear or not. All
begin with the same word vectors (word2vec, trained on --sentences once) and are trained on the same pairs
with the paper's objective. Writes ``results/ablation/`` after every cell: JSON, table and plot. The same
call goes on where it was stopped.
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
# Classifiers with a penalty see how long vectors are, and sums are longer than means: all cells' vectors
# are scaled by one number to this root mean square, that of cse-en.
LENGTH = 3.0
# The paper's, where it differs from the library's defaults.
MARGIN, DROPOUT, TOWARDS_START = 0.6, 0.1, 1e-6
# Of word2vec; and pairs with a text of more words than that are left out.
MIN_COUNT, WORD_EPOCHS, MAX_WORDS = 5, 5, 64


@dataclass(frozen=True)
class Cell:
    """A model of the grid.

    Attributes:
        form: "untrained" and "average": words alone; "paper": n-grams alone; "residual": both.
        widths: Of the n-grams.
        phi: Their non-linearity.
        scramble: Share of the training pairs whose words are shuffled.
    """

    form: str
    widths: tuple[int, ...] = ()
    phi: str = "identity"
    scramble: float = 0.5

    @property
    def row(self) -> str:
        """What the cell has in common with those that differ in phi and scramble alone."""
        widths = "{" + ", ".join(map(str, self.widths)) + "}"
        names = {
            "untrained": "word average, untrained",
            "average": "word average",
            "paper": f"paper {widths}",
        }
        return names.get(self.form, f"word average + {widths}")

    @property
    def name(self) -> str:
        """Distinct for every cell."""
        if not self.widths:
            return self.row
        return f"{self.row}, {self.phi}" + ("" if self.scramble else ", not scrambled")

    def config(self, vocab_size: int, dim: int) -> CSEConfig:
        """The model's shape: ``dim`` n-gram features in all, of whatever widths."""
        shared = {
            "embedding_dim": dim, "widths": self.widths, "phi": self.phi,
            "num_filters": dim // max(1, len(self.widths)),
        }  # fmt: skip
        if self.form == "paper":
            return CSEConfig.paper(vocab_size, **shared)
        return CSEConfig(vocab_size=vocab_size, combine="residual", pooling="mean", unknown="row", **shared)


def grid() -> list[Cell]:
    """All cells, those that tell most first."""
    found, forms = [Cell("untrained"), Cell("average")], ("paper", "residual")
    widest, narrower = [(1, 2, 3)], {"paper": [(1,), (1, 2)], "residual": [(2, 3), (2,), (1,)]}
    for choices in (dict.fromkeys(forms, widest), narrower):
        for form in forms:
            found += [Cell(form, widths, phi) for widths in choices[form] for phi in ("identity", "relu")]
        if choices is not narrower:
            found += [Cell(form, widest[0], "relu", 0.0) for form in forms]
    # Linear n-grams hardly know the order of words: these are there to show that scrambling costs them nothing.
    return found + [Cell(form, widest[0], "identity", 0.0) for form in forms]


class HeldPairs:
    """A corpus in memory, so that cells do not each read it: an order of its own every epoch."""

    def __init__(self, pairs: list[tuple[str, ...]]) -> None:
        self.pairs = pairs

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[str, ...]]:
        for place in np.random.default_rng([seed, epoch]).permutation(len(self.pairs)):
            yield self.pairs[place]


def word_vectors(sentences: Path, dim: int, work: Path) -> tuple[WordVectors, str]:
    """Word2vec of the sentences, made once, and a hash of them and its settings."""
    settings = json.dumps([dim, MIN_COUNT, WORD_EPOCHS]).encode()
    stamp = hashlib.sha256(sentences.read_bytes() + settings).hexdigest()[:16]
    path = work / f"words-{stamp}.npz"
    if not path.exists():
        split = word_splitter(True)
        with open_text(str(sentences)) as lines:
            texts = [split(line) for line in lines]
        print(f"word2vec on {sum(map(len, texts)):,} words", flush=True)
        made = train_word_vectors(texts, dim=dim, min_count=MIN_COUNT, epochs=WORD_EPOCHS)
        work.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, words=np.array(made.words), vectors=made.vectors, counts=made.counts)
        part.rename(path)
    with np.load(path) as found:
        return WordVectors(found["words"].tolist(), found["vectors"], found["counts"]), stamp


def trained(
    cell: Cell, seed: int, start: Initialization, pairs: HeldPairs, settings: dict[str, Any], folder: Path
) -> tuple[CSEStudent, dict[str, Any]]:
    """The cell's model, and what its training was like."""
    generator = torch.Generator().manual_seed(seed)
    config = cell.config(start.tokenizer.vocab_size, start.embeddings.shape[1])
    # No log weights: every word counts the same at the start, as in the paper.
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
        steps=settings["steps"], max_minutes=settings["minutes_a_cell"], learning_rate=1e-3, warmup=0,
        schedule="constant", clip=None, regularization={"embeddings": TOWARDS_START}, keep="last", log_every=50,
        seed=seed, device="cpu",
    )  # fmt: skip
    same = {key: value for key, value in settings.items() if key not in ("steps", "minutes_a_cell")}
    result = Trainer(student, [term], training, folder, identity=same | {"cell": cell.name}).run()
    rows = [row for row in read_log(folder / "log.jsonl") if "loss" in row]
    seconds = round(60 * result.minutes, 1)
    return student, {"steps": result.steps, "seconds": seconds, "last_loss": rows[-1]["loss"]}


def scores(student: CSEStudent, texts: list[str], data: str, tasks: list[str]) -> dict[str, dict[str, float]]:
    """Pearson (mean over sets) and Spearman (sets put together) of STS, and accuracies."""
    encoder = student.encoder(tables="float32")
    lengths = np.linalg.norm(encoder.encode(texts), axis=1)
    scale = np.float32(LENGTH / np.sqrt(np.mean(lengths**2)))

    def scaled(some: list[str]) -> np.ndarray:
        return encoder.encode(some, on_overflow="ignore") * scale

    # As many threads as training has: OMP_NUM_THREADS.
    probe = LogisticProbe(n_threads=torch.get_num_threads())
    found = evaluate(scaled, [*STS, *tasks], data=data, probe=probe, show_progress_bar=True).records
    return {
        "pearson_mean": {task: found[task].details["pearson"]["mean"] for task in STS},
        "spearman_all": {task: found[task].details["spearman"]["all"] for task in STS},
        "transfer": {task: found[task].value for task in tasks},
    }


def averages(row: dict[str, Any]) -> dict[str, float]:
    """The three numbers that sum a cell up."""
    pearson, spearman = row["scores"]["pearson_mean"], row["scores"]["spearman_all"]
    found = {
        "STS12-16 Pearson": statistics.mean(pearson[year] for year in YEARS),
        "STS Spearman": statistics.mean(spearman[task] for task in STS),
    }
    if row["scores"]["transfer"]:
        found["transfer"] = statistics.mean(row["scores"]["transfer"].values())
    return found


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For every cell its averages and their gains over the word average, seed by seed."""
    base = {row["seed"]: averages(row) for row in rows if row["cell"] == Cell("average").name}
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        entry = found.setdefault(row["cell"], {"seeds": 0, "values": {}, "gains": {}})
        entry["seeds"] += 1
        for name, value in averages(row).items():
            entry["values"].setdefault(name, []).append(value)
            if row["seed"] in base:
                entry["gains"].setdefault(name, []).append(value - base[row["seed"]][name])
    return found


def in_order(names: Container[str]) -> list[Cell]:
    """The cells of these names, for readers: by form, widths and what they are compared in."""
    forms = ["untrained", "average", "paper", "residual"]

    def place(cell: Cell) -> tuple[Any, ...]:
        return forms.index(cell.form), len(cell.widths), cell.widths, -cell.scramble, cell.phi

    return sorted((cell for cell in grid() if cell.name in names), key=place)


def table(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    found = summary(rows)
    names = list(next(iter(found.values()))["values"])
    tasks = [*YEARS, "STS-B", "SICK-R"]
    heads = [*(f"{name} | gain" for name in names), *(f"{task} r" for task in tasks), *settings["transfer"]]
    lines = [f"| cell | seeds | {' | '.join(heads)} |"]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    for cell in (cell.name for cell in in_order(found)):
        entry = found[cell]
        fields = [f"{statistics.mean(entry['values'][name]):.2f} | {_gain(entry, name)}" for name in names]
        own = [row["scores"] for row in rows if row["cell"] == cell]
        for kind, columns in (("pearson_mean", tasks), ("transfer", settings["transfer"])):
            fields += [f"{statistics.mean(one[kind][task] for one in own):.1f}" for task in columns]
        lines.append(f"| {cell} | {entry['seeds']} | {' | '.join(fields)} |")
    return "\n".join([*lines, "", *_notes(settings)]) + "\n"


def _gain(entry: dict[str, Any], name: str) -> str:
    gains = entry["gains"].get(name)
    if not gains:
        return ""
    spread = f" ({min(gains):+.2f} to {max(gains):+.2f})" if len(gains) > 1 else ""
    return f"{statistics.mean(gains):+.2f}{spread}"


def _notes(settings: dict[str, Any]) -> list[str]:
    left_out = [task for task in TRANSFER if task not in settings["transfer"]]
    return [
        "Gains are over the trained word average with the same seed (in brackets the range over seeds). Pearson: the "
        "mean over a year's sets, as in the paper's protocol, raw text; the average is that of the five years. "
        "Spearman: a year's sets put together; the average is that of the seven STS tasks. Transfer: accuracy of a "
        f"logistic regression; vectors scaled to a root mean square length of {LENGTH:g}"
        + (f"; {', '.join(left_out)} left out for time." if left_out else "."),
        "",
        f"Trained for {settings['steps']} steps of {settings['batch']} pairs"
        + (f", {settings['minutes_a_cell']} minutes at most" if settings["minutes_a_cell"] else "")
        + f" ({settings['n_pairs']:,} pairs: {', '.join(settings['pairs'])}). Paraphrase margin {MARGIN}, hardest "
        f"negatives, dropout {DROPOUT}, Adam 1e-3, embeddings drawn to their start by {TOWARDS_START:g}; half of the "
        "pairs scrambled unless it says otherwise. Start: word2vec of "
        f"{settings['vocabulary']:,} words, {settings['dim']} dimensions; n-gram features: as many in all.",
    ]


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Gains over the trained word average, a panel an average."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = summary(rows)
    cells = [cell for cell in in_order(found) if cell.form != "average" and found[cell.name]["gains"]]
    if not cells:
        return
    places = list(dict.fromkeys(cell.row for cell in cells))
    names = list(found[cells[0].name]["gains"])
    figure = Figure(figsize=(3.6 * len(names) + 1.6, 1.4 + 0.42 * len(places)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        panel.axvline(0, color="#555555", linewidth=1)
        for cell in cells:
            _mark(panel, places.index(cell.row), cell, found[cell.name]["gains"][name])
        panel.set_title(name, loc="left", fontsize=10)
        panel.set_xlabel("points over the trained word average", fontsize=9)
        panel.grid(axis="x", color="#e5e5e5")
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(places)), places)
    panels[0].set_ylim(len(places) - 0.5, -0.5)
    marks = {mark.get_label(): mark for mark in panels[0].collections}
    figure.legend(marks.values(), marks.keys(), loc="outside upper center", ncols=len(marks), frameon=False)
    figure.savefig(path, dpi=150)


def _mark(panel: Any, place: int, cell: Cell, gains: list[float]) -> None:
    # Okabe and Ito's colors; shapes for gray print. Marks of a row stand a little apart, lest they hide each other.
    color, shape, shift = ("#0072B2", "o", -0.1) if cell.phi == "identity" else ("#D55E00", "s", 0.1)
    label = {"identity": "linear", "relu": "relu"}[cell.phi] + ("" if cell.scramble else ", not scrambled")
    if cell.form == "untrained":
        color, shape, shift, label = "#000000", "D", 0.0, "untrained"
    place = place + shift * (1 if cell.scramble else 2.6)
    panel.plot([min(gains), max(gains)], [place, place], color=color, linewidth=1.2)
    look = {"color": color if cell.scramble else "white", "edgecolors": color, "marker": shape, "s": 34}
    panel.scatter([statistics.mean(gains)], [place], label=label, **look)


def earlier_rows(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells that are done, if they were made in the same way."""
    if not path.exists():
        return []
    content = json.loads(path.read_text("utf-8"))
    if content["settings"] != settings:
        changed = [key for key in settings if content["settings"].get(key) != settings[key]]
        raise SystemExit(
            f"{path} was made with other settings ({', '.join(changed)}); expected the same, or another --output"
        )
    return content["rows"]


def write(rows: list[dict[str, Any]], settings: dict[str, Any], folder: Path) -> None:
    found = summary(rows)
    content = {**machine.circumstances(), "settings": settings, "summary": found, "rows": rows}
    write_text(folder / "ablation.md", table(rows, settings))
    plot(rows, folder / "ablation.png")
    # Last: what it lists is done.
    machine.write(str((folder / "ablation").resolve()), content)


def main() -> None:
    options = _options()
    words, stamp = word_vectors(options.sentences, options.dim, options.work)
    start = init_from_words(words, unknown="row")
    corpus = Corpus([Source(files=(str(path),), form="pairs") for path in options.pairs], max_words=MAX_WORDS)
    pairs = HeldPairs(list(corpus.epoch(0, 0)))
    settings = {
        "steps": options.steps, "batch": options.batch, "minutes_a_cell": options.minutes_a_cell, "dim": options.dim,
        "pairs": [path.name.split(".")[0] for path in options.pairs], "n_pairs": len(pairs.pairs),
        "corpus": corpus.fingerprint(), "words": stamp, "vocabulary": start.tokenizer.vocab_size,
        "transfer": [name for name in options.transfer.split(",") if name],
    }  # fmt: skip
    options.output.mkdir(parents=True, exist_ok=True)
    rows = earlier_rows(options.output / "ablation.json", settings)
    done = {(row["cell"], row["seed"]) for row in rows}
    wanted = [(cell, seed) for seed in range(1, options.seeds + 1) for cell in grid()]
    left = [(cell, seed) for cell, seed in wanted if (cell.name, seed) not in done]
    print(f"{len(left)} of {len(wanted)} cells to do, {len(pairs.pairs):,} pairs", flush=True)
    texts = [pair[0] for pair in pairs.pairs[:2000]]
    began = time.perf_counter()
    for number, (cell, seed) in enumerate(left, 1):
        folder = options.work / "cells" / file_stem(f"{cell.name}, seed {seed}")
        student, told = trained(cell, seed, start, pairs, settings, folder)
        evaluated = time.perf_counter()
        row = {"cell": cell.name, "seed": seed, "training": told}
        row["scores"] = scores(student, texts, options.data, settings["transfer"])
        row["seconds_of_evaluation"] = round(time.perf_counter() - evaluated, 1)
        rows.append(row)
        write(rows, settings, options.output)
        # The state is large, and of no more use.
        shutil.rmtree(folder, ignore_errors=True)
        minutes = (time.perf_counter() - began) / 60
        shown = ", ".join(f"{name} {value:.2f}" for name, value in averages(row).items())
        print(
            f"[{number}/{len(left)}] {cell.name}, seed {seed}: {shown}; {minutes:.1f} min, about "
            f"{minutes / number * (len(left) - number):.0f} left",
            flush=True,
        )


def _options() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--data", required=True, help="folder in SentEval's layout")
    parser.add_argument("--pairs", type=Path, nargs="+", required=True, help="TSV: two texts a line")
    parser.add_argument("--sentences", type=Path, required=True, help="a text a line, for the word vectors")
    parser.add_argument("--work", type=Path, required=True, help="folder for word vectors and states")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--minutes-a-cell", type=float, help="train no longer, whatever the steps")
    parser.add_argument("--transfer", default=",".join(TRANSFER), help="tasks; '' for none")
    parser.add_argument("--seeds", type=int, default=1, help="run the grid so many times")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--dim", type=int, default=300)
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    return parser.parse_args()


if __name__ == "__main__":
    main()
