"""The training loop: batches of every task, one step of the weights, and a state to go on from."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sentenc.encoders.base import Encoder
from sentenc.training.config.trainer import TrainerConfig
from sentenc.training.engine.checkpointing import load_state, random_state, save_state, set_random_state
from sentenc.training.engine.distributed import Processes, alone
from sentenc.training.engine.loss_terms import Batch, Stream, Task, check_tasks
from sentenc.training.engine.optimizer import Optimizers, clip_gradients
from sentenc.training.engine.run_log import LossWindow, TrainingBar, TrainingLog, training_bar
from sentenc.training.engine.signals import Interruption, interruption
from sentenc.training.losses.l2_sp import L2SP
from sentenc.training.students.base import Student

__all__ = ["Result", "Task", "Trainer", "TrainerConfig"]

_STATE = "state.pt"
_LOG = "log.jsonl"
# Texts that are encoded at a time where an objective asks for vectors.
_BLOCK = 512
# May change between two sessions of a run.
_FREE = tuple(f"training.{name}" for name in ("steps", "max_minutes", "save_minutes", "device", "keep"))


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        steps: Updates made.
        minutes: Time spent, in all sessions.
        best_step: Step of the best evaluation, None without any.
        best_score: Its score.
        finished: Whether the training is over, not merely stopped.
    """

    steps: int
    minutes: float
    best_step: int | None
    best_score: float | None
    finished: bool


