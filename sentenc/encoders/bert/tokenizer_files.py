"""Reads and writes the tokenizer of a BERT folder: ``tokenizer.json``, or ``vocab.txt`` and its settings."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from sentenc.encoders.bert.config import ModelType
from sentenc.errors import CheckpointError, NotBertError
from sentenc.tokenization.tokenizer import Tokenizer

TOKENIZER, VOCABULARY, SETTINGS, SPECIAL = (
    "tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json",
)  # fmt: skip
# These read the tokenizer from tokenizer.json.
_AS_FILED = ("PreTrainedTokenizerFast", "TokenizersBackend")
# These build it from the vocabulary and their settings, and ignore the rest of tokenizer.json.
_CLASSES = {
    "bert": (None, "BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast"),
    "mpnet": (None, "MPNetTokenizer", "MPNetTokenizerFast"),
}
_MAX_CHARACTERS = 100
# A limit of this size or more, usually 10 ** 30, means no limit in a tokenizer's settings.
_UNLIMITED = 10**9


class SpecialTokens(NamedTuple):
    """The special tokens of a model, except that of unknown words, which its tokenizer has."""

    cls: str
    sep: str
    pad: str
    mask: str
    others: tuple[str, ...] = ()
    pad_id: int | None = None


_SPECIAL_TOKENS = {
    "bert": SpecialTokens("[CLS]", "[SEP]", "[PAD]", "[MASK]"),
    # Unknown words are [UNK], as in a BERT, and <unk> is in no text that does not spell it. transformers counts
    # positions from the id of the padding, which is fixed.
    "mpnet": SpecialTokens("<s>", "</s>", "<pad>", "<mask>", ("<unk>",), pad_id=1),
}


def special_tokens(model_type: ModelType) -> SpecialTokens:
    """Returns the special tokens of the models of a type."""
    return _SPECIAL_TOKENS[model_type]


def plain_spec(tokenizer: Any) -> dict[str, Any]:
    """Returns the ``tokenizer.json`` of a ``PreTrainedTokenizerFast``, without padding and truncation."""
    spec: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return spec | {"padding": None, "truncation": None}


class TokenizerFiles(NamedTuple):
    """The tokenizer of a folder.

    Attributes:
        tokenizer: A tokenizer that keeps unknown words.
        longest: The number of tokens at which its settings cut texts, special tokens included, or None.
    """

    tokenizer: Tokenizer
    longest: int | None


def read_tokenizer(
    folder: Path, *, lowercase: bool = False, model_type: ModelType = "bert"
) -> TokenizerFiles:
    """Reads the WordPiece tokenizer of a folder, as ``transformers.AutoTokenizer`` would.

    Args:
        folder: The folder of its files.
        lowercase: Convert texts to lower case first, even if the tokenizer itself does not.
        model_type: The type of the model.

    Raises:
        NotBertError: The tokenizer is not WordPiece, or does not put [CLS] and [SEP] (an MPNet's <s> and </s>)
            around a text.
        CheckpointError: A file is missing or damaged.
    """
    settings = read_json(folder / SETTINGS) if (folder / SETTINGS).exists() else {}
    kind, names, special = settings.get("tokenizer_class"), _CLASSES[model_type], special_tokens(model_type)
    if kind not in (*names, *_AS_FILED):
        raise NotBertError(f"{folder / SETTINGS} has tokenizer_class {kind!r}, expected a {names[1]}")
    if (folder / TOKENIZER).exists():
        spec = read_json(folder / TOKENIZER)
        _check_additions(spec, folder / TOKENIZER)
        if kind in _AS_FILED:
            _check_post_processor(spec.get("post_processor"), special, folder / TOKENIZER)
        else:
            spec |= _splitting(settings)
    elif (folder / VOCABULARY).exists() and kind in names:
        spec = _bert_spec(_read_vocabulary(folder / VOCABULARY), settings)
    else:
        raise CheckpointError(
            f"{folder} has neither {TOKENIZER} nor {VOCABULARY}, expected a BERT's tokenizer"
        )
    _check_special_tokens(settings, special, folder / SETTINGS)
    if lowercase:
        spec["normalizer"] = _lowercased(spec.get("normalizer"))
    try:
        tokenizer = Tokenizer(json.dumps(spec, ensure_ascii=False), skip_unknown=False)
        _check_tokenizer(tokenizer, special)
        stated = _stated_special_tokens(spec, settings)
        tokenizer = tokenizer.with_special_tokens(_all_special_tokens(tokenizer, special, stated))
    except CheckpointError as error:
        raise NotBertError(f"{folder}: {error}") from error
    longest = settings.get("model_max_length")
    limited = isinstance(longest, int) and longest < _UNLIMITED
    return TokenizerFiles(tokenizer, longest if limited else None)


def bert_tokenizer(tokenizer: Tokenizer | str, model_type: ModelType = "bert") -> Tokenizer:
    """Returns a tokenizer that finds special tokens in texts: those that it has, or the usual ones of its type.

    Args:
        tokenizer: A tokenizer that keeps unknown words, or the content of a ``tokenizer.json``.
        model_type: The type of the model.

    Raises:
        CheckpointError: A special token of the type is not in the vocabulary.
        ValueError: The tokenizer leaves unknown words out.
    """
    if isinstance(tokenizer, str):
        tokenizer = Tokenizer(tokenizer, skip_unknown=False)
    if tokenizer.skip_unknown:
        raise ValueError(
            "tokenizer.skip_unknown is True, expected False: a BERT has an embedding for unknown words"
        )
    special = special_tokens(model_type)
    _check_tokenizer(tokenizer, special)
    if tokenizer.special_tokens is not None:
        return tokenizer
    return tokenizer.with_special_tokens(_all_special_tokens(tokenizer, special))


def _check_tokenizer(tokenizer: Tokenizer, special: SpecialTokens) -> None:
    vocabulary = tokenizer.vocabulary
    missing = [token for token in (special.pad, special.cls, special.sep) if token not in vocabulary]
    if tokenizer.unknown_id is None:
        missing.append("its unknown token")
    if missing:
        raise CheckpointError(f"tokenizer.json lacks {', '.join(missing)} in its vocabulary")
    if special.pad_id is not None and vocabulary[special.pad] != special.pad_id:
        raise CheckpointError(
            f"tokenizer.json has {special.pad} as token {vocabulary[special.pad]}, expected {special.pad_id}"
        )


def _all_special_tokens(
    tokenizer: Tokenizer, special: SpecialTokens, stated: Iterable[str] = ()
) -> tuple[str, ...]:
    # Returns the usual special tokens of a type of model, and those that its files state.
    unknown = json.loads(tokenizer.spec)["model"]["unk_token"]
    usual = (special.sep, special.pad, special.cls, special.mask, *special.others)
    return tuple(dict.fromkeys([unknown, *usual, *stated]))


def write_tokenizer(
    folder: Path, tokenizer: Tokenizer, max_tokens: int, model_type: ModelType = "bert"
) -> None:
    """Writes the tokenizer files of a model, for ``transformers.AutoTokenizer`` and other libraries."""
    spec, special = json.loads(tokenizer.spec), special_tokens(model_type)
    vocabulary, model = tokenizer.vocabulary, spec["model"]
    names = {
        "unk_token": model["unk_token"], "sep_token": special.sep, "pad_token": special.pad,
        "cls_token": special.cls,
    }  # fmt: skip
    if special.mask in vocabulary:
        names["mask_token"] = special.mask
    spec["added_tokens"] = [
        {"id": vocabulary[token], "content": token, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for token in sorted({*names.values(), *special.others} & set(vocabulary), key=vocabulary.__getitem__)
    ]  # fmt: skip
    spec["post_processor"] = _post_processor(vocabulary, special)
    if model["type"] == "WordPiece":
        spec["decoder"] = {
            "type": "WordPiece", "prefix": model.get("continuing_subword_prefix", "##"), "cleanup": True,
        }  # fmt: skip
    settings: dict[str, Any] = {**names, "model_max_length": max_tokens}
    if _is_plain_bert(spec):
        normalizer = spec["normalizer"]
        settings |= {
            "tokenizer_class": _CLASSES[model_type][1],
            "do_lower_case": normalizer.get("lowercase", True),
            "strip_accents": normalizer.get("strip_accents"),
            "tokenize_chinese_chars": normalizer.get("handle_chinese_chars", True),
        }
    else:
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    write_json(folder / TOKENIZER, spec)
    write_json(folder / SETTINGS, settings)
    write_json(folder / SPECIAL, names)
    by_id = {index: token for token, index in vocabulary.items()}
    # The file has one line per id. An id without a token gets one that is in no text.
    tokens = [by_id.get(index, f"[unused-{index}]") for index in range(tokenizer.vocab_size)]
    (folder / VOCABULARY).write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")


def read_json(path: Path, kind: type = dict) -> Any:
    """Reads a JSON file whose content is of type ``kind``.

    Raises:
        CheckpointError: The file cannot be read, or its content is of another type.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, kind):
        raise CheckpointError(f"{path} contains {type(value).__name__}, expected {kind.__name__}")
    return value


