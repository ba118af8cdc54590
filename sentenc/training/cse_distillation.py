"""Distils a teacher's sentence vectors into a CSE model.

The student starts as a weighted average of the teacher's vectors of single tokens (Model2Vec's start:
PCA, then a / (a + p) weights) and learns, batch by batch, the teacher's picture of the batch: the
softmax over teacher-teacher similarities is the target of the student-teacher similarities, beside
plain cosine. The linear map from student to teacher space is folded away afterwards: only the square
root of M M^T matters to a dot product.

    python -m sentenc.training.cse_distillation --help
"""

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sentenc.encoders.cse_config import CSEConfig
from sentenc.nn.cse import CSEModule
from sentenc.progress import progress_bar

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """How to train.

    Attributes:
        epochs: Passes over the sentences.
        word_epochs: The first so many passes train the word path alone.
        batch_size: Sentences in a batch; they are each other's in-batch targets.
        learning_rate: Adam's, for embeddings and token weights, at its peak.
        filter_learning_rate: The same for the n-gram path.
        temperature: Of the similarity distributions.
        warmup: Steps of linear warm-up; the rate falls to zero along a half cosine after it.
        max_minutes: The schedule is squeezed to end within this time; None for no limit.
        save_minutes: A resumable state is saved this often.
        seed: Of the start, the order and nothing global.
    """

    epochs: float = 6.0
    word_epochs: float = 3.0
    batch_size: int = 512
    learning_rate: float = 3e-3
    filter_learning_rate: float = 1e-3
    temperature: float = 0.05
    warmup: int = 100
    max_minutes: float | None = None
    save_minutes: float = 3.0
    seed: int = 1


@dataclass(frozen=True)
class Sentences:
    """Token ids of n sentences in one row, where each ends, and the teacher's unit vectors (n, t)."""

    ids: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int64]
    teacher: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.ends)

    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each sentence, (n,)."""
        return np.diff(self.ends, prepend=0)

    def batch(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Ids (B, L), lengths (B,) and teacher vectors (B, t) of some sentences."""
        lengths = self.lengths_of(rows)
        ids = np.zeros((len(rows), max(1, int(lengths.max()))), np.int64)
        columns = np.arange(ids.shape[1])
        inside = columns < lengths[:, None]
        ids[inside] = self.ids[((self.ends[rows] - lengths)[:, None] + columns)[inside]]
        teacher = torch.from_numpy(self.teacher[rows].astype(np.float32))
        return torch.from_numpy(ids), torch.from_numpy(lengths), teacher

    def lengths_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Tokens of some sentences."""
        starts = np.where(rows > 0, self.ends[rows - 1], 0)
        return self.ends[rows] - starts


def initial_embeddings(
    token_vectors: FloatArray, frequencies: npt.NDArray[np.int64], dim: int, a: float = 1e-3
) -> tuple[FloatArray, FloatArray]:
    """Embeddings (V, dim) and log weights (V,) from a teacher's vectors of single tokens (V, t).

    PCA to ``dim``; weight a / (a + p) with p the smoothed frequency of the token in the corpus
    (SIF; Model2Vec and Tokenlearn use the same).
    """
    centred = token_vectors - token_vectors.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    p = (frequencies + 1) / (frequencies + 1).sum()
    embeddings = centred @ vectors[:, ::-1][:, :dim]
    embeddings /= np.sqrt((embeddings**2).sum(1).mean())
    return embeddings.astype(np.float32), np.log(a / (a + p)).astype(np.float32)


def similarity_distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross-entropy between in-batch similarity distributions, plus one minus cosine; batch mean.

    Args:
        student: (B, t) student vectors in teacher space, any length.
        teacher: (B, t) teacher vectors of unit length.
        temperature: Similarities are divided by it before the softmax.
    """
    student = nn.functional.normalize(student, dim=1)
    target = torch.softmax(teacher @ teacher.T / temperature, dim=1)
    predicted = torch.log_softmax(student @ teacher.T / temperature, dim=1)
    # Less the target's own entropy, so that a perfect student has loss zero.
    divergence = (torch.xlogy(target, target) - target * predicted).sum(1).mean()
    return divergence + (1 - (student * teacher).sum(1)).mean()


