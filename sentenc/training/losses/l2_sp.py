"""The quadratic penalties of paraphrastic training: stay near the start, or near zero."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn


class L2SP(nn.Module):
    """The sum over groups of 0.5 * strength * ||theta - theta_0||^2, or of 0.5 * strength * ||theta||^2.

    theta_0 is what the parameters are when this is made; it is in ``state_dict``, for a run that is
    resumed. It is a sum over all parameters, whatever the batch: the papers' LW (embeddings, towards the
    start, 1e-6 in CSE) and LC (the rest, towards zero). Gradients are dense, so that it does not go with
    sparse ones. Source: Wieting et al., ICLR 2016; released code of Jiao et al., COLING 2018.

    Args:
        groups: Parameters by the name of their group.
        strengths: By the name of a group; other groups are free.
        to_zero: Groups that are drawn towards zero instead of towards their start.

    Raises:
        ValueError: A strength names no group, or is negative or not finite.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[nn.Parameter]],
        strengths: Mapping[str, float],
        to_zero: Collection[str] = ("ngrams",),
    ) -> None:
        super().__init__()
        unknown = sorted(set(strengths) - set(groups))
        if unknown:
            raise ValueError(
                f"regularization names {', '.join(unknown)}; groups are {', '.join(sorted(groups))}"
            )
        # Pairs of a parameter and the name of the buffer with its start, by strength. A plain list, because
        # the parameters are the student's and must not turn up among this module's.
        self._terms: list[tuple[float, nn.Parameter, str | None]] = []
        for group, strength in strengths.items():
            if not (0 <= strength < float("inf")):
                raise ValueError(f"regularization strength of {group} must be 0 or more, got {strength}")
            if strength == 0:
                continue
            for number, parameter in enumerate(groups[group]):
                name = None if group in to_zero else f"start_{group}_{number}"
                if name is not None:
                    self.register_buffer(name, parameter.detach().clone())
                self._terms.append((strength, parameter, name))

    def __bool__(self) -> bool:
        """Whether there is anything to add to the loss."""
        return bool(self._terms)

    def penalty(self) -> Tensor:
        """The penalty now, a scalar to add to the loss; zero without gradient if nothing is regularized."""
        total = torch.zeros(())
        for strength, parameter, name in self._terms:
            difference = parameter if name is None else parameter - self.get_buffer(name)
            total = total.to(parameter.device) + 0.5 * strength * (difference * difference).sum()
        return total

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Adds the penalty's gradient to that of the parameters, which is what backward of it would do, but cheaper."""
        for strength, parameter, name in self._terms:
            difference = parameter if name is None else parameter - self.get_buffer(name)
            if parameter.grad is None:
                parameter.grad = strength * difference
            else:
                parameter.grad.add_(difference, alpha=strength)
