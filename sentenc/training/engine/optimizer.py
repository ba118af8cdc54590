"""Adam for dense and for sparse gradients behind one object, and clipping that knows both."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sentenc.training.config.trainer import TrainerConfig


class Optimizers:
    """AdamW for all parameters, SparseAdam for those with sparse gradients, with one schedule.

    Args:
        groups: Parameters by the name of their group.
        sparse: Those among them whose gradients are sparse tensors.
        config: Rates, decay and betas.

    Raises:
        ValueError: ``config.learning_rates`` names a group that is not there.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[nn.Parameter]],
        sparse: Sequence[nn.Parameter],
        config: TrainerConfig,
    ) -> None:
        unknown = sorted(set(config.learning_rates) - set(groups))
        if unknown:
            raise ValueError(
                f"learning_rates names {', '.join(unknown)}, expected groups of {', '.join(groups)}"
            )
        is_sparse = {id(parameter) for parameter in sparse}
        dense_groups: list[dict[str, Any]] = []
        sparse_groups: list[dict[str, Any]] = []
        for name, parameters in groups.items():
            peak = config.learning_rates.get(name, config.learning_rate)
            for found, wanted in ((dense_groups, False), (sparse_groups, True)):
                chosen = [p for p in parameters if (id(p) in is_sparse) == wanted]
                if chosen:
                    found.append({"params": chosen, "lr": peak, "peak": peak})
        self.all: list[torch.optim.Optimizer] = []
        if dense_groups:
            self.all.append(
                torch.optim.AdamW(
                    dense_groups, betas=config.betas, weight_decay=config.weight_decay, fused=True
                )
            )
        if sparse_groups:
            self.all.append(torch.optim.SparseAdam(sparse_groups, betas=config.betas))

    def step(self, rate: float) -> None:
        """Updates the weights with ``rate`` times the peak learning rates, and drops the gradients."""
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, Any]]:
        """What :meth:`load_state` takes."""
        return [optimizer.state_dict() for optimizer in self.all]

    def load_state(self, states: list[dict[str, Any]]) -> None:
        """Goes back to a state of the same parameters."""
        for optimizer, state in zip(self.all, states, strict=True):
            optimizer.load_state_dict(state)


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float | None) -> float:
    """Scales all gradients down to a norm of ``limit`` together, if theirs is larger.

    Args:
        parameters: Any; those without a gradient count nothing. Sparse gradients are coalesced.
        limit: None to leave them.

    Returns:
        The norm (Euclidean, over all) before.
    """
    values: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            # A row that a batch uses twice is in an uncoalesced gradient twice.
            parameter.grad = parameter.grad.coalesce()
            values.append(parameter.grad.values())
        else:
            values.append(parameter.grad)
    if not values:
        return 0.0
    norms = torch.stack([torch.linalg.vector_norm(value) for value in values])
    norm = float(torch.linalg.vector_norm(norms))
    if limit is not None and norm > limit:
        torch._foreach_mul_(values, limit / norm)
    return norm
