"""Builds a BERT student with its initial weights."""

import json
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.checkpoint import is_checkpoint
from sentenc.encoders.bert.config import Pooling
from sentenc.encoders.bert.encoder import BertEncoder
from sentenc.encoders.bert.reading import stated_pooling
from sentenc.encoders.bert.tokenizer_files import plain_spec
from sentenc.errors import CheckpointError
from sentenc.io.atomic import replacing_folder
from sentenc.nn.seeding import seeded
from sentenc.registry import load, resolve_model
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.config.pretraining import RunConfig, StudentConfig
from sentenc.training.data.vocabulary import prune_vocabulary, token_frequencies
from sentenc.training.initialization.bert_layers import (
    FITTING_TEXTS,
    SIZES,
    fitting_batches,
    prune_bert,
)
from sentenc.training.students.bert import BertStudent
from sentenc.training.students.bert_classifier import quiet_transformers
from sentenc.training.teachers.base import Teacher
from sentenc.training.teachers.ensemble import first_transformer

# Settings of a CSE that a BERT does not have.
_CSE_ONLY = (
    "preset",
    "dropout",
    "word_dropout",
    "ngram_warmup",
    "sentence_norm",
    "average_norm",
    "ngram_norm",
)


# Fields of BertConfig that change no weight.
_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")


def build_bert_student(
    run: RunConfig, texts: Callable[[], Iterable[str]], load_teacher: Callable[[], Teacher], cache: Path
) -> BertStudent:
    """Builds the student; see :func:`sentenc.training.initialization.student.initialize_student`.

    Args:
        run: The configuration of the run.
        texts: Returns an iterator over the texts to count tokens in and to fit weights on; a new one at each call.
        load_teacher: Returns the teacher. It is called only if the student is initialized from it.
        cache: A folder that caches an initialization from a teacher.
    """
    settings = run.student
    _check(settings, run.training.sparse_embeddings)
    if settings.init == "teacher":
        model, tokenizer = _cached_initialization(settings, texts, load_teacher, cache)
    else:
        model, tokenizer = _random(settings, run.seed) if settings.init == "random" else _loaded(settings)
    return BertStudent(
        model,
        tokenizer,
        max_tokens=settings.max_tokens,
        normalize=settings.normalize,
        query_prompt=settings.query_prompt,
        pooling=settings.pooling,
    )


def _check(settings: StudentConfig, sparse: bool) -> None:
    for name in _CSE_ONLY:
        if getattr(settings, name):
            raise ValueError(f"student.{name} is {getattr(settings, name)!r}, but applies to kind 'cse' only")
    if sparse:
        raise ValueError("training.sparse_embeddings is true, but applies to kind 'cse' only")
    if settings.init == "teacher":
        if not settings.layers:
            raise ValueError('student.layers is required when kind = "bert" and init = "teacher"')
        if settings.tokenizer:
            raise ValueError(
                f'student.tokenizer is {settings.tokenizer!r}, but init = "teacher" uses the teacher\'s: '
                "remove it"
            )
        others = sorted(set(settings.config) - {*SIZES, *_DROPOUTS})
        if others:
            raise ValueError(
                f'student.config.{others[0]} is the teacher\'s with init = "teacher": set only '
                f"{', '.join([*SIZES, *_DROPOUTS])}"
            )
        return
    for name in ("layers", "vocabulary"):
        if value := getattr(settings, name):
            raise ValueError(f'student.{name} is {value!r}, but applies to init = "teacher" only')
    if settings.init == "random":
        if settings.tokenizer is None:
            raise ValueError(
                'student.tokenizer (a folder) is required when kind = "bert" and init = "random"'
            )
        return
    others = sorted(set(settings.config) - set(_DROPOUTS))
    if others:
        raise ValueError(
            f"student.config.{others[0]} is set, but student.init is the model {settings.init!r}, which has its "
            f"own: set only {', '.join(_DROPOUTS)}"
        )


def _random(settings: StudentConfig, seed: int) -> tuple[Any, Any]:
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(resolve_model(settings.tokenizer or ""), local_files_only=True)
    known = BertConfig().to_dict()
    for name in settings.config:
        # BertConfig accepts any name.
        if name not in known:
            raise ValueError(
                f"unknown key student.config.{name}, expected a field of transformers' BertConfig"
            )
    with seeded(seed):
        config = BertConfig(**({"vocab_size": len(tokenizer)} | settings.config))
        return BertModel(config, add_pooling_layer=False), tokenizer


def _loaded(settings: StudentConfig) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    folder = resolve_model(settings.init)
    if is_checkpoint(folder):
        return _from_checkpoint(settings)
    _check_pooling(settings, *stated_pooling(folder))
    tokenizer = AutoTokenizer.from_pretrained(
        resolve_model(settings.tokenizer or settings.init), local_files_only=True
    )
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    for name, value in settings.config.items():
        if not hasattr(config, name):
            raise ValueError(f"student.config.{name} is set, but {settings.init} is no BERT and lacks it")
        setattr(config, name, value)
    # The message about new weights is about the pooler, which is dropped. Others are checked here.
    with quiet_transformers():
        model, report = AutoModel.from_pretrained(
            folder, config=config, local_files_only=True, output_loading_info=True
        )
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise CheckpointError(f"{folder} lacks {len(missing)} weights, the first of them {missing[0]}")
    # The sentence vectors are pooled from hidden states. The weights of a pooler would never be trained.
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    # The weights are in the precision of their file, which may be too low for training.
    return model.float(), tokenizer


