"""Reads and checks the content of a ``tokenizer.json``."""

import json
from typing import Any

from sentenc.errors import CheckpointError

_TYPES: dict[str, tuple[str | None, ...]] = {
    "model": ("WordPiece", "WordLevel"),
    "normalizer": ("BertNormalizer", "Lowercase", None),
    "pre_tokenizer": ("BertPreTokenizer", "WhitespaceSplit"),
}
# Parts that add, cut or pad tokens. They are ignored.
_IGNORED: dict[str, Any] = {
    "added_tokens": [],
    "post_processor": None,
    "truncation": None,
    "padding": None,
    "decoder": None,
}
_KNOWN = {"version", *_TYPES, *_IGNORED}
_VERSION = "1.0"


def read_specification(spec: str) -> dict[str, Any]:
    """Returns the content of a ``tokenizer.json``, without the parts that add, cut or pad tokens.

    The vocabulary is only known to be there and not empty.

    Raises:
        CheckpointError: The file is damaged, or has an unsupported part; the message contains it.
    """
    try:
        config: dict[str, Any] = json.loads(spec)
        parts = {part: config.get(part) for part in _TYPES}
        kinds = {name: part.get("type") if part else None for name, part in parts.items()}
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"tokenizer.json is not a tokenizer: {error}") from error
    for name, kind in kinds.items():
        if kind not in _TYPES[name] or (kind is None and parts[name]):
            known = ", ".join(map(str, _TYPES[name]))
            raise CheckpointError(f"tokenizer.json has {name} of type {kind}, expected one of {known}")
    if unknown := sorted(set(config) - _KNOWN):
        raise CheckpointError(
            f"tokenizer.json has {', '.join(unknown)}, expected only {', '.join(sorted(_KNOWN))}"
        )
    if config.get("version", _VERSION) != _VERSION:
        raise CheckpointError(f"tokenizer.json has version {config['version']!r}, expected {_VERSION!r}")
    if kinds["normalizer"] == "BertNormalizer":
        _check_normalizer(config["normalizer"])
    _check_model(config["model"], kinds["model"] == "WordPiece")
    return config | _IGNORED


def _check_normalizer(normalizer: dict[str, Any]) -> None:
    for name in ("clean_text", "handle_chinese_chars", "lowercase"):
        _check(f"normalizer.{name}", normalizer.get(name), (bool,), "true or false")
    _check(
        "normalizer.strip_accents", normalizer.get("strip_accents"), (bool, type(None)), "true, false or null"
    )


def _check_model(model: dict[str, Any], is_wordpiece: bool) -> None:
    if not model.get("vocab"):
        raise CheckpointError("tokenizer.json has an empty vocabulary, expected at least one token")
    _check("model.unk_token", model.get("unk_token"), (str,), "a string")
    if not is_wordpiece:
        return
    prefix, longest = model.get("continuing_subword_prefix"), model.get("max_input_chars_per_word")
    _check("model.continuing_subword_prefix", prefix, (str,), "a string")
    if not prefix:
        raise CheckpointError("tokenizer.json has an empty continuing_subword_prefix, expected one like '##'")
    if type(longest) is not int or not 0 <= longest < 2**63:
        raise CheckpointError(
            f"tokenizer.json has model.max_input_chars_per_word {longest!r}, expected an integer from 0 to 2**63 - 1"
        )


def _check(name: str, value: Any, types: tuple[type, ...], expected: str) -> None:
    if type(value) not in types:
        raise CheckpointError(f"tokenizer.json has {name} {value!r}, expected {expected}")
