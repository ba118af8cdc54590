"""The tokenizer of a BERT folder: ``tokenizer.json``, or ``vocab.txt`` and its settings; both ways."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from sentenc.errors import CheckpointError, NotBertError
from sentenc.tokenization.tokenizer import Tokenizer

CLS, SEP, PAD, MASK = "[CLS]", "[SEP]", "[PAD]", "[MASK]"
TOKENIZER, VOCABULARY, SETTINGS, SPECIAL = (
    "tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json",
)  # fmt: skip
_AS_FILED = ("PreTrainedTokenizerFast", "TokenizersBackend")
# These build the tokenizer from the vocabulary and their settings, whatever else tokenizer.json says.
_BERT = (None, "BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast")
_MAX_CHARACTERS = 100
# What "no limit" is in a tokenizer's settings: 10 ** 30, and anything near.
_UNLIMITED = 10**9


def plain_spec(tokenizer: Any) -> dict[str, Any]:
    """The ``tokenizer.json`` of a ``PreTrainedTokenizerFast``, without the padding and truncation that it keeps as state."""
    spec: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return spec | {"padding": None, "truncation": None}


class TokenizerFiles(NamedTuple):
    """A tokenizer, and the longest text that its settings allow, special tokens included, or None."""

    tokenizer: Tokenizer
    longest: int | None


def read_tokenizer(folder: Path, *, lowercase: bool = False) -> TokenizerFiles:
    """Reads a folder's WordPiece tokenizer, as ``transformers.AutoTokenizer`` would.

    Args:
        folder: Where its files are.
        lowercase: Fold case before anything else, whatever the tokenizer itself does.

    Raises:
        NotBertError: It is no WordPiece tokenizer that puts [CLS] and [SEP] around a text.
        CheckpointError: A file is missing or damaged.
    """
    settings = read_json(folder / SETTINGS) if (folder / SETTINGS).exists() else {}
    kind = settings.get("tokenizer_class")
    if kind not in (*_BERT, *_AS_FILED):
        raise NotBertError(f"{folder / SETTINGS} has tokenizer_class {kind!r}, expected a BertTokenizer")
    if (folder / TOKENIZER).exists():
        spec = read_json(folder / TOKENIZER)
        _check_additions(spec, folder / TOKENIZER)
        if kind in _AS_FILED:
            _check_post_processor(spec.get("post_processor"), folder / TOKENIZER)
        else:
            spec |= _splitting(settings)
    elif (folder / VOCABULARY).exists() and kind in _BERT:
        spec = _bert_spec(_read_vocabulary(folder / VOCABULARY), settings)
    else:
        raise CheckpointError(
            f"{folder} has neither {TOKENIZER} nor {VOCABULARY}, expected a BERT's tokenizer"
        )
    _check_special_tokens(settings, folder / SETTINGS)
    if lowercase:
        spec["normalizer"] = _lowercased(spec.get("normalizer"))
    try:
        tokenizer = Tokenizer(json.dumps(spec, ensure_ascii=False), skip_unknown=False)
        check_tokenizer(tokenizer)
    except CheckpointError as error:
        raise NotBertError(f"{folder}: {error}") from error
    longest = settings.get("model_max_length")
    limited = isinstance(longest, int) and longest < _UNLIMITED
    return TokenizerFiles(tokenizer, longest if limited else None)


def check_tokenizer(tokenizer: Tokenizer) -> None:
    """Raises ``CheckpointError`` unless there is a BERT's special tokens in a vocabulary."""
    vocabulary = tokenizer.vocabulary
    missing = [token for token in (PAD, CLS, SEP) if token not in vocabulary]
    if missing or tokenizer.unknown_id is None:
        raise CheckpointError(
            f"tokenizer.json lacks {', '.join([*missing, *['its unknown token'] * (tokenizer.unknown_id is None)])}"
            ", expected a BERT's special tokens in its vocabulary"
        )


