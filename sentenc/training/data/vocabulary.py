"""Counts tokens, and prunes WordPiece vocabularies to the most frequent tokens."""

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.tokenization.tokenizer import Tokenizer

_TEXTS_PER_CALL = 8192
_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def token_frequencies(tokenizer: Tokenizer, texts: Iterable[str]) -> npt.NDArray[np.int64]:
    """Counts how often each token occurs in the texts: (V,) int64. Skipped words are not counted."""
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    stream = iter(texts)
    while block := list(islice(stream, _TEXTS_PER_CALL)):
        counts += np.bincount(tokenizer.encode(block)[0], minlength=len(counts))
    return counts


def prune_vocabulary(
    tokenizer: Tokenizer, frequencies: npt.NDArray[np.integer], keep: int
) -> tuple[Tokenizer, npt.NDArray[np.int64]]:
    """Prunes a WordPiece tokenizer to its ``keep`` most frequent tokens.

    Some tokens are kept whatever their frequency: special tokens, single characters, continuations of one
    character, and tokens with a character that has no single-character token for its position. A word that
    could be tokenized then still can, possibly into more pieces. This is certain if every character has both
    of its single-character tokens, as in BERT's English vocabularies. In other vocabularies a word can become
    unknown at the border of two tokens that are kept for such a character.

    Args:
        tokenizer: A WordPiece tokenizer with V ids.
        frequencies: Number of occurrences of each id, (V,); see :func:`token_frequencies`.
        keep: Number of tokens of the new vocabulary.

    Returns:
        The new tokenizer, and the old id of each new id, (keep,) int64, in rising order. They are the rows of
        an embedding matrix to keep.

    Raises:
        ValueError: The tokenizer is not WordPiece, ``frequencies`` has another shape, or ``keep`` is more
            than V or less than the number of tokens that must be kept.
    """
    config = json.loads(tokenizer.spec)
    vocabulary = tokenizer.vocabulary
    if config["model"]["type"] != "WordPiece":
        raise ValueError(f"the tokenizer is {config['model']['type']}, expected WordPiece")
    if frequencies.shape != (tokenizer.vocab_size,):
        raise ValueError(f"frequencies has shape {frequencies.shape}, expected ({tokenizer.vocab_size},)")
    required = _required(config["model"], vocabulary)
    if not len(required) <= keep <= len(vocabulary):
        raise ValueError(
            f"keep is {keep}, expected {len(required)} (special tokens and single characters) to "
            f"{len(vocabulary)} (the whole vocabulary)"
        )
    others = np.array(sorted(set(vocabulary.values()) - required), np.int64)
    # Of equally frequent tokens, the first are kept: most vocabularies are roughly sorted by frequency.
    chosen = others[np.argsort(-frequencies[others], kind="stable")[: keep - len(required)]]
    kept = np.sort(np.concatenate([np.array(sorted(required), np.int64), chosen]))
    by_id = {index: token for token, index in vocabulary.items()}
    config["model"]["vocab"] = {by_id[int(old)]: new for new, old in enumerate(kept)}
    return Tokenizer(json.dumps(config), skip_unknown=tokenizer.skip_unknown), kept


def _required(model: dict[str, Any], vocabulary: dict[str, int]) -> set[int]:
    # The ids that are kept whatever their frequency.
    prefix = model.get("continuing_subword_prefix", "##")
    special = {*_SPECIAL_TOKENS, model.get("unk_token")}
    required = set()
    for token, index in vocabulary.items():
        continues = token.startswith(prefix) and token != prefix
        body = token[len(prefix) :] if continues else token
        singles = [prefix + c for c in body] if continues else [body[:1], *(prefix + c for c in body[1:])]
        if (
            token in special
            or len(body) <= 1
            or (not _is_marker(token) and not vocabulary.keys() >= set(singles))
        ):
            required.add(index)
    return required


def _is_marker(token: str) -> bool:
    # Such as "[unused12]": no text is tokenized into it, because brackets are split off.
    return len(token) > 2 and token[0] == "[" and token[-1] == "]"
