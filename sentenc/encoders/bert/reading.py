"""Reads a BERT, DistilBERT or MPNet from a Hugging Face or sentence-transformers folder, without torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt

from sentenc.checkpoint import read_card
from sentenc.encoders.bert.config import DISTANCE_GROUPS, LINEAR, MIN_TOKENS, BertConfig, Compute, Pooling
from sentenc.encoders.bert.tokenizer_files import read_json, read_tokenizer
from sentenc.encoders.bert.transformers_names import MODEL_TYPES, bert_settings, bert_weights
from sentenc.errors import CheckpointError, MissingExtraError, NotBertError
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.validation import check_integer

MODULES, SETTINGS, SAFETENSORS, PICKLE = (
    "modules.json", "sentence_bert_config.json", "model.safetensors", "pytorch_model.bin",
)  # fmt: skip
METADATA, PROMPTS = "metadata.json", "config_sentence_transformers.json"
# The key of the type in which matrices are multiplied. Absent for float32.
COMPUTE = "sentenc_compute"
_OWN = "sentence_transformers."
_SHAPE = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_OPTIONAL = ("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "hidden_act", "model_type")
# The accepted settings of a Transformer module and their accepted values. None: any value.
_TRANSFORMER_SETTINGS: dict[str, tuple[Any, ...] | None] = {
    "max_seq_length": None,
    "do_lower_case": None,
    "transformer_task": ("feature-extraction",),
    "modality_config": ({"text": {"method": "forward", "method_output_name": "last_hidden_state"}},),
    "module_output_name": ("token_embeddings",),
}
_NUMBERS = {"F16": np.float16, "F32": np.float32, "F64": np.float64}


@dataclass(frozen=True, kw_only=True)
class BertFolder:
    """The content of a folder.

    Attributes:
        config: The model's shape.
        weights: Every weight of ``config.shapes()``, float16 or float32.
        tokenizer: A tokenizer that keeps unknown words. The encoder adds special tokens around a text.
        compute: The type in which matrices are multiplied: ``"float32"`` or ``"int8"``.
        metadata: The content of ``metadata.json``, and the prompts of sentence-transformers' settings.
        card: The content of ``README.md``, or None.
    """

    config: BertConfig
    weights: dict[str, npt.NDArray[Any]]
    tokenizer: Tokenizer
    compute: Compute
    metadata: dict[str, Any]
    card: str | None


@dataclass(frozen=True)
class _Modules:
    # The transformer of a modules.json, and what is computed of its hidden states.
    transformer: Path
    settings: dict[str, Any]
    pooling: Pooling | None
    normalize: bool = False
    linear: npt.NDArray[np.float32] | None = None


def is_transformer_folder(folder: Path) -> bool:
    """Returns whether a folder contains a model of Hugging Face or sentence-transformers."""
    if (folder / MODULES).exists():
        return True
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(config, dict) or "format_version" in config:
        return False
    # A DistilBERT has another name for its size, and a published TinyBERT has no model_type.
    return "hidden_size" in config or "model_type" in config


def is_plain_bert_folder(folder: Path) -> bool:
    """Returns whether a folder contains a transformer of Hugging Face that states no pooling."""
    return is_transformer_folder(folder) and not (folder / MODULES).exists()


def stated_pooling(folder: Path) -> tuple[Pooling | None, bool]:
    """Returns the pooling that a folder of sentence-transformers states, and whether a linear map follows.

    The pooling of a folder without ``modules.json`` is None.

    Raises:
        NotBertError: The modules are others than a transformer, mean or cls pooling, Normalize and Dense.
        CheckpointError: A file is missing or damaged.
    """
    read = _read_modules(folder, None, None)
    return read.pooling, read.linear is not None


def read_bert_folder(
    folder: Path,
    *,
    pooling: Pooling | None = None,
    max_tokens: int | None = None,
    modules: list[dict[str, Any]] | None = None,
) -> BertFolder:
    """Reads a BERT with mean or cls pooling and, if they follow, Normalize and Dense.

    A DistilBERT becomes a BERT without token types, and an MPNet a BERT whose ``model_type`` is ``"mpnet"``.

    Args:
        folder: The folder.
        pooling: The pooling of a folder without ``modules.json``, such as a published TinyBERT, which states
            none. Nothing follows it.
        max_tokens: The number of tokens at which texts are cut, by default the one that the folder states.
        modules: The entries of ``modules.json``, each with its ``type`` and ``path``; by default those of the
            folder.

    Raises:
        NotBertError: The folder contains another kind of model; the message contains the difference.
        CheckpointError: A file is missing or damaged, or the folder states no pooling and none was passed.
        ValueError: The folder states another pooling, or the model has fewer positions than ``max_tokens``.
        MissingExtraError: The weights are a ``pytorch_model.bin``, and torch is not installed.
    """
    read = _read_modules(folder, pooling, modules)
    stated_type, values = _read_settings(read.transformer / "config.json")
    if read.pooling is None:
        raise CheckpointError(pooling_missing(folder))
    tokenizer = read_tokenizer(
        read.transformer, lowercase=bool(read.settings.get("do_lower_case")), model_type=values["model_type"]
    )
    shape = {name: values[name] for name in (*_SHAPE, *_OPTIONAL) if name in values}
    if max_tokens is None:
        max_tokens = _max_tokens(read.settings.get("max_seq_length"), shape, tokenizer.longest)
    else:
        max_tokens = check_integer("max_tokens", max_tokens, at_least=MIN_TOKENS, at_most=_positions(shape))
    try:
        config = BertConfig(
            **shape, normalize=read.normalize, linear=read.linear is not None, max_tokens=max_tokens,
            pooling=read.pooling,
        )  # fmt: skip
    except (ValueError, TypeError) as error:
        raise NotBertError(f"{read.transformer / 'config.json'}: {error}") from error
    weights = bert_weights(_read_weights(read.transformer), stated_type)
    _check_names(weights, config, read.transformer)
    if read.linear is not None:
        weights[LINEAR] = read.linear
    compute = values.get(COMPUTE, "float32")
    if compute not in ("float32", "int8"):
        raise CheckpointError(
            f"{read.transformer / 'config.json'} has {COMPUTE} {compute!r}, expected 'float32' or 'int8'"
        )
    return BertFolder(
        config=config, weights=weights, tokenizer=tokenizer.tokenizer, compute=compute,
        metadata=read_metadata(folder), card=read_card(folder),
    )  # fmt: skip


def read_metadata(folder: Path) -> dict[str, Any]:
    """Returns the metadata of a model, with the prompts that sentence-transformers reads, if there are any.

    Raises:
        CheckpointError: A file cannot be read.
    """
    metadata: dict[str, Any] = _read_if_exists(folder / METADATA)
    prompts = _read_if_exists(folder / PROMPTS).get("prompts")
    # sentence-transformers writes empty prompts for models without prompts.
    if isinstance(prompts, dict) and (stated := {name: text for name, text in prompts.items() if text}):
        metadata["prompts"] = stated
    return metadata


def _read_if_exists(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.exists() else {}


def _read_modules(folder: Path, pooling: Pooling | None, modules: list[dict[str, Any]] | None) -> _Modules:
    if modules is None and not (folder / MODULES).exists():
        return _Modules(folder, _read_if_exists(folder / SETTINGS), pooling)
    _refuse_settings(folder)
    modules = read_json(folder / MODULES, list) if modules is None else modules
    kinds, paths = [], []
    for module in modules:
        kind, path = (module.get("type"), module.get("path")) if isinstance(module, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(path, str):
            raise CheckpointError(f"{folder / MODULES} has the module {module!r}, expected its type and path")
        # Modules of other packages have the same short names and other functions.
        kinds.append(kind.rsplit(".", 1)[-1] if kind.startswith(_OWN) else kind)
        paths.append(folder / path)
    if kinds[:2] not in (["Transformer", "Pooling"], ["BERT", "Pooling"]) or kinds[2:] not in (
        [], ["Normalize"], ["Dense"], ["Normalize", "Dense"],
    ):  # fmt: skip
        raise NotBertError(
            f"{folder / MODULES} has the modules {', '.join(kinds) or 'none'}, "
            "expected Transformer, Pooling and optionally Normalize, Dense"
        )
    stated = _read_pooling(paths[1] / "config.json")
    if pooling not in (None, stated):
        raise ValueError(f"pooling is {pooling!r}, expected {stated!r} or None: {folder} states it")
    settings = _read_if_exists(paths[0] / SETTINGS)
    for name, value in settings.items():
        accepted = _TRANSFORMER_SETTINGS.get(name, (None, {}, False))
        if accepted is not None and value not in accepted:
            raise NotBertError(f"{paths[0] / SETTINGS} has {name} {value!r}, expected a plain transformer")
    linear = _read_dense(paths[-1]) if kinds[-1] == "Dense" else None
    return _Modules(paths[0], settings, stated, normalize="Normalize" in kinds, linear=linear)


def pooling_missing(folder: Path) -> str:
    """Returns the message of the warning or error of a folder that states no pooling."""
    return (
        f"{folder} contains a transformer without {MODULES}, which would state its pooling: pass pooling='mean' "
        "for the mean of all hidden states, which is the default, or pooling='cls' for the one of [CLS], "
        "whichever the model was trained with (on a command line --pooling)"
    )


def _refuse_settings(folder: Path) -> None:
    path = folder / PROMPTS
    settings = _read_if_exists(path)
    name = settings.get("default_prompt_name")
    if name is not None and (settings.get("prompts") or {}).get(name) != "":
        raise NotBertError(f"{path} has the default prompt {name!r}, expected none")
    if settings.get("truncate_dim") is not None:
        raise NotBertError(f"{path} has truncate_dim {settings['truncate_dim']}, expected none")


def _read_pooling(path: Path) -> Pooling:
    settings = read_json(path)
    # sentence-transformers writes booleans until version 5.3, and names since then.
    named = settings.get("pooling_mode")
    modes = [named] if isinstance(named, str) else list(named or [])
    prefix = "pooling_mode_"
    modes += [name.removeprefix(prefix) for name, on in settings.items() if name.startswith(prefix) and on]
    if settings.get("include_prompt") is False:
        raise NotBertError(f"{path} leaves prompts out of the pooling, expected them in it")
    for pooling in get_args(Pooling):
        if modes in ([pooling], [f"{pooling}_tokens"], [f"{pooling}_token"]):
            return cast(Pooling, pooling)
    raise NotBertError(
        f"{path} pools by {', '.join(map(str, modes)) or 'nothing'}, expected mean or cls pooling"
    )


def _read_dense(folder: Path) -> npt.NDArray[np.float32]:
    settings = read_json(folder / "config.json")
    kind = str(settings.get("activation_function")).rsplit(".", 1)[-1]
    if settings.get("bias", True) or kind != "Identity":
        raise NotBertError(
            f"{folder / 'config.json'} has bias {settings.get('bias', True)} and activation {kind}, "
            "expected a Dense without either"
        )
    weight = _read_weights(folder).get("linear.weight")
    if weight is None or weight.ndim != 2 or weight.shape[0] != weight.shape[1]:
        shape = None if weight is None else weight.shape
        raise NotBertError(f"{folder} has linear.weight of shape {shape}, expected a square matrix")
    return weight.astype(np.float32)


def _read_settings(path: Path) -> tuple[str, dict[str, Any]]:
    # The model_type that a config.json states, and its values with the names of a BERT.
    config = read_json(path)
    expected = {
        "model_type": MODEL_TYPES,
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
        "quantization_config": (None,),
        "relative_attention_num_buckets": (DISTANCE_GROUPS,),
    }
    for name, accepted in expected.items():
        if name in config and config[name] not in accepted:
            allowed = " or ".join(map(repr, accepted))
            raise NotBertError(f"{path} has {name} {config[name]!r}, expected {allowed}")
    values = bert_settings(config)
    if missing := [name for name in _SHAPE if name not in values]:
        raise NotBertError(f"{path} lacks {', '.join(missing)}, expected the shape of a BERT")
    # Published TinyBERT checkpoints have no model_type.
    return str(config.get("model_type", "bert")), values


def _max_tokens(stated: Any, shape: dict[str, Any], longest: int | None) -> int:
    limits = [_positions(shape)]
    if stated is not None:
        if not isinstance(stated, int):
            raise CheckpointError(f"{SETTINGS} has max_seq_length {stated!r}, expected an integer")
        limits.append(stated)
    elif longest is not None:
        limits.append(longest)
    return int(min(limits))


def _positions(shape: dict[str, Any]) -> int:
    return int(shape.get("max_position_embeddings", 512))


def _check_names(weights: dict[str, npt.NDArray[Any]], config: BertConfig, folder: Path) -> None:
    expected = {name: shape for name, shape in config.shapes().items() if name != LINEAR}
    missing, unexpected = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if unexpected:
        raise NotBertError(f"{folder} has weights that no BERT has: {', '.join(unexpected[:5])}")
    if missing:
        raise CheckpointError(f"{folder} lacks {len(missing)} weights, the first of them {missing[0]}")


def _read_weights(folder: Path) -> dict[str, npt.NDArray[Any]]:
    if (folder / SAFETENSORS).exists():
        return _read_safetensors(folder / SAFETENSORS)
    if (folder / PICKLE).exists():
        return _read_pickle(folder / PICKLE)
    if list(folder.glob("*.index.json")):
        raise NotBertError(f"{folder} has its weights in several files, expected one {SAFETENSORS}")
    raise CheckpointError(f"{folder} has neither {SAFETENSORS} nor {PICKLE}")


def _read_safetensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError, deserialize

    try:
        tensors = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error
    weights = {}
    for name, tensor in tensors:
        kind, data = tensor["dtype"], tensor["data"]
        if kind == "BF16":
            # NumPy has no bfloat16, which is the upper half of a float32.
            value = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
        elif kind in _NUMBERS:
            value = np.frombuffer(data, _NUMBERS[kind])
        else:
            continue  # position_ids and similar buffers are no weights
        weights[name] = _as_float(value.reshape(tensor["shape"]))
    return weights


def _read_pickle(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("train", "torch", f"reading {path.name}") from error
    try:
        # weights_only accepts tensors and plain containers, so no code in the file is run.
        state = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {name: value for name, value in state.items() if value.is_floating_point()}
    except Exception as error:  # many kinds, those of pickle among them
        raise CheckpointError(f"{path} contains no weights that torch can read: {error}") from error
    return {
        name: _as_float((value.float() if value.dtype == torch.bfloat16 else value).numpy())
        for name, value in tensors.items()
    }


def _as_float(value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return value if value.dtype == np.float16 else value.astype(np.float32, copy=False)
