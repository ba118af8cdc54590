"""Builds the BERT classifiers of task distillation: teachers and students."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sentenc.encoders.bert.config import Pooling
from sentenc.encoders.bert.reading import is_plain_bert_folder
from sentenc.errors import CheckpointError, ModelNotFoundError
from sentenc.nn.seeding import seeded
from sentenc.registry import load, resolve_model
from sentenc.training.config.task_distillation import TaskRunConfig
from sentenc.training.data.labeled import TaskData
from sentenc.training.initialization.bert_layers import (
    FITTING_TEXTS,
    SIZES,
    batches_by_length,
    prune_bert,
)
from sentenc.training.students.bert_classifier import BertClassifierStudent, quiet_transformers
from sentenc.training.teachers.ensemble import first_transformer


def load_classifier(model: str, data: TaskData, run: TaskRunConfig) -> BertClassifierStudent:
    """Loads a BERT that was fine-tuned on the task, and puts its classes into the order of the data.

    Args:
        model: A Hugging Face folder with a sequence classifier.
        data: Labeled data with the classes.
        run: The configuration, for the maximum number of tokens.

    Raises:
        ModelNotFoundError: There is no such folder.
        CheckpointError: The folder cannot be read.
        ValueError: The model is not a classifier, or has other classes.
    """
    from transformers import AutoTokenizer, BertForSequenceClassification

    folder = resolve_model(model)
    if not _is_classifier(folder):
        raise ValueError(
            f"teacher.model {model} has no classifier: choose a BERT fine-tuned on the task, or set "
            "teacher.finetune"
        )
    with quiet_transformers(), _readable(folder):
        module = BertForSequenceClassification.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    _order_classes(module, data)
    return _student(module, tokenizer, run)


def add_classifier(
    model: str, data: TaskData, run: TaskRunConfig, changes: Mapping[str, Any] | None = None
) -> BertClassifierStudent:
    """Loads a pretrained BERT and adds a new classifier with random weights.

    Args:
        model: A Hugging Face folder, or the argument of :func:`sentenc.load`.
        data: Labeled data with the classes.
        run: The configuration, for the seed and the maximum number of tokens.
        changes: Values of the BERT's configuration to change, such as dropout rates.

    Raises:
        ModelNotFoundError: There is no such model.
        CheckpointError: The model cannot be read.
        ValueError: The model is not a BERT.
    """
    from transformers import AutoTokenizer, BertModel

    folder = resolve_model(model)
    if _config(folder).get("model_type") == "bert":
        with quiet_transformers(), _readable(folder), seeded(run.seed):
            bert = BertModel.from_pretrained(folder, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    else:
        # Pooling is left out of a classifier. Published TinyBERTs do not state any.
        pooling: Pooling | None = "mean" if is_plain_bert_folder(folder) else None
        bert, tokenizer = first_transformer(load(model, pooling=pooling)).torch_model()
        if not isinstance(bert, BertModel):
            raise ValueError(f"{model} is {type(bert).__name__}, expected a BERT")
    return _student(_with_classifier(bert, data, run.seed, changes or {}), tokenizer, run)


def build_classifier_student(
    run: TaskRunConfig, teacher: BertClassifierStudent, data: TaskData
) -> BertClassifierStudent:
    """Builds the student that ``[student]`` describes, with its initial weights.

    Args:
        run: The configuration.
        teacher: The fine-tuned teacher.
        data: The training data: its classes, and texts to fit weights on.

    Raises:
        ValueError: The layers or sizes do not fit the teacher's, or the model is not a BERT.
        TypeError: The teacher is not a BERT.
        ModelNotFoundError: There is no model to initialize from.
        CheckpointError: The model cannot be read.
    """
    settings = run.student
    if settings.init not in ("teacher", "random"):
        return add_classifier(settings.init, data, run, settings.config)
    if settings.init == "random":
        return _random(run, teacher, data)
    sizes = {name: settings.config[name] for name in SIZES if name in settings.config}
    dropouts = {name: value for name, value in settings.config.items() if name not in SIZES}

    def encode(texts: list[str]) -> dict[str, Tensor]:
        return teacher.inputs(*teacher.tokenize(texts))

    # A pair counts as two texts.
    texts = data.texts[: FITTING_TEXTS // len(run.task.text)]
    bert = prune_bert(
        teacher.bert,
        layers=settings.layers or (),
        batches=batches_by_length(texts, encode) if sizes else [],
        **sizes,
    )
    module = _with_classifier(bert, data, run.seed, dropouts)
    if bert.config.hidden_size == teacher.bert.config.hidden_size:
        module.classifier.load_state_dict(teacher.module.classifier.state_dict())
    return _student(module, teacher.tokenizer, run)


def load_weights(student: BertClassifierStudent, folder: Path) -> None:
    """Loads weights into a student that :meth:`BertClassifierStudent.save` wrote for one of the same shape.

    Raises:
        CheckpointError: The file is missing or damaged, or the weights have another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        student.module.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{folder} does not contain this student's weights: {error}") from error


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
    # If the BERT has no pooler, the new random one is kept.
    weights = {name: value for name, value in bert.state_dict().items() if not name.endswith("_ids")}
    lacking = module.bert.load_state_dict(weights, strict=False)
    missing = [name for name in lacking.missing_keys if not name.startswith("pooler.")]
    if missing or lacking.unexpected_keys:
        raise ValueError(
            f"the BERT lacks the weights {missing} and has the unexpected weights {lacking.unexpected_keys}"
        )
    return module


def _order_classes(model: Any, data: TaskData) -> None:
    # Fine-tuned models order their classes differently (for MNLI several orders are in use).
    config = model.config
    names = [str(config.id2label[i]) for i in range(config.num_labels)]
    if config.num_labels != data.outputs:
        raise ValueError(
            f"the teacher has {config.num_labels} outputs ({', '.join(names[:20])}), "
            f"expected {data.outputs}: {', '.join(data.labels[:20]) or 'a score'}"
        )
    if not data.labels or names == [f"LABEL_{i}" for i in range(len(names))]:
        return
    own, expected = [name.casefold() for name in names], [name.casefold() for name in data.labels]
    if sorted(own) != sorted(expected):
        raise ValueError(
            f"the teacher's classes are {', '.join(names[:20])}, expected those of the data: "
            f"{', '.join(data.labels[:20])}"
        )
    order = torch.tensor([own.index(name) for name in expected])
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.copy_(parameter[order].clone())
    config.id2label = dict(enumerate(data.labels))
    config.label2id = {name: i for i, name in enumerate(data.labels)}


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(f"{folder} has no readable config.json: {error}") from error
    return config if isinstance(config, dict) else {}


def _is_classifier(folder: Path) -> bool:
    return "BertForSequenceClassification" in (_config(folder).get("architectures") or ())


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be read as a BERT: {error}") from error