def _from_checkpoint(settings: StudentConfig) -> tuple[Any, Any]:
    # A model in sentenc's own format, dequantized.
    encoder = load(settings.init)
    if not isinstance(encoder, BertEncoder):
        raise ValueError(f"student.init is {type(encoder).__name__}, expected a BERT for kind 'bert'")
    if settings.tokenizer:
        raise ValueError(
            f"student.tokenizer is set, but student.init is the model {settings.init!r}, which has its own"
        )
    _check_pooling(settings, encoder.config.pooling, encoder.config.linear)
    model, tokenizer = encoder.torch_model()
    return _with_dropout(model, settings.config), tokenizer


def _check_pooling(settings: StudentConfig, stated: Pooling | None, has_map: bool) -> None:
    # The weights were trained for one pooling. A folder that states none may have any.
    if has_map:
        raise ValueError(
            f"student.init is {settings.init!r}, which has a linear map after pooling (Dense), expected a BERT "
            "with pooling alone"
        )
    if stated not in (None, settings.pooling):
        raise ValueError(
            f"student.pooling is {settings.pooling!r}, but student.init is {settings.init!r}, which has {stated!r} "
            f'pooling: set student.pooling = "{stated}"'
        )


def _with_dropout(model: Any, changes: dict[str, Any]) -> Any:
    # A BertModel or MPNetModel without pooler, with the same weights and another dropout.
    config = type(model.config).from_dict(model.config.to_dict() | changes)
    changed = type(model)(config, add_pooling_layer=False)
    changed.load_state_dict(model.state_dict())
    return changed


def _cached_initialization(
    settings: StudentConfig,
    texts: Callable[[], Iterable[str]],
    load_teacher: Callable[[], Teacher],
    cache: Path,
) -> tuple[Any, Any]:
    # Counting tokens and fitting weights takes minutes, so a resumed run must not repeat it.
    from transformers import AutoTokenizer, BertModel

    if not (cache / "config.json").exists():
        model, tokenizer = _from_teacher(settings, texts, load_teacher())
        with replacing_folder(cache, "config.json", CheckpointError, "a model folder") as staging:
            model.save_pretrained(staging)
            tokenizer.save_pretrained(staging)
    model = BertModel.from_pretrained(cache, local_files_only=True, add_pooling_layer=False)
    return model, AutoTokenizer.from_pretrained(cache, local_files_only=True)


def _from_teacher(
    settings: StudentConfig, texts: Callable[[], Iterable[str]], teacher: Teacher
) -> tuple[Any, Any]:
    from transformers import BertModel

    model, tokenizer = first_transformer(teacher).torch_model()
    if not isinstance(model, BertModel):
        raise ValueError(
            f'student.init is "teacher", but the first teacher is {type(model).__name__}, expected a BERT: put '
            "another teacher first, or set student.init to a model"
        )
    token_ids, smaller_tokenizer = None, tokenizer
    if settings.vocabulary:
        token_ids, smaller_tokenizer = pruned_tokenizer(tokenizer, texts(), settings.vocabulary)
    sizes = {name: settings.config[name] for name in SIZES if name in settings.config}
    batches = fitting_batches(tokenizer, list(islice(texts(), FITTING_TEXTS))) if sizes else []
    student = prune_bert(model, layers=list(settings.layers), batches=batches, token_ids=token_ids, **sizes)
    student.pooler = None
    changes = {name: settings.config[name] for name in _DROPOUTS if name in settings.config}
    return _with_dropout(student, changes) if changes else student, smaller_tokenizer


def pruned_tokenizer(tokenizer: Any, texts: Iterable[str], size: int) -> tuple[npt.NDArray[np.int64], Any]:
    """Builds a fast tokenizer with the ``size`` most frequent tokens of another.

    Args:
        tokenizer: A WordPiece ``PreTrainedTokenizerFast``.
        texts: The texts to count tokens in.
        size: Number of tokens to keep, special ones included; see
            :func:`~sentenc.training.data.vocabulary.prune_vocabulary`.

    Returns:
        The old id of each new token, (size,), and the new tokenizer, with the settings of the old one.

    Raises:
        ValueError: The size is out of range.
        CheckpointError: The tokenizer is of another kind.
    """
    spec = plain_spec(tokenizer)
    plain = Tokenizer(json.dumps(spec), skip_unknown=True)
    smaller, old_ids = prune_vocabulary(plain, token_frequencies(plain, texts), size)
    new_ids = {int(old): new for new, old in enumerate(old_ids)}
    spec["model"]["vocab"] = smaller.vocabulary
    for token in spec.get("added_tokens", []):
        token["id"] = new_ids[token["id"]]
    if spec.get("post_processor"):
        _renumber(spec["post_processor"], new_ids)
    return old_ids, _rebuilt(tokenizer, spec)


def _renumber(processor: dict[str, Any], new_ids: dict[int, int]) -> None:
    for name in ("sep", "cls"):
        if name in processor:
            token, old = processor[name]
            processor[name] = [token, new_ids[old]]
    for special in (processor.get("special_tokens") or {}).values():
        special["ids"] = [new_ids[old] for old in special["ids"]]
    for part in processor.get("processors", []):
        _renumber(part, new_ids)


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
