"""Attention in float32 inside a model that otherwise computes in bfloat16 on a CPU."""

from typing import Any

import torch
from torch import Tensor, nn

_NAME = "sentenc_float32"


def attend_in_float32(module: nn.Module) -> None:
    """Lets the transformers in a module compute attention in float32 under autocast; all else is unchanged.

    PyTorch's gradient of attention in bfloat16 takes longer on a CPU than all matrix products of a small BERT
    together, and longer than in float32.

    Args:
        module: Contains models of the ``transformers`` library. Those whose attention cannot be replaced are
            left unchanged.
    """
    for part in module.modules():
        if getattr(part, "_supports_attention_backend", False) and _attention(part) == "sdpa":
            _register()
            part.set_attn_implementation(_NAME)  # type: ignore[operator]


def _attention(model: Any) -> Any:
    return getattr(model.config, "_attn_implementation", None)


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def attend(
        layer: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, None]:
        if mask is not None and mask.is_floating_point():
            mask = mask.float()
        with torch.autocast(query.device.type, enabled=False):
            output, _ = sdpa_attention_forward(
                layer, query.float(), key.float(), value.float(), mask, **options
            )
        return output.to(query.dtype), None

    AttentionInterface.register(_NAME, attend)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
