"""The student that a run's file describes, with its first weights."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sentenc.encoders.cse.config import CSEConfig
from sentenc.encoders.cse.encoder import CSE
from sentenc.errors import CheckpointError
from sentenc.io.atomic import replacing_file
from sentenc.registry import load, resolve_model
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.config.pretraining import RunConfig, StudentConfig
from sentenc.training.data.vocabulary import prune_vocabulary, token_frequencies
from sentenc.training.initialization.cse import (
    Start,
    average_from_teacher,
    start_from_teacher,
    start_from_words,
)
from sentenc.training.initialization.cse_pruning import shrunk
from sentenc.training.initialization.word_vectors import load_word_vectors
from sentenc.training.students.base import EncoderStudent
from sentenc.training.students.cse import CSEStudent
from sentenc.training.teachers.base import Teacher

_RATES = ("dropout", "word_dropout", "ngram_warmup")
_NORMS = ("sentence_norm", "average_norm", "ngram_norm")
# What of a model that is the start may become more, and what less.
_WIDENING = ("combine", "average_dim")
_SHRINKING = ("embedding_dim", "num_filters", "average_dim")


def make_student(
    run: RunConfig, texts: Callable[[], Iterable[str]], teacher: Callable[[], Teacher], about: str
) -> EncoderStudent:
    """Builds the student; what takes long is kept in the run's work folder and used again.

    Args:
        run: The run.
        texts: Gives texts to count tokens in.
        teacher: Gives the teacher, if the student starts from it.
        about: Identifies teacher and texts.

    Raises:
        ValueError: The settings do not fit together.
        CheckpointError: What it is to start from cannot be read.
        ModelNotFoundError: There is nothing by that name.
    """
    settings = run.student
    if settings.kind == "bert":
        from sentenc.training.initialization.build_bert import make_bert_student

        return make_bert_student(run, texts, teacher, _start_place(run, about))
    if settings.layers:
        raise ValueError(f"student.layers is {list(settings.layers)}, expected it for kind 'bert' only")
    options = {name: getattr(settings, name) for name in _RATES + _NORMS}
    options["sparse_embeddings"] = run.training.sparse_embeddings
    generator = torch.Generator().manual_seed(run.seed)
    if settings.init in ("teacher", "random"):
        config = _cse_config(settings)
        start = _kept_start(run, config, texts, teacher, about)
    elif Path(settings.init).is_file():
        vectors = load_word_vectors(settings.init, settings.vocabulary or None)
        dim = vectors.vectors.shape[1]
        config = _cse_config(settings, {} if settings.preset else {"embedding_dim": dim})
        wanted = None if config.embedding_dim == dim else config.embedding_dim
        words = start_from_words(vectors, wanted, unknown=config.unknown)
        start = (words.tokenizer, words.embeddings, words.log_weights)
    else:
        model = _shrunk(_model(settings), settings, texts)
        config = _widened(model.config, settings)
        rows = None
        if config.average_dim and not model.config.average_dim:
            rows = average_from_teacher(teacher(), model.tokenizer, config.average_dim)
        return CSEStudent.from_encoder(model, config=config, average=rows, **options)
    tokenizer, embeddings, log_weights = start
    average = average_from_teacher(teacher(), tokenizer, config.average_dim) if config.average_dim else None
    return CSEStudent(
        replace(config, vocab_size=tokenizer.vocab_size),
        tokenizer,
        embeddings=embeddings,
        average=average,
        log_weights=log_weights,
        generator=generator,
        **options,
    )


_Parts = tuple[Tokenizer, npt.NDArray[np.float32] | None, npt.NDArray[np.float32] | None]


def _start_place(run: RunConfig, about: str) -> Path:
    # Where a start is kept that depends on settings, teacher and texts.
    teacher = run.teacher and [run.teacher.models, run.teacher.weights]
    identity = json.dumps([asdict(run.student), teacher, about], sort_keys=True)
    return Path(run.work) / f"start-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _kept_start(
    run: RunConfig,
    config: CSEConfig,
    texts: Callable[[], Iterable[str]],
    teacher: Callable[[], Teacher],
    about: str,
) -> _Parts:
    # A teacher takes minutes for the tokens of a vocabulary: they are computed once a run.
    skips = config.unknown == "skip"
    path = _start_place(run, about).with_suffix(".npz")
    if path.exists():
        with np.load(path) as found:
            parts = {name: found[name] for name in found.files}
        return (
            Tokenizer(str(parts["tokenizer"]), skip_unknown=skips),
            parts.get("embeddings"),
            parts.get("log_weights"),
        )
    tokenizer, embeddings, log_weights = _start(run, config, texts, teacher)
    arrays: dict[str, npt.NDArray[Any]] = {"tokenizer": np.array(tokenizer.spec)}
    if embeddings is not None and log_weights is not None:
        arrays |= {"embeddings": embeddings, "log_weights": log_weights}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return tokenizer, embeddings, log_weights


def _start(
    run: RunConfig, config: CSEConfig, texts: Callable[[], Iterable[str]], teacher: Callable[[], Teacher]
) -> _Parts:
    settings = run.student
    tokenizer = _tokenizer(
        settings,
        run.teacher.models[0] if run.teacher and run.teacher.models else None,
        config.unknown == "skip",
    )
    frequencies = None
    if settings.vocabulary or settings.init == "teacher":
        frequencies = token_frequencies(tokenizer, texts())
    if settings.vocabulary and frequencies is not None:
        tokenizer, _ = prune_vocabulary(tokenizer, frequencies, settings.vocabulary)
        # Words of what was dropped are now counted in pieces.
        frequencies = token_frequencies(tokenizer, texts()) if settings.init == "teacher" else None
    if settings.init == "random":
        return tokenizer, None, None
    start: Start = start_from_teacher(teacher(), tokenizer, frequencies, config.embedding_dim)
    return start.tokenizer, start.embeddings, start.log_weights


def _cse_config(settings: StudentConfig, defaults: dict[str, Any] | None = None) -> CSEConfig:
    # With a vocabulary of one; the tokenizer tells the true size.
    known = [item.name for item in fields(CSEConfig) if item.name != "vocab_size"]
    for name in settings.config:
        if name not in known:
            raise ValueError(f"unknown key student.config.{name}; known are {', '.join(known)}")
    values = (defaults or {}) | settings.config
    if "widths" in values:
        values["widths"] = tuple(values["widths"])
    if settings.preset == "paper":
        return CSEConfig.paper(1, **values)
    return CSEConfig(vocab_size=1, **values)


def _tokenizer(settings: StudentConfig, teacher: str | None, skip_unknown: bool) -> Tokenizer:
    name = settings.tokenizer or teacher
    if name is None:
        raise ValueError(
            f"student.init is {settings.init!r} without a teacher's model, expected student.tokenizer then"
        )
    path = Path(name) if Path(name).is_file() else resolve_model(name) / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(f"there is no {path}: student.tokenizer may name another")
    return Tokenizer(path.read_text(encoding="utf-8"), skip_unknown=skip_unknown)


def _model(settings: StudentConfig) -> CSE:
    encoder = load(settings.init)
    free = sorted({*_WIDENING, *_SHRINKING})
    others = sorted(set(settings.config) - set(free))
    if others or settings.preset or settings.tokenizer:
        raise ValueError(
            f"student.init is the model {settings.init!r}, which brings config and tokenizer: expected none of them "
            f"(nor a preset) in [student], {', '.join(free)} of config aside"
        )
    if not isinstance(encoder, CSE):
        raise ValueError(f"student.init is {type(encoder).__name__}, expected a CSE model for kind 'cse'")
    return encoder


def _shrunk(model: CSE, settings: StudentConfig, texts: Callable[[], Iterable[str]]) -> CSE:
    # What is to be less of the model, tokens included, is cut off.
    old = model.config
    less = {
        name: settings.config[name]
        for name in _SHRINKING
        if name in settings.config and 0 < settings.config[name] < getattr(old, name)
    }
    if not less and not settings.vocabulary:
        return model
    vocabulary = None
    if settings.vocabulary:
        frequencies = token_frequencies(model.tokenizer, texts())
        vocabulary = prune_vocabulary(model.tokenizer, frequencies, settings.vocabulary)
    return shrunk(model, vocabulary=vocabulary, **less)


def _widened(old: CSEConfig, settings: StudentConfig) -> CSEConfig:
    # The same sentence vectors, with more beside them.
    config = replace(old, **settings.config)
    if config == old:
        return old
    for name in ("embedding_dim", "num_filters"):
        if getattr(config, name) > getattr(old, name):
            raise ValueError(
                f"student.config.{name} is {getattr(config, name)}, expected at most the {getattr(old, name)} of "
                f"{settings.init}"
            )
    if old.average_dim not in (0, config.average_dim) or (
        old.combine != config.combine and (old.combine, config.combine) != ("residual", "both")
    ):
        raise ValueError(
            f"student.config is {settings.config}, but {settings.init} has combine={old.combine!r} and "
            f"average_dim={old.average_dim}, expected 'residual' to become 'both' and no average to become one"
        )
    return config
