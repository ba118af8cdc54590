"""BERT with masked mean pooling as a sentence encoder: the module that training uses."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sentenc.nn.bert_states import BertStates, bert_states


class BertSentenceModule(nn.Module):
    """Sentence vectors as the mean of a BERT's last hidden states (Reimers and Gurevych, 2019).

    Args:
        model: A ``transformers.BertModel``, or any model with its inputs and ``last_hidden_state``.
        normalize: Scale every vector to unit length (a zero vector stays zero).
    """

    def __init__(self, model: nn.Module, *, normalize: bool = False) -> None:
        super().__init__()
        self.model = model
        self.normalize = normalize

    @property
    def dim(self) -> int:
        """Length of the vectors: the hidden size."""
        config: Any = self.model.config
        return int(config.hidden_size)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Sentence vectors.

        Args:
            ids: (B, L) int64 token ids, special tokens included; what stands beyond a sentence's
                length is ignored.
            lengths: (B,) int64, tokens of each sentence, 0 to L.

        Returns:
            (B, hidden) float; the zero vector for a sentence without tokens.
        """
        inputs, mask = _inputs(ids, lengths)
        return self._pooled(self.model(**inputs).last_hidden_state, mask)

    def states(self, ids: Tensor, lengths: Tensor) -> BertStates:
        """What the model computes on the way to the sentence vectors, and these; arguments as in forward."""
        inputs, mask = _inputs(ids, lengths)
        found = bert_states(self.model, inputs, mask)
        return replace(found, vectors=self._pooled(found.hidden[-1], mask))

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        kept = mask[..., None].to(states.dtype)
        mean = (states * kept).sum(1) / kept.sum(1).clamp(min=1)
        return nn.functional.normalize(mean, dim=1) if self.normalize else mean


def _inputs(ids: Tensor, lengths: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    # A row that attends to nothing is left to the implementation of attention, and may be NaN:
    # it attends to its first position instead, and is left out of the mean.
    attended = mask.clone()
    attended[:, 0] = True
    return {"input_ids": ids.masked_fill(~mask, 0), "attention_mask": attended.long()}, mask