def write_json(path: Path, value: Any) -> None:
    """Writes a value as readable JSON in UTF-8."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _bert_spec(vocabulary: dict[str, int], settings: dict[str, Any]) -> dict[str, Any]:
    model = {
        "type": "WordPiece", "unk_token": _content(settings.get("unk_token", "[UNK]")),
        "continuing_subword_prefix": "##", "max_input_chars_per_word": _MAX_CHARACTERS, "vocab": vocabulary,
    }  # fmt: skip
    return {"version": "1.0", "added_tokens": [], **_splitting(settings), "model": model}


def _splitting(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": bool(settings.get("tokenize_chinese_chars", True)),
            "strip_accents": settings.get("strip_accents"),
            "lowercase": bool(settings.get("do_lower_case", True)),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
    }


def _lowercased(normalizer: dict[str, Any] | None) -> dict[str, Any]:
    if normalizer is None:
        return {"type": "Lowercase"}
    if normalizer.get("type") != "BertNormalizer" or normalizer.get("lowercase", True):
        return normalizer
    # By default, BertNormalizer strips accents if it lowercases.
    return normalizer | {"lowercase": True, "strip_accents": bool(normalizer.get("strip_accents"))}


def _is_plain_bert(spec: dict[str, Any]) -> bool:
    # Whether a BertTokenizer can express the specification by the vocabulary and its few settings.
    model, normalizer = spec["model"], spec.get("normalizer") or {}
    return (
        model["type"] == "WordPiece"
        and model.get("continuing_subword_prefix", "##") == "##"
        and model.get("max_input_chars_per_word", _MAX_CHARACTERS) == _MAX_CHARACTERS
        and normalizer.get("type") == "BertNormalizer"
        and bool(normalizer.get("clean_text", True))
        and (spec.get("pre_tokenizer") or {}).get("type") == "BertPreTokenizer"
    )


def _post_processor(vocabulary: dict[str, int], tokens: SpecialTokens) -> dict[str, Any]:
    def special(token: str, kind: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": kind}}

    def text(name: str, kind: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": kind}}

    single = [special(tokens.cls, 0), text("A", 0), special(tokens.sep, 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, text("B", 1), special(tokens.sep, 1)],
        "special_tokens": {
            token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]}
            for token in (tokens.cls, tokens.sep)
        },
    }


def _check_post_processor(processor: dict[str, Any] | None, tokens: SpecialTokens, path: Path) -> None:
    processor = processor or {"type": None}
    if processor["type"] in ("BertProcessing", "RobertaProcessing"):
        around = [processor["cls"][0], processor["sep"][0]]
    elif processor["type"] == "TemplateProcessing":
        around = [part["SpecialToken"]["id"] for part in processor["single"] if "SpecialToken" in part]
    else:
        around = []
    if around != [tokens.cls, tokens.sep]:
        raise NotBertError(f"{path} puts {around} around a text, expected {[tokens.cls, tokens.sep]}")


def _check_additions(spec: dict[str, Any], path: Path) -> None:
    vocabulary = (spec.get("model") or {}).get("vocab") or {}
    for token in spec.get("added_tokens") or []:
        # An added token is matched before the text is split, even inside a word.
        if not token.get("special") or token.get("single_word") or token["content"] not in vocabulary:
            raise NotBertError(
                f"{path} has the added token {token['content']!r}, expected special tokens only"
            )


def _check_special_tokens(settings: dict[str, Any], tokens: SpecialTokens, path: Path) -> None:
    for name, expected in (("cls_token", tokens.cls), ("sep_token", tokens.sep), ("pad_token", tokens.pad)):
        token = _content(settings.get(name, expected))
        if token != expected:
            raise NotBertError(f"{path} has {name} {token!r}, expected {expected!r}")


def _stated_special_tokens(spec: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    decoder = settings.get("added_tokens_decoder")
    added = [*(spec.get("added_tokens") or []), *(decoder.values() if isinstance(decoder, dict) else [])]
    contents = [_content(token) for token in added if isinstance(token, dict) and token.get("special")]
    further = settings.get("additional_special_tokens")
    contents += [_content(token) for token in (further if isinstance(further, list) else [])]
    return [content for content in contents if isinstance(content, str)]


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _read_vocabulary(path: Path) -> dict[str, int]:
    try:
        # Only "\n" ends a line, because U+2028 and similar characters can be tokens.
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return {
        line.removesuffix("\r"): index for index, line in enumerate(lines) if line or index < len(lines) - 1
    }
