"""Vocabularies of students: how often tokens occur, and a smaller WordPiece vocabulary from a large one."""

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.tokenization.tokenizer import Tokenizer

# Texts that are tokenized at a time.
_BLOCK = 8192
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def token_frequencies(tokenizer: Tokenizer, texts: Iterable[str]) -> npt.NDArray[np.int64]:
    """How often each token occurs in any number of texts: (V,) int64. Skipped words count nowhere."""
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    stream = iter(texts)
    while block := list(islice(stream, _BLOCK)):
        counts += np.bincount(tokenizer.encode(block)[0], minlength=len(counts))
    return counts


def prune_vocabulary(
    tokenizer: Tokenizer, frequencies: npt.NDArray[np.integer], keep: int
) -> tuple[Tokenizer, npt.NDArray[np.int64]]:
    """A WordPiece tokenizer of ``keep`` tokens, the most frequent ones of another.

    Whatever their frequency, it keeps special tokens, single characters, continuations of one
    character, and every token with a character that is not there by itself where the token has it: so
    a word that was tokenized still is, maybe into more pieces. That is certain where every character
    has both tokens of its own, as in BERT's English vocabularies; elsewhere a word can be lost at the
    border of two tokens that are kept for such a character.

    Args:
        tokenizer: A WordPiece tokenizer of V ids.
        frequencies: How often each id occurs, (V,); see :func:`token_frequencies`.
        keep: Tokens that the new vocabulary has.

    Returns:
        The new tokenizer, and the old id of each of its ids, (keep,) int64, rising: the rows of an
        embedding matrix that it needs.

    Raises:
        ValueError: It is no WordPiece tokenizer, the frequencies are of another length, or ``keep`` is
            above V or below what has to be kept.
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
            f"{len(vocabulary)} (all there are)"
        )
    others = np.array(sorted(set(vocabulary.values()) - required), np.int64)
    # Of equally frequent tokens the first come first: vocabularies are sorted by frequency, roughly.
    chosen = others[np.argsort(-frequencies[others], kind="stable")[: keep - len(required)]]
    kept = np.sort(np.concatenate([np.array(sorted(required), np.int64), chosen]))
    by_id = {index: token for token, index in vocabulary.items()}
    config["model"]["vocab"] = {by_id[int(old)]: new for new, old in enumerate(kept)}
    return Tokenizer(json.dumps(config), skip_unknown=tokenizer.skip_unknown), kept


def _required(model: dict[str, Any], vocabulary: dict[str, int]) -> set[int]:
    # Ids that no frequency can drop.
    prefix = model.get("continuing_subword_prefix", "##")
    special = {*_SPECIAL, model.get("unk_token")}
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
    # "[unused12]" and the like: no text has them, since brackets are split off.
    return len(token) > 2 and token[0] == "[" and token[-1] == "]"
