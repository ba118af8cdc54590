"""The BERTs of a task: a teacher from its folder, a student from the teacher, a folder or at random."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sentenc.errors import CheckpointError, ModelNotFoundError
from sentenc.nn.seeding import seeded
from sentenc.registry import load, resolve_model
from sentenc.training.config.task_distillation import TaskRunConfig
from sentenc.training.data.labeled import TaskData
from sentenc.training.initialization.bert_layers import (
    FITTED_TEXTS,
    SIZES,
    batches_by_length,
    student_from_teacher,
)
from sentenc.training.students.bert_classifier import BertClassifierStudent, quiet_transformers


def finetuned(model: str, data: TaskData, run: TaskRunConfig) -> BertClassifierStudent:
    """A BERT that was fine-tuned on the task, its classes in the order of the data's.

    Raises:
        ModelNotFoundError, CheckpointError: There is no such folder, or it cannot be read.
        ValueError: It has no classifier, or other classes.
    """
    from transformers import AutoTokenizer, BertForSequenceClassification

    folder = resolve_model(model)
    if not _is_classifier(folder):
        raise ValueError(
            f"teacher.model {model} has no classifier, expected a BERT fine-tuned on the task, or teacher.finetune"
        )
    with quiet_transformers(), _readable(folder):
        found = BertForSequenceClassification.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    _order_classes(found, data)
    return _student(found, tokenizer, run)


def base(
    model: str, data: TaskData, run: TaskRunConfig, changes: Mapping[str, Any] | None = None
) -> BertClassifierStudent:
    """Any BERT with a new classifier on it: a Hugging Face folder, or what :func:`sentenc.load` takes.

    Args:
        model: Folder or name.
        data: Has the classes.
        run: Seed of the classifier, and how texts are cut.
        changes: Of the configuration.

    Raises:
        ModelNotFoundError, CheckpointError: There is no such model, or it cannot be read.
        ValueError: It is no BERT.
    """
    from transformers import AutoTokenizer, BertModel

    folder = resolve_model(model)
    if _config(folder).get("model_type") == "bert":
        with quiet_transformers(), _readable(folder), seeded(run.seed):
            bert = BertModel.from_pretrained(folder, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    else:
        from sentenc.training.teachers.ensemble import first_transformer

        bert, tokenizer = first_transformer(load(model)).torch_model()
        if not isinstance(bert, BertModel):
            raise ValueError(f"{model} is {type(bert).__name__}, expected a BERT")
    return _student(_with_classifier(bert, data, run.seed, changes or {}), tokenizer, run)


def first_student(
    run: TaskRunConfig, teacher: BertClassifierStudent, data: TaskData
) -> BertClassifierStudent:
    """The student as ``[student]`` describes it, before any training.

    Raises:
        ValueError, TypeError: Layers or sizes do not fit the teacher.
        ModelNotFoundError, CheckpointError: See :func:`base`.
    """
    settings = run.student
    if settings.init not in ("teacher", "random"):
        return base(settings.init, data, run, settings.config)
    if settings.init == "random":
        return _random(run, teacher, data)
    sizes = {name: settings.config[name] for name in SIZES if name in settings.config}
    dropouts = {name: value for name, value in settings.config.items() if name not in SIZES}

    def inputs(texts: list[str]) -> dict[str, Tensor]:
        return teacher.inputs(*teacher.tokenize(texts))

    # A pair is two texts.
    fitted = data.texts[: FITTED_TEXTS // len(run.task.text)]
    bert = student_from_teacher(
        teacher.bert,
        layers=settings.layers or (),
        batches=batches_by_length(fitted, inputs) if sizes else [],
        **sizes,
    )
    module = _with_classifier(bert, data, run.seed, dropouts)
    if bert.config.hidden_size == teacher.bert.config.hidden_size:
        module.classifier.load_state_dict(teacher.module.classifier.state_dict())
    return _student(module, teacher.tokenizer, run)


def load_weights(student: BertClassifierStudent, folder: Path) -> None:
    """Gives a student the weights that :meth:`BertClassifierStudent.save` wrote for one of its shape.

    Raises:
        CheckpointError: The file is missing, damaged or of another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        student.module.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{folder} does not hold this student's weights: {error}") from error


def _student(module: nn.Module, tokenizer: Any, run: TaskRunConfig) -> BertClassifierStudent:
    return BertClassifierStudent(
        module.float(), tokenizer, pairs=len(run.task.text) == 2, max_tokens=run.task.max_tokens
    )


def _random(run: TaskRunConfig, teacher: BertClassifierStudent, data: TaskData) -> BertClassifierStudent:
    from transformers import BertConfig, BertModel

    values = teacher.bert.config.to_dict() | run.student.config
    with seeded(run.seed):
        bert = BertModel(BertConfig.from_dict(values))
    return _student(_with_classifier(bert, data, run.seed, {}), teacher.tokenizer, run)


def _with_classifier(bert: Any, data: TaskData, seed: int, changes: Mapping[str, Any]) -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    names = dict(enumerate(data.labels or ("score",)))
    values = bert.config.to_dict() | dict(changes)
    values |= {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    values |= {
        "num_labels": data.outputs,
        "problem_type": "single_label_classification" if data.labels else "regression",
    }
    with seeded(seed):
        module = BertForSequenceClassification(BertConfig.from_dict(values))
    # Without a pooler of its own it keeps the new one.
    weights = {name: value for name, value in bert.state_dict().items() if not name.endswith("_ids")}
    lacking = module.bert.load_state_dict(weights, strict=False)
    missing = [name for name in lacking.missing_keys if not name.startswith("pooler.")]
    if missing or lacking.unexpected_keys:
        raise ValueError(
            f"the BERT lacks {missing} and has {lacking.unexpected_keys} too many, expected a BERT"
        )
    return module


def _order_classes(model: Any, data: TaskData) -> None:
    # Fine-tuned models have their classes in an order of their own (of MNLI several are in use).
    config = model.config
    names = [str(config.id2label[i]) for i in range(config.num_labels)]
    if config.num_labels != data.outputs:
        raise ValueError(
            f"the teacher has {config.num_labels} outputs ({', '.join(names[:20])}), expected {data.outputs}: "
            f"{', '.join(data.labels[:20]) or 'a score'}"
        )
    if not data.labels or names == [f"LABEL_{i}" for i in range(len(names))]:
        return
    folded, wanted = [name.casefold() for name in names], [name.casefold() for name in data.labels]
    if sorted(folded) != sorted(wanted):
        raise ValueError(
            f"the teacher's classes are {', '.join(names[:20])}, expected those of the data: "
            f"{', '.join(data.labels[:20])}"
        )
    order = torch.tensor([folded.index(name) for name in wanted])
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.copy_(parameter[order].clone())
    config.id2label = dict(enumerate(data.labels))
    config.label2id = {name: i for i, name in enumerate(data.labels)}


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(f"{folder} has no readable config.json: {error}") from error
    return found if isinstance(found, dict) else {}


def _is_classifier(folder: Path) -> bool:
    return "BertForSequenceClassification" in (_config(folder).get("architectures") or ())


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be read as a BERT: {error}") from error