class Trainer:
    """Trains a student on tasks; stopped in whatever way, the same call goes on where its state is.

    Args:
        student: What is trained, in place.
        tasks: What on; each step draws a batch of every one.
        config: How.
        folder: Where state, log and the texts of a batch that failed are kept.
        evaluate: From the student as an encoder to a score, the higher the better.
        rotate_on: See :meth:`Student.encoder <sentenc.training.students.cse.Student.encoder>`: what is evaluated is
            the model as it will be finished.
        processes: Those that train together; by default this one alone.
        settings: JSON values that identify the run (data, model) beside ``config``: a state of other
            settings is refused.
        show_progress_bar: Draw a bar on standard error.

    Raises:
        ValueError: Tasks, student and configuration do not fit together.
    """

    def __init__(
        self,
        student: Student,
        tasks: Sequence[Task],
        config: TrainerConfig,
        folder: Path,
        evaluate: Callable[[Encoder], float] | None = None,
        *,
        rotate_on: list[str] | None = None,
        processes: Processes | None = None,
        settings: dict[str, Any] | None = None,
        show_progress_bar: bool = True,
    ) -> None:
        check_tasks(tasks)
        self.rotate_on = rotate_on
        self.processes = alone(config.device) if processes is None else processes
        self.student = student.to(self.processes.device)
        self.tasks, self.config, self.folder, self.evaluate = tuple(tasks), config, folder, evaluate
        self.objectives = nn.ModuleList([task.objective for task in tasks]).to(self.processes.device)
        groups = dict(student.groups())
        self.regularization = L2SP(groups, config.regularization)
        sparse = student.sparse_parameters()
        _check_sparse(config, groups, sparse)
        if own := list(self.objectives.parameters()):
            groups["losses"] = own
        self.parameters = [parameter for group in groups.values() for parameter in group]
        self.optimizers = Optimizers(groups, sparse, config)
        # The first use of a transformer's tokenizer may change it, which two threads must not do at once.
        student.tokenize(["a"])
        self.streams = [
            Stream(task, student.tokenize, self.processes.shard, [config.seed, number])
            for number, task in enumerate(tasks)
        ]
        self.step, self.seconds = 0, 0.0
        self._best: dict[str, Any] | None = None
        self._evaluated = -1
        self._window = LossWindow()
        self._settings = {"training": asdict(config), "processes": self.processes.count} | (settings or {})
        self._log = TrainingLog(folder / _LOG)
        self._shows_bar = show_progress_bar and self.processes.is_first

    @property
    def state_file(self) -> Path:
        """Where the state is kept."""
        return self.folder / _STATE

    def output_map(self) -> Tensor | None:
        """The linear map that an objective has learned after the student, if one has."""
        maps = [found for task in self.tasks if (found := task.objective.output_map()) is not None]
        return maps[0] if maps else None

    def run(self, stop_at: int | None = None) -> Result:
        """Trains to the last step or to the end of the time, from wherever the folder's state is.

        Args:
            stop_at: Save and return when so many steps have been made, the schedule being that of all.

        Returns:
            How it ended; the student then has the best or the last weights, as configured.

        Raises:
            KeyboardInterrupt: SIGINT or SIGTERM came; the state is saved.
            FloatingPointError: A loss or gradient is not finite. The state of the last save stays.
            CheckpointError: The state is damaged.
            ValueError: The state is of other settings.
        """
        try:
            with _own_randomness(self.config.seed + self.processes.rank, self.processes.device):
                self._resume()
                with interruption() as wish, training_bar(self._shows_bar) as bar:
                    finished = self._train(wish, bar, stop_at)
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

    def _train(self, wish: Interruption, bar: TrainingBar, stop_at: int | None) -> bool:
        started = time.monotonic() - self.seconds
        saved = self.seconds
        self.student.train()
        while True:
            own = time.monotonic() - started
            # All processes must take every decision alike.
            self.seconds, stops = self.processes.all_reduce_max(own, float(wish.is_wanted))
            progress = self._progress()
            if self._evaluated < self.step and (self._is_due() or progress >= 1):
                self._report()
            elif self._window.steps and self.step % self.config.log_every == 0:
                self._write_row()
            if progress >= 1:
                self._save()
                return True
            if stops or self.step == stop_at:
                self._save()
                if stops:
                    raise KeyboardInterrupt(
                        f"stopped at step {self.step} of {self.config.steps}; the state is in {self.folder}, and "
                        "the same run goes on from it"
                    )
                return False
            if self.seconds - saved > 60 * self.config.save_minutes:
                self._save()
                saved = self.seconds
            self._update(progress)
            self.step += 1
            bar.show(self._progress(), self._window.last)

    def _progress(self) -> float:
        limit = self.config.max_minutes
        return max(self.step / self.config.steps, 0.0 if limit is None else self.seconds / (60 * limit))

    def _is_due(self) -> bool:
        return self.step % self.config.evaluate_every == 0

    def _update(self, progress: float) -> None:
        self.student.set_progress(progress)
        used: dict[str, list[Batch]] = {task.name: [] for task in self.tasks}
        losses = dict.fromkeys(used, 0.0)
        for _ in range(self.config.accumulate):
            for task, stream in zip(self.tasks, self.streams, strict=True):
                batch = stream.next(self._encode)
                used[task.name].append(batch)
                loss = self._loss(task, batch)
                value = float(loss.detach())
                if not math.isfinite(value):
                    self._fail(f"the loss of {task.name} is {value}", {task.name: [batch]})
                for name, part in ({task.name: value} | _parts(task)).items():
                    losses[name] = losses.get(name, 0.0) + part / self.config.accumulate
                (loss * (task.weight / self.config.accumulate)).backward()  # type: ignore[no-untyped-call]
        if self.regularization:
            self.regularization.penalty().backward()  # type: ignore[no-untyped-call]
        self.processes.average_gradients(self.parameters)
        norm = clip_gradients(self.parameters, self.config.clip)
        if not math.isfinite(norm):
            self._fail(f"the norm of the gradient is {norm}", used)
        self.optimizers.step(self.config.rate(self.step, progress))
        total = sum(task.weight * losses[task.name] for task in self.tasks)
        examples = sum(len(batch.examples) for group in used.values() for batch in group)
        self._window.add(total, losses, norm, examples, used[self.tasks[0].name][-1].epoch)

    def _loss(self, task: Task, batch: Batch) -> Tensor:
        device = self.processes.device
        if task.objective.needs_states:
            return self._loss_of_states(task, batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            vectors = self.student(batch.ids.to(device), batch.lengths.to(device))
        columns = vectors[:, : self.student.loss_dim].chunk(len(batch.examples[0]))
        teacher = None if batch.teacher is None else torch.from_numpy(batch.teacher).to(device)
        loss: Tensor = task.objective([self.processes.gather(column) for column in columns], teacher)
        return loss

    def _loss_of_states(self, task: Task, batch: Batch) -> Tensor:
        # Each process has its share's mean; the mean of their gradients is that of the batch.
        device = self.processes.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            states = self.student.states(batch.ids.to(device), batch.lengths.to(device))
            return task.objective.state_loss(states)

    @torch.no_grad()
    def _encode(self, texts: list[str]) -> Tensor:
        device = self.processes.device
        found = torch.empty(len(texts), self.student.loss_dim, device=device)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        self.student.eval()
        for start in range(0, len(order), _BLOCK):
            rows = order[start : start + _BLOCK]
            ids, lengths = self.student.tokenize([texts[i] for i in rows])
            vectors = self.student(ids.to(device), lengths.to(device))
            found[rows] = vectors[:, : self.student.loss_dim].float()
        self.student.train()
        return found

    def _report(self) -> None:
        # An evaluation, and the row of the log that it is in.
        self._evaluated = self.step
        if self.evaluate is None:
            if self._window.steps:
                self._write_row()
            return
        score: float | None = None
        if self.processes.is_first:
            self.student.eval()
            score = float(self.evaluate(self.student.encoder(self.output_map(), self.rotate_on)))
            self.student.train()
        score = self.processes.broadcast(score)
        if self._best is None or score > self._best["score"]:
            self._best = {"step": self.step, "score": score} | self._weights()
        self._write_row(dev=score)

    def _write_row(self, **more: Any) -> None:
        progress = min(1.0, self._progress())
        rate = self.config.learning_rate * self.config.rate(self.step, progress)
        row = {"step": self.step, "minutes": round(self.seconds / 60, 4), "progress": round(progress, 6)}
        row |= self._window.row(self.seconds) | {"rate": rate} | more
        if self.processes.is_first:
            self._log.add(row)
        self._window = LossWindow(since=self.seconds)

    def _fail(self, what: str, used: dict[str, list[Batch]]) -> None:
        path = self.folder / f"failed-step-{self.step}.json"
        examples = {name: [batch.examples for batch in group] for name, group in used.items()}
        if self.processes.is_first:
            path.write_text(
                json.dumps({"step": self.step, "what": what, "examples": examples}, indent=1), "utf-8"
            )
        raise FloatingPointError(
            f"{what} at step {self.step}, expected a finite number; the texts are in {path}, and the state "
            f"before is in {self.state_file} if there was time to save one"
        )

    def _weights(self) -> dict[str, Any]:
        modules = {"student": self.student, "losses": self.objectives}
        return {
            name: {key: value.detach().cpu().clone() for key, value in module.state_dict().items()}
            for name, module in modules.items()
        }

    def _load_weights(self, weights: dict[str, Any]) -> None:
        self.student.load_state_dict(weights["student"])
        self.objectives.load_state_dict(weights["losses"])

    def _save(self) -> None:
        random = self.processes.gather_objects(random_state(self.processes.device))
        if not self.processes.is_first:
            return
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "student": self.student.state_dict(),
            "losses": self.objectives.state_dict(),
            "regularization": self.regularization.state_dict(),
            "optimizers": self.optimizers.state(),
            "streams": [stream.state() for stream in self.streams],
            "random": random,
            "best": self._best,
            "evaluated": self._evaluated,
            "window": asdict(self._window),
        }
        save_state(self.state_file, state, self._settings)

    def _resume(self) -> None:
        if not self.state_file.exists():
            if self.processes.is_first:
                self._log.cut(-1)
            return
        state = load_state(self.state_file, self._settings, _FREE)
        self._load_weights(state)
        self.regularization.load_state_dict(state["regularization"])
        self.optimizers.load_state(state["optimizers"])
        for stream, position in zip(self.streams, state["streams"], strict=True):
            stream.load_state(position)
        set_random_state(state["random"][self.processes.rank], self.processes.device)
        self.step, self.seconds, self._best = state["step"], state["seconds"], state["best"]
        self._evaluated, self._window = state["evaluated"], LossWindow(**state["window"])
        if self.processes.is_first:
            self._log.cut(self.step)


def _parts(task: Task) -> dict[str, float]:
    return {f"{task.name}.{name}": value for name, value in task.objective.parts.items()}


@contextmanager
def _own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    # Dropout draws from torch's own generator: its state is the run's for as long as it runs, then the caller's.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _check_sparse(
    config: TrainerConfig, groups: dict[str, list[nn.Parameter]], sparse: list[nn.Parameter]
) -> None:
    if config.sparse_embeddings != bool(sparse):
        raise ValueError(
            f"sparse_embeddings is {config.sparse_embeddings}, but the student has {len(sparse)} parameters with "
            "sparse gradients: make both agree"
        )
    is_sparse = {id(parameter) for parameter in sparse}
    for group, strength in config.regularization.items():
        if strength and any(id(parameter) in is_sparse for parameter in groups.get(group, ())):
            raise ValueError(
                f"regularization.{group} is {strength} with sparse_embeddings, expected one without the other: "
                "the penalty has a gradient for every row"
            )
