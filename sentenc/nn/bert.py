"""A PyTorch module that computes sentence vectors by pooling over a BERT."""

from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from sentenc.encoders.bert.config import Pooling
from sentenc.nn.bert_states import BertStates, bert_states
from sentenc.validation import check_choice


class BertSentenceModule(nn.Module):
    """Computes sentence vectors from a BERT's last hidden states (Reimers and Gurevych, 2019).

    Args:
        model: A ``transformers.BertModel``, or a model with the same inputs and ``last_hidden_state``.
        normalize: Scale every vector to unit length. A zero vector stays zero.
        pooling: ``"mean"`` of all last hidden states, or ``"cls"``, the one of the first token.

    Raises:
        ValueError: ``pooling`` is neither.
    """

    def __init__(self, model: nn.Module, *, normalize: bool = False, pooling: Pooling = "mean") -> None:
        super().__init__()
        check_choice("pooling", pooling, get_args(Pooling))
        self.model = model
        self.normalize = normalize
        self.pooling = pooling

    @property
    def dim(self) -> int:
        """Number of components of a vector: the hidden size."""
        config: Any = self.model.config
        return int(config.hidden_size)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Computes sentence vectors.

        Args:
            ids: Token ids (B, L) int64, special tokens included. Ids beyond a sentence's length are ignored.
            lengths: Number of tokens of each sentence, 0 to L: (B,) int64.

        Returns:
            Shape (B, hidden_size), float; the zero vector for a sentence without tokens.
        """
        inputs, mask = _inputs(ids, lengths)
        return self._pooled(self.model(**inputs).last_hidden_state, mask)

    def states(self, ids: Tensor, lengths: Tensor) -> BertStates:
        """Computes intermediate outputs and sentence vectors; the arguments are those of :meth:`forward`."""
        inputs, mask = _inputs(ids, lengths)
        states = bert_states(self.model, inputs, mask)
        return replace(states, vectors=self._pooled(states.hidden[-1], mask))

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        weights = mask[..., None].to(states.dtype)
        if self.pooling == "cls":
            # The factor makes the vector of a sentence without tokens zero.
            pooled = states[:, 0] * weights[:, 0]
        else:
            pooled = (states * weights).sum(1) / weights.sum(1).clamp(min=1)
        return nn.functional.normalize(pooled, dim=1) if self.normalize else pooled


def _inputs(ids: Tensor, lengths: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    # A sentence without tokens would attend to nothing, for which some implementations of attention return
    # NaN. It attends to its first position instead, which pooling leaves out.
    attended = mask.clone()
    attended[:, 0] = True
    return {"input_ids": ids.masked_fill(~mask, 0), "attention_mask": attended.long()}, mask
