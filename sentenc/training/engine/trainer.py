"""The training loop: minimizes a weighted sum of losses, evaluates, and saves a resumable state."""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sentenc.nn.attention import attend_in_float32
from sentenc.nn.seeding import seeded
from sentenc.training.config.trainer import TrainerConfig
from sentenc.training.engine.checkpointing import (
    differences,
    load_state,
    random_state,
    save_state,
    set_random_state,
)
from sentenc.training.engine.dev_score import DevScore
from sentenc.training.engine.distributed import Processes, single_process
from sentenc.training.engine.loss_terms import Batch, BatchStream, LossTerm, check_loss_terms
from sentenc.training.engine.optimizer import Optimizer, check_sparse, clip_gradients
from sentenc.training.engine.run_log import LossWindow, RunLog, TrainingBar, training_bar
from sentenc.training.engine.signals import StopRequest, catch_stop_signals
from sentenc.training.losses.base import StateLoss
from sentenc.training.losses.l2_sp import L2SP
from sentenc.training.students.base import Student, TransformerStudent

__all__ = ["LossTerm", "Result", "Trainer", "TrainerConfig"]

# File names in the work folder.
STATE_FILE = "state.pt"
LOG_FILE = "log.jsonl"
# Texts that the student encodes at a time if a loss chooses examples by their vectors.
_TEXTS_PER_CALL = 512
# Settings that may change when a run is resumed.
_FREE_SETTINGS = tuple(
    f"training.{name}" for name in ("steps", "max_minutes", "save_minutes", "device", "keep")
)


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        steps: Number of updates.
        minutes: Training time, earlier sessions included.
        best_step: Step of the best evaluation; None if there was no evaluation.
        best_score: Score of the best evaluation.
        finished: False if the training was stopped and can be resumed.
    """

    steps: int
    minutes: float
    best_step: int | None
    best_score: float | None
    finished: bool


class Trainer:
    """Trains a student on loss terms. After any interruption, the same call resumes from the saved state.

    Args:
        student: The student, trained in place.
        loss_terms: The losses and their data; each step draws a batch of every term.
        config: The training configuration.
        folder: Folder of the state, the log, and the texts of a batch that failed.
        evaluate: Returns a score of the student, or several with their mean; higher is better. It is called
            on the first process, in evaluation mode, with the output of :meth:`output_map`.
        processes: The processes that train together; by default this process only.
        identity: JSON values that identify the data and the model. A saved state with another identity or
            ``config`` is refused, and so are processes that differ in them.
        show_progress_bar: Draw a bar on standard error.

    Raises:
        ValueError: Loss terms, student and configuration do not fit together.
    """

    def __init__(
        self,
        student: Student,
        loss_terms: Sequence[LossTerm],
        config: TrainerConfig,
        folder: Path,
        evaluate: Callable[[Tensor | None], float | DevScore] | None = None,
        *,
        processes: Processes | None = None,
        identity: dict[str, Any] | None = None,
        show_progress_bar: bool = True,
    ) -> None:
        check_loss_terms(loss_terms)
        self.processes = single_process(config.device) if processes is None else processes
        self.student = student.to(self.processes.device)
        if config.precision == "bf16" and self.processes.device.type == "cpu":
            attend_in_float32(student)
        self.loss_terms = tuple(loss_terms)
        self.config, self.folder, self.evaluate = config, folder, evaluate
        self.losses = nn.ModuleList([term.loss for term in loss_terms]).to(self.processes.device)
        self._identity = {"training": asdict(config), "processes": self.processes.count} | (identity or {})
        self._start_alike()
        groups = dict(student.groups())
        self.regularization = L2SP(groups, config.regularization)
        sparse = student.sparse_parameters()
        check_sparse(config, groups, sparse)
        if loss_parameters := list(self.losses.parameters()):
            groups["losses"] = loss_parameters
        self.parameters = [parameter for group in groups.values() for parameter in group]
        self.optimizer = Optimizer(groups, sparse, config)
        # The first call of a transformer's tokenizer may modify it, which two threads must not do at once.
        student.tokenize(["a"])
        self.streams = [
            BatchStream(term, student.tokenize, self.processes, [config.seed, number])
            for number, term in enumerate(loss_terms)
        ]
        self.step, self.seconds = 0, 0.0
        self._best: dict[str, Any] | None = None
        self._evaluated = -1
        self._dev_text = ""
        self._window = LossWindow()
        self._log = RunLog(folder / LOG_FILE)
        self._shows_bar = show_progress_bar and self.processes.is_first

    @property
    def state_file(self) -> Path:
        """Path of the saved state."""
        return self.folder / STATE_FILE

    def output_map(self) -> Tensor | None:
        """Returns the linear map (dim, t) of the student's vectors that a loss has learned, if any."""
        return next((m for term in self.loss_terms if (m := term.loss.output_map()) is not None), None)

    def run(self, stop_at: int | None = None) -> Result:
        """Trains from the saved state, if there is one, to the last step or until the time is up.

        Args:
            stop_at: Save the state and return after this step. The schedule does not change.

        Returns:
            The result of the run. The student then has its best or its last weights, as ``config.keep`` states.

        Raises:
            KeyboardInterrupt: SIGINT or SIGTERM arrived; the state has been saved.
            FloatingPointError: A loss or gradient is not finite. The last saved state is kept.
            CheckpointError: The saved state is damaged.
            ValueError: The saved state has other settings.
        """
        try:
            # Dropout draws from PyTorch's own generators.
            with seeded(self.config.seed + self.processes.rank, self.processes.device):
                self._resume()
                with catch_stop_signals() as request, training_bar(self._shows_bar) as bar:
                    finished = self._train(request, bar, stop_at)
        finally:
            for stream in self.streams:
                stream.close()
        if finished and self.config.keep == "best" and self._best is not None:
            self._load_weights(self._best)
        return Result(
            self.step,
            self.seconds / 60,
            None if self._best is None else self._best["step"],
            None if self._best is None else self._best["score"],
            finished,
        )

    def _train(self, request: StopRequest, bar: TrainingBar, stop_at: int | None) -> bool:
        started = time.monotonic() - self.seconds
        saved = self.seconds
        self.student.train()
        while True:
            own = time.monotonic() - started
            # All processes must make the same decisions.
            self.seconds, stops = self.processes.all_reduce_max(own, float(request.is_made))
            progress = self._progress()
            if stops:
                # Without an evaluation, which may take longer than a scheduler waits before it kills. The
                # resumed run evaluates first.
                self._save()
                raise KeyboardInterrupt(
                    f"stopped at step {self.step} of {self.config.steps}; the state is in {self.folder}, "
                    "and the same command resumes the run"
                )
            if self._evaluated < self.step and (self._is_due() or progress >= 1):
                if self.processes.count > 1 and self.evaluate is not None:
                    # If another process fails, torchrun kills this one, even during an evaluation.
                    self._save()
                    saved = self.seconds
                self._report()
            elif self._window.steps and self.step % self.config.log_every == 0:
                self._write_row()
            if progress >= 1:
                self._save()
                return True
            if self.step == stop_at:
                self._save()
                return False
            if self.seconds - saved > 60 * self.config.save_minutes:
                self._save()
                saved = self.seconds
            self._update(progress)
            self.step += 1
            bar.show(self._progress(), f"loss {self._window.last:.4f}{self._dev_text}")

    def _progress(self) -> float:
        limit = self.config.max_minutes
        return max(self.step / self.config.steps, 0.0 if limit is None else self.seconds / (60 * limit))

    def _is_due(self) -> bool:
        return self.step % self.config.evaluate_every == 0

    def _update(self, progress: float) -> None:
        self.student.set_progress(progress)
        used: dict[str, list[Batch]] = {term.name: [] for term in self.loss_terms}
        losses = dict.fromkeys(used, 0.0)
        for _ in range(self.config.accumulate):
            for term, stream in zip(self.loss_terms, self.streams, strict=True):
                batch = stream.next(self._encode)
                used[term.name].append(batch)
                loss = self._loss(term, batch)
                value = float(loss.detach())
                if not math.isfinite(value):
                    self._fail(f"the loss of {term.name} is {value}", {term.name: [batch]})
                for name, part in ({term.name: value} | _loss_parts(term)).items():
                    losses[name] = losses.get(name, 0.0) + part / self.config.accumulate
                (loss * (term.weight / self.config.accumulate)).backward()  # type: ignore[no-untyped-call]
        if self.regularization:
            self.regularization.penalty().backward()  # type: ignore[no-untyped-call]
        self.processes.average_gradients(self.parameters)
        norm = clip_gradients(self.parameters, self.config.clip)
        if not math.isfinite(norm):
            self._fail(f"the norm of the gradient is {norm}", used)
        self.optimizer.step(self.config.rate(self.step, progress))
        total = sum(term.weight * losses[term.name] for term in self.loss_terms)
        examples = sum(len(batch.examples) for group in used.values() for batch in group)
        self._window.add(total, losses, norm, examples, used[self.loss_terms[0].name][-1].epoch)

    def _loss(self, term: LossTerm, batch: Batch) -> Tensor:
        device = self.processes.device
        if isinstance(term.loss, StateLoss):
            return self._loss_of_states(term.loss, term.name, batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            vectors = self.student(batch.ids.to(device), batch.lengths.to(device))
        columns = vectors[:, : self.student.loss_dim].chunk(len(batch.examples[0]))
        targets = None if batch.targets is None else torch.from_numpy(batch.targets).to(device)
        loss: Tensor = term.loss([self.processes.gather(column) for column in columns], targets)
        return loss

    def _loss_of_states(self, loss: StateLoss, name: str, batch: Batch) -> Tensor:
        # Each process computes the mean loss of its shard; the mean of the gradients is that of the batch.
        device = self.processes.device
        if not isinstance(self.student, TransformerStudent):
            raise TypeError(
                f"the loss {name} compares layers, and {type(self.student).__name__} is not a transformer"
            )
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            states = self.student.states(batch.ids.to(device), batch.lengths.to(device))
            value: Tensor = loss(states)
        return value

    @torch.no_grad()
    def _encode(self, texts: list[str]) -> Tensor:
        device = self.processes.device
        vectors = torch.empty(len(texts), self.student.loss_dim, device=device)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        self.student.eval()
        for start in range(0, len(order), _TEXTS_PER_CALL):
            rows = order[start : start + _TEXTS_PER_CALL]
            ids, lengths = self.student.tokenize([texts[i] for i in rows])
            encoded = self.student(ids.to(device), lengths.to(device))
            vectors[rows] = encoded[:, : self.student.loss_dim].float()
        self.student.train()
        return vectors

    def _report(self) -> None:
        # Evaluates the student and writes a row of the log.
        self._evaluated = self.step
        if self.evaluate is None:
            if self._window.steps:
                self._write_row()
            return
        score: float | None = None
        more: dict[str, Any] = {}
        if self.processes.is_first:
            self.student.eval()
            # A CSE is evaluated by look-up, and its tables must be exact.
            is_bf16 = self.config.precision == "bf16" and isinstance(self.student, TransformerStudent)
            with torch.autocast(self.processes.device.type, torch.bfloat16, enabled=is_bf16):
                dev = self.evaluate(self.output_map())
            self.student.train()
            dev = dev if isinstance(dev, DevScore) else DevScore(float(dev), {})
            score, self._dev_text = dev.mean, f", dev {dev}"
            if len(dev.parts) > 1:
                more["dev_scores"] = dict(dev.parts)
        score = self.processes.broadcast(score)
        # A student whose vectors are all equal may have no correlation, but NaN.
        if self._best is None or score > self._best["score"] or math.isnan(self._best["score"]):
            self._best = {"step": self.step, "score": score} | self._weights()
        self._write_row(dev=score, **more)

    def _write_row(self, **more: Any) -> None:
        progress = min(1.0, self._progress())
        rate = self.config.learning_rate * self.config.rate(self.step, progress)
        row = {"step": self.step, "minutes": round(self.seconds / 60, 4), "progress": round(progress, 6)}
        row |= self._window.row(self.seconds) | {"rate": rate} | more
        if self.processes.is_first:
            self._log.add(row)
        self._window = LossWindow(since=self.seconds)

    def _fail(self, what: str, used: dict[str, list[Batch]]) -> None:
        # Each process that fails writes a file: a loss may be finite in the first process.
        process = f"-process-{self.processes.rank}" if self.processes.count > 1 else ""
        path = self.folder / f"failed-step-{self.step}{process}.json"
        examples = {name: [batch.examples for batch in group] for name, group in used.items()}
        path.write_text(
            json.dumps({"step": self.step, "what": what, "examples": examples}, indent=1), "utf-8"
        )
        raise FloatingPointError(
            f"{what} at step {self.step}, expected a finite number. The texts of the batch are in {path}. An "
            f"earlier state, if one was saved, is in {self.state_file}"
        )

    def _start_alike(self) -> None:
        # Machines may share no files, and their processors may compute other last digits of initial weights.
        self.processes.check_equal(json.loads(json.dumps(self._identity)), differences)
        if self.processes.count > 1:
            self._load_weights(self.processes.from_first(self._weights))

    def _weights(self) -> dict[str, Any]:
        modules = {"student": self.student, "losses": self.losses}
        return {
            name: {key: value.detach().cpu().clone() for key, value in module.state_dict().items()}
            for name, module in modules.items()
        }

    def _load_weights(self, weights: dict[str, Any]) -> None:
        self.student.load_state_dict(weights["student"])
        self.losses.load_state_dict(weights["losses"])

    def _save(self) -> None:
        random = self.processes.gather_objects(random_state(self.processes.device))
        # All processes wait until the file is written: torchrun kills the others when one has ended.
        self.processes.from_first(lambda: self._write_state(random))

    def _write_state(self, random: list[Any]) -> None:
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "student": self.student.state_dict(),
            "losses": self.losses.state_dict(),
            "regularization": self.regularization.state_dict(),
            "optimizer": self.optimizer.state(),
            "streams": [stream.state() for stream in self.streams],
            "random": random,
            "best": self._best,
            "evaluated": self._evaluated,
            "window": asdict(self._window),
        }
        save_state(self.state_file, state, self._identity)

    def _load_state(self) -> dict[str, Any] | None:
        if not self.state_file.exists():
            return None
        return load_state(self.state_file, self._identity, _FREE_SETTINGS)

    def _resume(self) -> None:
        # The other processes may be on machines that cannot read the file.
        state = self.processes.from_first(self._load_state)
        if state is None:
            if self.processes.is_first:
                self._log.truncate(-1)
            return
        self._load_weights(state)
        self.regularization.load_state_dict(state["regularization"])
        self.optimizer.load_state(state["optimizer"])
        for stream, position in zip(self.streams, state["streams"], strict=True):
            stream.load_state(position)
        set_random_state(state["random"][self.processes.rank], self.processes.device)
        self.step, self.seconds, self._best = state["step"], state["seconds"], state["best"]
        self._evaluated, self._window = state["evaluated"], LossWindow(**state["window"])
        if self.processes.is_first:
            # A state that was saved before its step was reported writes the row of this step itself.
            is_reported = not self._window.steps and (self._evaluated >= self.step or not self._is_due())
            self._log.truncate(self.step if is_reported else self.step - 1)


def _loss_parts(term: LossTerm) -> dict[str, float]:
    return {f"{term.name}.{name}": value for name, value in term.loss.parts.items()}
