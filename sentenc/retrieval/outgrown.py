"""Detects that an index has outgrown the encoder of queries that was set for it."""

from collections.abc import Sequence
from typing import Any

from sentenc.encoders.base import Encoder
from sentenc.encoders.cse.encoder import CSE
from sentenc.encoders.hybrid.encoder import HybridEncoder

# More unknown words than this share suggest that the new texts are about something else.
_MANY_UNKNOWN = 0.05
# Texts that words are looked up in.
_SAMPLE = 1_000


def unknown_share(encoder: Encoder, texts: Sequence[str]) -> float | None:
    """Returns the share of the tokens of texts that an encoder has no vector for.

    ``sentenc align`` leaves the rows of tokens at zero that no training text contained.

    Args:
        encoder: The encoder of queries.
        texts: Any number of texts.

    Returns:
        From 0 to 1; 0 if the texts have no tokens. None for an encoder that is no CSE.
    """
    if isinstance(encoder, HybridEncoder):
        encoder = encoder.encoder
    if not isinstance(encoder, CSE):
        return None
    rows, _ = encoder.stored_weight("embeddings")
    ids = encoder.tokenizer.encode(list(texts), encoder.max_tokens)[0]
    return float(1 - rows[ids].any(axis=1).mean()) if len(ids) else 0.0


def outgrown(info: dict[str, Any], encoder: Encoder | None, new_texts: Sequence[str]) -> str | None:
    """Returns a warning if an index has outgrown its encoder of queries, or else None.

    It has if it has more than twice the items that it had when the encoder was set, or if the encoder does not
    know more than 5 % of the tokens of new texts.

    Args:
        info: The result of :meth:`sentenc.Index.info`.
        encoder: The encoder of queries.
        new_texts: Texts that were added.
    """
    described = info["query encoder"]
    if encoder is None or described is None:
        return None
    reasons = []
    before = described.get("items")
    if before is not None and info["items"] > 2 * before:
        reasons.append(f"the index had {before:,} items when it was set, and has {info['items']:,} now")
    step = max(1, len(new_texts) // _SAMPLE)
    unknown = unknown_share(encoder, new_texts[::step])
    if unknown is not None and unknown > _MANY_UNKNOWN:
        reasons.append(f"it does not know {unknown:.0%} of the word pieces of the new texts")
    if not reasons:
        return None
    name = described["model"] or "without a name"
    return (
        f"the index has outgrown its encoder of queries, {name}: {'; '.join(reasons)}. Fit it again with "
        "`sentenc align`, and set it with `sentenc index set-query-encoder`"
    )
