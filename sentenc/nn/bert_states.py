"""Intermediate outputs of a BERT: embeddings, hidden states and pre-softmax attention scores."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class BertStates:
    """The intermediate outputs of a BERT with M layers and h heads for a batch of B texts.

    Attributes:
        inputs: The inputs of the model by name, which another model can be called with.
        mask: True for tokens, False for padding: (B, L) bool.
        embeddings: The normalized embeddings, (B, L, d).
        hidden: The hidden states after each layer, M tensors (B, L, d).
        scores: The attention scores before masking and softmax, M tensors (B, h, L, L): query times key,
            divided by the square root of the head's size. Scores of padding have no meaning.
        vectors: The outputs of the student, sentence vectors or logits (B, dim). None for a bare model.
    """

    inputs: Mapping[str, Tensor]
    mask: Tensor
    embeddings: Tensor
    hidden: tuple[Tensor, ...]
    scores: tuple[Tensor, ...]
    vectors: Tensor | None = None


def bert_states(model: nn.Module, inputs: Mapping[str, Tensor], mask: Tensor) -> BertStates:
    """Runs a model and returns its intermediate outputs. Gradients flow through all of them.

    Args:
        model: A ``BertModel`` of transformers, or a model built like it (RoBERTa, ELECTRA).
        inputs: The inputs of the model: ``input_ids``, ``attention_mask`` and, if there are two segments,
            ``token_type_ids``.
        mask: True for tokens, False for padding: (B, L) bool.

    Raises:
        TypeError: The model's attention modules are not built like BERT's.
    """
    attentions = attention_modules(model)
    projected: list[dict[str, Tensor]] = [{} for _ in attentions]
    with ExitStack() as stack:
        for attention, outputs in zip(attentions, projected, strict=True):
            for name in ("query", "key"):
                handle = getattr(attention, name).register_forward_hook(_recorder(outputs, name))
                stack.callback(handle.remove)
        output = model(**inputs, output_hidden_states=True)
    embeddings, *hidden = output.hidden_states
    scores = tuple(
        _scores(outputs["query"], outputs["key"], int(attention.num_attention_heads))
        for attention, outputs in zip(attentions, projected, strict=True)
    )
    return BertStates(inputs=inputs, mask=mask, embeddings=embeddings, hidden=tuple(hidden), scores=scores)


def attention_modules(model: nn.Module) -> list[Any]:
    """Returns the self-attention module of each layer, from the first layer to the last.

    Raises:
        TypeError: The model is not built like BERT.
    """
    try:
        layers: Any = model.encoder.layer  # type: ignore[union-attr]
        modules = [layer.attention.self for layer in layers]
        heads = [module.num_attention_heads for module in modules]
        is_bert = bool(heads) and all(isinstance(p, nn.Linear) for m in modules for p in (m.query, m.key))
    except AttributeError:
        is_bert = False
    if not is_bert:
        raise TypeError(
            f"{type(model).__name__} has no encoder.layer[i].attention.self with query and key, expected a "
            "model built like transformers' BertModel"
        )
    return modules


def _recorder(outputs: dict[str, Tensor], name: str) -> Any:
    def record(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        outputs[name] = output

    return record


def _scores(query: Tensor, key: Tensor, heads: int) -> Tensor:
    batch, length, width = query.shape
    split = (batch, length, heads, width // heads)
    query, key = query.view(split).transpose(1, 2), key.view(split).transpose(1, 2)
    scores: Tensor = query @ key.transpose(2, 3) * (width // heads) ** -0.5
    return scores
