"""Builds a CSE student with its initial weights."""

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sentenc.encoders.cse.config import CSEConfig
from sentenc.encoders.cse.encoder import CSE
from sentenc.encoders.static.encoder import StaticEncoder
from sentenc.errors import CheckpointError
from sentenc.io.atomic import replacing_file
from sentenc.io.word_vectors import load_word_vectors
from sentenc.registry import load, resolve_model
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.config.pretraining import RunConfig, StudentConfig
from sentenc.training.data.vocabulary import prune_vocabulary, token_frequencies
from sentenc.training.initialization.cse import average_from_teacher, init_from_teacher, init_from_words
from sentenc.training.initialization.cse_pruning import prune_cse
from sentenc.training.students.cse import CSEStudent
from sentenc.training.teachers.base import Teacher

_RATES = ("dropout", "word_dropout", "ngram_warmup")
_NORMS = ("sentence_norm", "average_norm", "ngram_norm")
# Fields of an existing model's configuration that may grow, and those that may shrink.
_GROWING = ("combine", "average_dim")
_SHRINKING = ("embedding_dim", "num_filters", "average_dim")


class _Initial(NamedTuple):
    # The parts of an Initialization; embeddings and weights are None if they start at random.

    tokenizer: Tokenizer
    embeddings: npt.NDArray[np.float32] | None
    log_weights: npt.NDArray[np.float32] | None


def build_cse_student(
    run: RunConfig, texts: Callable[[], Iterable[str]], load_teacher: Callable[[], Teacher], cache: Path
) -> CSEStudent:
    """Builds the student; see :func:`sentenc.training.initialization.student.initialize_student`.

    Args:
        run: The configuration of the run.
        texts: Returns an iterator over the texts in which tokens are counted; a new one at each call.
        load_teacher: Returns the teacher. It is called only if the initialization needs the teacher.
        cache: A ``.npz`` file that caches an initialization from a teacher.
    """
    settings = run.student
    if settings.layers:
        raise ValueError(f"student.layers is {list(settings.layers)}, but applies to kind 'bert' only")
    for name, value, default in (
        ("query_prompt", settings.query_prompt, ""),
        ("pooling", settings.pooling, StudentConfig.pooling),
        ("max_tokens", settings.max_tokens, StudentConfig.max_tokens),
        ("normalize", settings.normalize, False),
    ):
        if value != default:
            raise ValueError(f"student.{name} is {value!r}, but applies to kind 'bert' only")
    if settings.init in ("teacher", "random"):
        config = _config(settings)
        initial = _cached_initialization(run, config, texts, load_teacher, cache)
    elif Path(settings.init).is_file():
        config, initial = _from_word_vectors(settings)
    else:
        return _from_model(run, texts, load_teacher)
    average = None
    if config.average_dim:
        average = average_from_teacher(load_teacher(), initial.tokenizer, config.average_dim)
    return CSEStudent(
        replace(config, vocab_size=initial.tokenizer.vocab_size),
        initial.tokenizer,
        embeddings=initial.embeddings,
        average=average,
        log_weights=initial.log_weights,
        generator=torch.Generator().manual_seed(run.seed),
        **_options(run),
    )


def _options(run: RunConfig) -> dict[str, Any]:
    options = {name: getattr(run.student, name) for name in _RATES + _NORMS}
    return options | {"sparse_embeddings": run.training.sparse_embeddings}


def _config(settings: StudentConfig, defaults: dict[str, Any] | None = None) -> CSEConfig:
    # With a vocabulary of one, until the tokenizer is known.
    known = [item.name for item in fields(CSEConfig) if item.name != "vocab_size"]
    for name in settings.config:
        if name not in known:
            raise ValueError(f"unknown key student.config.{name}; known keys are {', '.join(known)}")
    values = (defaults or {}) | settings.config
    if "widths" in values:
        values["widths"] = tuple(values["widths"])
    if settings.preset == "paper":
        return CSEConfig.paper(1, **values)
    return CSEConfig(vocab_size=1, **values)


# From a teacher, or at random ------------------------------------------------------------------------


def _cached_initialization(
    run: RunConfig,
    config: CSEConfig,
    texts: Callable[[], Iterable[str]],
    load_teacher: Callable[[], Teacher],
    cache: Path,
) -> _Initial:
    # A teacher needs minutes for the tokens of a vocabulary, so a resumed run must not encode them again.
    if cache.exists():
        with np.load(cache) as file:
            arrays = {name: file[name] for name in file.files}
        tokenizer = Tokenizer(str(arrays["tokenizer"]), skip_unknown=config.unknown == "skip")
        return _Initial(tokenizer, arrays.get("embeddings"), arrays.get("log_weights"))
    initial = _initialization(run, config, texts, load_teacher)
    arrays = {"tokenizer": np.array(initial.tokenizer.spec)}
    if initial.embeddings is not None and initial.log_weights is not None:
        arrays |= {"embeddings": initial.embeddings, "log_weights": initial.log_weights}
    cache.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(cache) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
    return initial