def write_tokenizer(folder: Path, tokenizer: Tokenizer, max_tokens: int) -> None:
    """Writes the files that ``transformers.AutoTokenizer`` and others read a BERT's tokenizer from."""
    spec = json.loads(tokenizer.spec)
    vocabulary, model = tokenizer.vocabulary, spec["model"]
    names = {"unk_token": model["unk_token"], "sep_token": SEP, "pad_token": PAD, "cls_token": CLS}
    if MASK in vocabulary:
        names["mask_token"] = MASK
    spec["added_tokens"] = [
        {"id": vocabulary[token], "content": token, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for token in sorted(names.values(), key=vocabulary.__getitem__)
    ]  # fmt: skip
    spec["post_processor"] = _post_processor(vocabulary)
    if model["type"] == "WordPiece":
        spec["decoder"] = {
            "type": "WordPiece", "prefix": model.get("continuing_subword_prefix", "##"), "cleanup": True,
        }  # fmt: skip
    settings: dict[str, Any] = {**names, "model_max_length": max_tokens}
    if _is_plain_bert(spec):
        normalizer = spec["normalizer"]
        settings |= {
            "tokenizer_class": "BertTokenizer",
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
    # A line for every id: those that no token has get one that no text gives.
    tokens = [by_id.get(index, f"[unused-{index}]") for index in range(tokenizer.vocab_size)]
    (folder / VOCABULARY).write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")


def read_json(path: Path, kind: type = dict) -> Any:
    """A JSON file's content.

    Raises:
        CheckpointError: It cannot be read, or is of another type.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, kind):
        raise CheckpointError(f"{path} holds {type(value).__name__}, expected {kind.__name__}")
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
    # Left open, it would strip accents wherever case is folded.
    return normalizer | {"lowercase": True, "strip_accents": bool(normalizer.get("strip_accents"))}


def _is_plain_bert(spec: dict[str, Any]) -> bool:
    # Whether a BertTokenizer makes the same of the vocabulary and its few settings.
    model, normalizer = spec["model"], spec.get("normalizer") or {}
    return (
        model["type"] == "WordPiece"
        and model.get("continuing_subword_prefix", "##") == "##"
        and model.get("max_input_chars_per_word", _MAX_CHARACTERS) == _MAX_CHARACTERS
        and normalizer.get("type") == "BertNormalizer"
        and bool(normalizer.get("clean_text", True))
        and (spec.get("pre_tokenizer") or {}).get("type") == "BertPreTokenizer"
    )


def _post_processor(vocabulary: dict[str, int]) -> dict[str, Any]:
    def special(token: str, kind: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": kind}}

    def text(name: str, kind: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": kind}}

    single = [special(CLS, 0), text("A", 0), special(SEP, 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, text("B", 1), special(SEP, 1)],
        "special_tokens": {
            token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]} for token in (CLS, SEP)
        },
    }


def _check_post_processor(found: dict[str, Any] | None, path: Path) -> None:
    found = found or {"type": None}
    if found["type"] == "BertProcessing":
        around = [found["cls"][0], found["sep"][0]]
    elif found["type"] == "TemplateProcessing":
        around = [part["SpecialToken"]["id"] for part in found["single"] if "SpecialToken" in part]
    else:
        around = []
    if around != [CLS, SEP]:
        raise NotBertError(f"{path} puts {around} around a text, expected {[CLS, SEP]}")


def _check_additions(spec: dict[str, Any], path: Path) -> None:
    vocabulary = (spec.get("model") or {}).get("vocab") or {}
    for token in spec.get("added_tokens") or []:
        # A token that is found before the text is split, wherever it stands.
        if not token.get("special") or token["content"] not in vocabulary:
            raise NotBertError(
                f"{path} has the added token {token['content']!r}, expected special ones alone"
            )


def _check_special_tokens(settings: dict[str, Any], path: Path) -> None:
    for name, expected in (("cls_token", CLS), ("sep_token", SEP), ("pad_token", PAD)):
        found = _content(settings.get(name, expected))
        if found != expected:
            raise NotBertError(f"{path} has {name} {found!r}, expected {expected!r}")


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _read_vocabulary(path: Path) -> dict[str, int]:
    try:
        # Only "\n" ends a line: U+2028 and the like can be tokens.
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return {
        line.removesuffix("\r"): index for index, line in enumerate(lines) if line or index < len(lines) - 1
    }
