"""The BERT student that a run's file describes, with its first weights."""

import json
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.bert.tokenizer_files import plain_spec
from sentenc.errors import CheckpointError
from sentenc.io.atomic import replacing_folder
from sentenc.nn.seeding import seeded
from sentenc.registry import resolve_model
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.config.pretraining import RunConfig, StudentConfig
from sentenc.training.data.vocabulary import prune_vocabulary, token_frequencies
from sentenc.training.initialization.bert_layers import (
    FITTED_TEXTS,
    SIZES,
    fitting_batches,
    student_from_teacher,
)
from sentenc.training.students.bert import BertStudent
from sentenc.training.teachers.base import Teacher
from sentenc.training.teachers.ensemble import first_transformer

# Settings that a BERT does not have.
_FOREIGN = (
    "preset",
    "dropout",
    "word_dropout",
    "ngram_warmup",
    "sentence_norm",
    "average_norm",
    "ngram_norm",
)


def make_bert_student(
    run: RunConfig, texts: Callable[[], Iterable[str]], teacher: Callable[[], Teacher], kept: Path
) -> BertStudent:
    """Builds the student; see :func:`sentenc.training.initialization.build_cse.make_student`.

    Args:
        run: The run.
        texts: Gives texts to count tokens in and to fit on.
        teacher: Gives the teacher, if the student starts from it.
        kept: Folder where such a start is kept.
    """
    settings = run.student
    _check(settings, run.training.sparse_embeddings)
    if settings.init == "teacher":
        model, tokenizer = _kept_start(run.student, texts, teacher, kept)
    else:
        model, tokenizer = _loaded(settings, run.seed)
    return BertStudent(model, tokenizer, max_tokens=settings.max_tokens, normalize=settings.normalize)


def _check(settings: StudentConfig, sparse: bool) -> None:
    for name in _FOREIGN:
        if getattr(settings, name):
            raise ValueError(
                f"student.{name} is {getattr(settings, name)!r}, expected it for kind 'cse' only"
            )
    if sparse:
        raise ValueError("training.sparse_embeddings is true, expected it for kind 'cse' only")
    if settings.init == "teacher":
        if not settings.layers:
            raise ValueError("student.init is 'teacher' for kind 'bert', expected student.layers then")
        if settings.tokenizer:
            raise ValueError(f"student.tokenizer is {settings.tokenizer!r}, expected the teacher's own")
        others = sorted(set(settings.config) - set(SIZES))
        if others:
            raise ValueError(
                f"student.config.{others[0]} comes from the teacher, expected only {', '.join(SIZES)}"
            )
        return
    for name in ("layers", "vocabulary"):
        if value := getattr(settings, name):
            raise ValueError(f"student.{name} is {value!r}, expected it with start = 'teacher' only")
    if settings.init == "random" and settings.tokenizer is None:
        raise ValueError(
            "student.init is 'random' for kind 'bert', expected student.tokenizer, a folder, then"
        )


def _loaded(settings: StudentConfig, seed: int) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(
        resolve_model(settings.tokenizer or settings.init), local_files_only=True
    )
    with seeded(seed):
        if settings.init == "random":
            config = BertConfig(**({"vocab_size": len(tokenizer)} | settings.config))
            return BertModel(config, add_pooling_layer=False), tokenizer
        model = AutoModel.from_pretrained(
            resolve_model(settings.init), local_files_only=True, **settings.config
        )
    # It comes in the precision of its file, which may be too low to train in.
    return model.float(), tokenizer


def _kept_start(
    settings: StudentConfig,
    texts: Callable[[], Iterable[str]],
    teacher: Callable[[], Teacher],
    folder: Path,
) -> tuple[Any, Any]:
    # Counting tokens and fitting takes minutes: it is done once a run.
    from transformers import AutoTokenizer, BertModel

    if not (folder / "config.json").exists():
        model, tokenizer = _from_teacher(settings, texts, teacher())
        with replacing_folder(folder, "config.json", CheckpointError, "a model folder") as staging:
            model.save_pretrained(staging)
            tokenizer.save_pretrained(staging)
    model = BertModel.from_pretrained(folder, local_files_only=True, add_pooling_layer=False)
    return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _from_teacher(
    settings: StudentConfig, texts: Callable[[], Iterable[str]], teacher: Teacher
) -> tuple[Any, Any]:
    model, tokenizer = first_transformer(teacher).torch_model()
    rows, kept = None, tokenizer
    if settings.vocabulary:
        rows, kept = pruned_tokenizer(tokenizer, texts(), settings.vocabulary)
    sizes = {name: settings.config[name] for name in SIZES if name in settings.config}
    batches = fitting_batches(tokenizer, list(islice(texts(), FITTED_TEXTS))) if sizes else []
    student = student_from_teacher(model, layers=list(settings.layers), batches=batches, rows=rows, **sizes)
    student.pooler = None
    return student, kept


def pruned_tokenizer(tokenizer: Any, texts: Iterable[str], size: int) -> tuple[npt.NDArray[np.int64], Any]:
    """A fast tokenizer with the ``size`` most frequent tokens of another.

    Args:
        tokenizer: A WordPiece ``PreTrainedTokenizerFast``.
        texts: To count tokens in.
        size: Tokens to keep, special ones included; see
            :func:`~sentenc.training.data.vocabulary.prune_vocabulary`.

    Returns:
        The old id of each new one, (size,), and the new tokenizer, of the same class and settings.

    Raises:
        ValueError: The size is out of range.
        CheckpointError: The tokenizer is of another kind.
    """
    spec = plain_spec(tokenizer)
    plain = Tokenizer(json.dumps(spec), skip_unknown=True)
    smaller, rows = prune_vocabulary(plain, token_frequencies(plain, texts), size)
    new = {int(old): number for number, old in enumerate(rows)}
    spec["model"]["vocab"] = smaller.vocabulary
    for token in spec.get("added_tokens", []):
        token["id"] = new[token["id"]]
    if spec.get("post_processor"):
        _renumber(spec["post_processor"], new)
    return rows, _rebuilt(tokenizer, spec)


def _renumber(processor: dict[str, Any], new: dict[int, int]) -> None:
    for name in ("sep", "cls"):
        if name in processor:
            token, old = processor[name]
            processor[name] = [token, new[old]]
    for special in (processor.get("special_tokens") or {}).values():
        special["ids"] = [new[old] for old in special["ids"]]
    for part in processor.get("processors", []):
        _renumber(part, new)


def _rebuilt(tokenizer: Any, spec: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer as Reference
    from transformers import PreTrainedTokenizerFast

    names = ("unk_token", "pad_token", "cls_token", "sep_token", "mask_token")
    special = {name: getattr(tokenizer, name) for name in names if getattr(tokenizer, name)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Reference.from_str(json.dumps(spec)),
        model_max_length=tokenizer.model_max_length,
        **special,
    )