def _initialization(
    run: RunConfig,
    config: CSEConfig,
    texts: Callable[[], Iterable[str]],
    load_teacher: Callable[[], Teacher],
) -> _Initial:
    settings = run.student
    teacher_name = run.teacher.names[0] if run.teacher and run.teacher.models else None
    tokenizer = _tokenizer(settings, teacher_name, config.unknown == "skip")
    frequencies = None
    if settings.vocabulary or settings.init == "teacher":
        frequencies = token_frequencies(tokenizer, texts())
    if settings.vocabulary and frequencies is not None:
        tokenizer, _ = prune_vocabulary(tokenizer, frequencies, settings.vocabulary)
        # The smaller tokenizer splits the words that it lacks into pieces, which are counted too.
        frequencies = token_frequencies(tokenizer, texts()) if settings.init == "teacher" else None
    if settings.init == "random":
        return _Initial(tokenizer, None, None)
    return _Initial(*init_from_teacher(load_teacher(), tokenizer, frequencies, config.embedding_dim))


def _tokenizer(settings: StudentConfig, teacher: str | None, skip_unknown: bool) -> Tokenizer:
    name = settings.tokenizer or teacher
    if name is None:
        raise ValueError(
            f"student.init is {settings.init!r} and there is no teacher: "
            "set student.tokenizer or teacher.models"
        )
    path = Path(name) if Path(name).is_file() else resolve_model(name) / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}: set student.tokenizer to another model or file")
    return Tokenizer(path.read_text(encoding="utf-8"), skip_unknown=skip_unknown)


# From word vectors -----------------------------------------------------------------------------------


def _from_word_vectors(settings: StudentConfig) -> tuple[CSEConfig, _Initial]:
    if settings.tokenizer:
        raise ValueError(
            f"student.tokenizer is {settings.tokenizer!r}, but student.init is {settings.init!r}, a file of word "
            "vectors, whose words are the tokens: remove it"
        )
    vectors = load_word_vectors(settings.init, settings.vocabulary or None)
    dim = vectors.vectors.shape[1]
    config = _config(settings, {} if settings.preset else {"embedding_dim": dim})
    reduced = None if config.embedding_dim == dim else config.embedding_dim
    return config, _Initial(*init_from_words(vectors, reduced, unknown=config.unknown))


# From another CSE ------------------------------------------------------------------------------------


def _from_model(
    run: RunConfig, texts: Callable[[], Iterable[str]], load_teacher: Callable[[], Teacher]
) -> CSEStudent:
    settings = run.student
    model = _pruned(_load_model(settings), settings, texts)
    config = _grown(model.config, settings)
    average = None
    if config.average_dim and not model.config.average_dim:
        average = average_from_teacher(load_teacher(), model.tokenizer, config.average_dim)
    return CSEStudent.from_encoder(model, config=config, average=average, **_options(run))


def _load_model(settings: StudentConfig) -> CSE:
    encoder = load(settings.init)
    changeable = sorted({*_GROWING, *_SHRINKING})
    others = sorted(set(settings.config) - set(changeable))
    if others or settings.preset or settings.tokenizer:
        raise ValueError(
            f"student.init is the model {settings.init!r}, which has its own configuration and tokenizer: "
            f"remove preset, tokenizer and every key of config but {', '.join(changeable)} from [student]"
        )
    if isinstance(encoder, StaticEncoder):
        raise ValueError(
            f"student.init is {settings.init!r}, a static model, expected a CSE: convert it first, by "
            f"sentenc convert {settings.init} -o FOLDER"
        )
    if not isinstance(encoder, CSE):
        raise ValueError(f"student.init is {type(encoder).__name__}, expected a CSE model for kind 'cse'")
    return encoder


def _pruned(model: CSE, settings: StudentConfig, texts: Callable[[], Iterable[str]]) -> CSE:
    smaller = {
        name: settings.config[name]
        for name in _SHRINKING
        if name in settings.config and 0 < settings.config[name] < getattr(model.config, name)
    }
    if not smaller and not settings.vocabulary:
        return model
    vocabulary = None
    if settings.vocabulary:
        frequencies = token_frequencies(model.tokenizer, texts())
        vocabulary = prune_vocabulary(model.tokenizer, frequencies, settings.vocabulary)
    return prune_cse(model, vocabulary=vocabulary, **smaller)


def _grown(old: CSEConfig, settings: StudentConfig) -> CSEConfig:
    # The sentence vectors stay the same; n-gram features or a plain average are added behind them.
    config = replace(old, **settings.config)
    if config == old:
        return old
    for name in ("embedding_dim", "num_filters"):
        if getattr(config, name) > getattr(old, name):
            raise ValueError(
                f"student.config.{name} is {getattr(config, name)}, "
                f"expected at most the {getattr(old, name)} of {settings.init}"
            )
    if old.average_dim not in (0, config.average_dim) or (
        old.combine != config.combine and (old.combine, config.combine) != ("residual", "both")
    ):
        raise ValueError(
            f"student.config is {settings.config}, but {settings.init} has combine={old.combine!r} and "
            f"average_dim={old.average_dim}: only 'residual' can become 'both', "
            "and only average_dim 0 can grow"
        )
    return config
