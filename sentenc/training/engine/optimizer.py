"""AdamW for dense and SparseAdam for sparse gradients behind one object, and gradient clipping for both."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sentenc.training.config.trainer import TrainerConfig


class Optimizer:
    """AdamW, and SparseAdam for parameters with sparse gradients, with one learning rate schedule.

    Args:
        groups: Parameters by the name of their group.
        sparse: Those of the parameters whose gradients are sparse tensors.
        config: Learning rates, weight decay and betas.
        weight_decays: Weight decay of the groups for which it is not ``config.weight_decay``.

    Raises:
        ValueError: ``config.learning_rates`` names an unknown group.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[nn.Parameter]],
        sparse: Sequence[nn.Parameter],
        config: TrainerConfig,
        weight_decays: Mapping[str, float] | None = None,
    ) -> None:
        unknown = sorted(set(config.learning_rates) - set(groups))
        if unknown:
            raise ValueError(
                f"learning_rates names {', '.join(unknown)}, expected some of {', '.join(groups)}"
            )
        is_sparse = {id(parameter) for parameter in sparse}
        dense_groups: list[dict[str, Any]] = []
        sparse_groups: list[dict[str, Any]] = []
        for name, parameters in groups.items():
            peak = config.learning_rates.get(name, config.learning_rate)
            decay = (weight_decays or {}).get(name, config.weight_decay)
            for optimizer_groups, for_sparse in ((dense_groups, False), (sparse_groups, True)):
                chosen = [p for p in parameters if (id(p) in is_sparse) == for_sparse]
                if chosen:
                    group: dict[str, Any] = {"params": chosen, "lr": peak, "peak": peak}
                    # SparseAdam has no weight decay.
                    optimizer_groups.append(group if for_sparse else group | {"weight_decay": decay})
        self.optimizers: list[torch.optim.Optimizer] = []
        if dense_groups:
            self.optimizers.append(torch.optim.AdamW(dense_groups, betas=config.betas, fused=True))
        if sparse_groups:
            self.optimizers.append(torch.optim.SparseAdam(sparse_groups, betas=config.betas))

    def step(self, rate: float) -> None:
        """Updates the weights with ``rate`` times the peak learning rates, and clears the gradients."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, Any]]:
        """Returns the state of the optimizers, for :meth:`load_state`."""
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def load_state(self, states: list[dict[str, Any]]) -> None:
        """Restores a state that :meth:`state` returned for the same parameters."""
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float | None) -> float:
    """Scales all gradients by one factor so that their joint norm is at most ``limit``.

    Args:
        parameters: Those without a gradient are skipped. Sparse gradients are coalesced.
        limit: None leaves the gradients unchanged.

    Returns:
        The Euclidean norm of all gradients together, before clipping.
    """
    values: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            # An uncoalesced gradient contains a row twice if the batch uses it twice.
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


def check_sparse(
    config: TrainerConfig, groups: dict[str, list[nn.Parameter]], sparse: list[nn.Parameter]
) -> None:
    """Checks that the parameters with sparse gradients fit to the configuration.

    Args:
        config: The configuration.
        groups: The parameters of each group.
        sparse: The parameters with sparse gradients.

    Raises:
        ValueError: ``config`` and the student differ in them, or one of them is regularized.
    """
    if config.sparse_embeddings != bool(sparse):
        raise ValueError(
            f"sparse_embeddings is {config.sparse_embeddings}, but the student has {len(sparse)} parameters "
            "with sparse gradients: pass the same setting to both"
        )
    is_sparse = {id(parameter) for parameter in sparse}
    for group, strength in config.regularization.items():
        if strength and any(id(parameter) in is_sparse for parameter in groups.get(group, ())):
            raise ValueError(
                f"regularization.{group} is {strength} with sparse_embeddings: use only one of them, because "
                "the penalty has a gradient for every row"
            )