def batches(sentences: Sentences, size: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """One epoch of batches of sentences of similar length, in random order."""
    lengths = sentences.lengths()
    order = rng.permutation(np.flatnonzero(lengths > 0))
    pool = size * 64
    chunks = [order[start : start + pool] for start in range(0, len(order), pool)]
    rows = np.concatenate([chunk[np.argsort(lengths[chunk], kind="stable")] for chunk in chunks])
    groups = [rows[start : start + size] for start in range(0, len(rows) - size + 1, size)]
    for index in rng.permutation(len(groups)):
        yield groups[index]


class Distillation:
    """A run: student, map to teacher space, optimiser, position; resumable from its folder.

    Args:
        config: The student's shape; ``combine="residual"``, output in its own space.
        plan: How to train.
        sentences: What on.
        embeddings: The start, (V, d), and log token weights, (V,).
        folder: Where the state and the log are kept.
    """

    def __init__(
        self,
        config: CSEConfig,
        plan: DistillationConfig,
        sentences: Sentences,
        start: tuple[FloatArray, FloatArray],
        folder: Path,
    ) -> None:
        self.config, self.plan, self.sentences, self.folder = config, plan, sentences, folder
        generator = torch.Generator().manual_seed(plan.seed)
        self.student = CSEModule(config, generator)
        teacher_dim = sentences.teacher.shape[1]
        self.to_teacher = nn.Parameter(torch.empty(config.dim, teacher_dim))
        nn.init.orthogonal_(self.to_teacher, generator=generator)
        with torch.no_grad():
            self.student["embeddings"].copy_(torch.from_numpy(start[0]))
            self.student["token_weights"].copy_(torch.from_numpy(start[1]))
        names = {id(p): n for n, p in self.student.weights.items()}
        words = [p for p in self.student.parameters() if names[id(p)] in ("embeddings", "token_weights")]
        ngrams = [p for p in self.student.parameters() if names[id(p)] not in ("embeddings", "token_weights")]
        self.optimizer = torch.optim.Adam(
            [
                {"params": words, "peak": plan.learning_rate},
                {"params": [self.to_teacher], "peak": plan.learning_rate},
                {"params": ngrams, "peak": plan.filter_learning_rate},
            ],
            fused=True,
        )
        self.word_student = _word_view(self.student)
        self.step, self.seconds = 0, 0.0
        self.steps_per_epoch = len(sentences) // plan.batch_size
        self.steps = int(plan.epochs * self.steps_per_epoch)
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, evaluate: Any = None, evaluate_every: int = 1000) -> None:
        """Trains to the end of the plan or of the time, from wherever the folder's state is."""
        self._resume()
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        limit = math.inf if self.plan.max_minutes is None else self.plan.max_minutes * 60
        with progress_bar(self.steps, "distilling", True) as bar:
            bar.update(self.step)
            while self.step < self.steps and self.seconds < limit:
                epoch, skip = divmod(self.step, self.steps_per_epoch)
                rng = np.random.default_rng([self.plan.seed, epoch])
                for index, rows in enumerate(batches(self.sentences, self.plan.batch_size, rng)):
                    if index < skip:
                        continue
                    progress = max(self.step / self.steps, self.seconds / limit)
                    if progress >= 1:
                        break
                    loss = self._update(rows, progress)
                    self.step += 1
                    self.seconds = time.monotonic() - started
                    bar.update(1)
                    if self.step % 100 == 0:
                        self._log(loss, progress, evaluate if self.step % evaluate_every == 0 else None)
                    if time.monotonic() - saved > self.plan.save_minutes * 60:
                        self._save()
                        saved = time.monotonic()
        self._save()
        self._log(math.nan, 1.0, evaluate)

    def weights(self) -> dict[str, FloatArray]:
        """The student's weights with the map to teacher space folded in: dot products are kept."""
        with torch.no_grad():
            product = (self.to_teacher @ self.to_teacher.T).double()
            values, vectors = torch.linalg.eigh(product)
            root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
            inverse = torch.linalg.inv(root)
            found = {}
            for name in self.config.shapes():
                weight = self.student[name].double()
                if name == "embeddings" or name.startswith("output."):
                    weight = weight @ root
                elif name.startswith("filters."):
                    weight = inverse @ weight
                found[name] = weight.float().numpy()
        return found

    def _update(self, rows: npt.NDArray[np.int64], progress: float) -> float:
        ids, lengths, teacher = self.sentences.batch(rows)
        words_only = progress < self.plan.word_epochs / self.plan.epochs
        student = self.word_student if words_only else self.student
        rate = 0.5 * (1 + math.cos(math.pi * progress)) * min(1.0, (self.step + 1) / self.plan.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        with torch.autocast("cpu", torch.bfloat16, enabled=not words_only):
            vectors = student(ids, lengths)
        loss = similarity_distillation_loss(vectors.float() @ self.to_teacher, teacher, self.plan.temperature)
        value = float(loss.detach())
        if not math.isfinite(value):
            np.save(self.folder / "nan_batch.npy", rows)
            raise FloatingPointError(f"loss is {value} at step {self.step}; its rows are in nan_batch.npy")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return value

    def _log(self, loss: float, progress: float, evaluate: Any) -> None:
        row = {"step": self.step, "minutes": self.seconds / 60, "progress": progress, "loss": loss}
        if evaluate is not None:
            row["dev"] = evaluate(self.weights())
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")

    def _save(self) -> None:
        state = {
            "student": self.student.state_dict(),
            "to_teacher": self.to_teacher.data,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "plan": json.dumps(asdict(self.plan)),
        }
        temporary = self.folder / "state.pt.tmp"
        torch.save(state, temporary)
        os.replace(temporary, self.folder / "state.pt")

    def _resume(self) -> None:
        path = self.folder / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        self.student.load_state_dict(state["student"])
        self.to_teacher.data.copy_(state["to_teacher"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]


def _word_view(student: CSEModule) -> CSEModule:
    # The same embeddings and token weights without the n-gram path.
    config = student.config
    view = CSEModule(
        CSEConfig(vocab_size=config.vocab_size, embedding_dim=config.embedding_dim, widths=(), num_filters=1)
    )
    for name in ("embeddings", "token_weights"):
        view.weights[name] = student.weights[name]
    return view
