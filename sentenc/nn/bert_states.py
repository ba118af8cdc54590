"""What a BERT computes on the way: embeddings, hidden states, and attention scores before their softmax."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class BertStates:
    """The inner states of a BERT of M layers and h heads for a batch.

    Attributes:
        inputs: What the model was given, by name; another model can be given the same.
        mask: (B, L) bool, True for tokens.
        embeddings: (B, L, d) after their normalization.
        hidden: M tensors (B, L, d), after each layer.
        scores: M tensors (B, h, L, L), query times key over the root of the head's size, before masking and
            softmax; entries of padding have no meaning.
        vectors: (B, dim) what the student gives for each text: sentence vectors, or logits.
    """

    inputs: Mapping[str, Tensor]
    mask: Tensor
    embeddings: Tensor
    hidden: tuple[Tensor, ...]
    scores: tuple[Tensor, ...]
    vectors: Tensor | None = None


def bert_states(model: nn.Module, inputs: Mapping[str, Tensor], mask: Tensor) -> BertStates:
    """Runs a model and keeps what it computes on the way; gradients flow through all of it.

    Args:
        model: A ``BertModel`` of transformers, or one built like it (RoBERTa, ELECTRA).
        inputs: Its inputs: ``input_ids``, ``attention_mask`` and, if there are two segments,
            ``token_type_ids``.
        mask: (B, L) bool, True for tokens.

    Raises:
        TypeError: The model has no attention as BERT has it.
    """
    attentions = attention_modules(model)
    projected: list[dict[str, Tensor]] = [{} for _ in attentions]
    with ExitStack() as stack:
        for attention, found in zip(attentions, projected, strict=True):
            for name in ("query", "key"):
                handle = getattr(attention, name).register_forward_hook(_keeper(found, name))
                stack.callback(handle.remove)
        output = model(**inputs, output_hidden_states=True)
    embeddings, *hidden = output.hidden_states
    scores = tuple(
        _scores(found["query"], found["key"], int(attention.num_attention_heads))
        for attention, found in zip(attentions, projected, strict=True)
    )
    return BertStates(inputs=inputs, mask=mask, embeddings=embeddings, hidden=tuple(hidden), scores=scores)


def attention_modules(model: nn.Module) -> list[Any]:
    """The self-attention of each layer, from below.

    Raises:
        TypeError: The model is not built like BERT.
    """
    try:
        layers: Any = model.encoder.layer  # type: ignore[union-attr]
        found = [layer.attention.self for layer in layers]
        heads = [attention.num_attention_heads for attention in found]
        kept = all(isinstance(part, nn.Linear) for a in found for part in (a.query, a.key)) and bool(heads)
    except AttributeError:
        kept = False
    if not kept:
        raise TypeError(
            f"{type(model).__name__} has no encoder.layer[i].attention.self with query and key, expected a "
            "model built like transformers' BertModel"
        )
    return found


def _keeper(found: dict[str, Tensor], name: str) -> Any:
    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        found[name] = output

    return keep


def _scores(query: Tensor, key: Tensor, heads: int) -> Tensor:
    batch, length, width = query.shape
    split = (batch, length, heads, width // heads)
    query, key = query.view(split).transpose(1, 2), key.view(split).transpose(1, 2)
    scores: Tensor = query @ key.transpose(2, 3) * (width // heads) ** -0.5
    return scores
