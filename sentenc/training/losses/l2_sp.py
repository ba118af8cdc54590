"""L2-SP regularization: quadratic penalties that keep parameters near their initial values, or near zero."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from sentenc.validation import check_number


class L2SP(nn.Module):
    """The sum over groups of 0.5 * strength * ||theta - theta_0||^2, or of 0.5 * strength * ||theta||^2.

    theta_0 are the values of the parameters when this object is created. They are part of ``state_dict``, for
    runs that are resumed. The penalty is a sum over all parameters and does not depend on the batch: the
    papers' LW (embeddings, towards their initial values, 1e-6 in CSE) and LC (the rest, towards zero). Its
    gradients are dense, so it cannot be combined with sparse gradients.

    Source: Li, Grandvalet, Davoine: "Explicit inductive bias for transfer learning", ICML 2018 (the name);
    Wieting et al., ICLR 2016; released code of Jiao et al., COLING 2018.

    Args:
        groups: The parameters of each group, by the group's name.
        strengths: The strength of a group's penalty, by the group's name. Other groups are not penalized.
        to_zero: The names of the groups that are drawn towards zero instead of their initial values.

    Raises:
        TypeError: A strength is not a number.
        ValueError: A strength has the name of no group, or is negative or not finite.
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
                f"unknown groups {', '.join(unknown)} in regularization, expected some of "
                f"{', '.join(sorted(groups))}"
            )
        # Each item is the strength, a parameter, and the name of the buffer with its initial value. In a
        # plain list the parameters stay the student's: they must not be among this module's.
        self._terms: list[tuple[float, nn.Parameter, str | None]] = []
        for group, strength in strengths.items():
            if check_number(f"regularization.{group}", strength, at_least=0) == 0:
                continue
            for number, parameter in enumerate(groups[group]):
                name = None if group in to_zero else f"start_{group}_{number}"
                if name is not None:
                    self.register_buffer(name, parameter.detach().clone())
                self._terms.append((strength, parameter, name))

    def __bool__(self) -> bool:
        """Whether any parameter is penalized."""
        return bool(self._terms)

    def penalty(self) -> Tensor:
        """Returns the penalty, a scalar to add to the loss: zero without gradient if nothing is penalized."""
        total = torch.zeros(())
        for strength, parameter, name in self._terms:
            difference = parameter if name is None else parameter - self.get_buffer(name)
            total = total.to(parameter.device) + 0.5 * strength * (difference * difference).sum()
        return total

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Adds the penalty's gradient to the parameters' gradients, faster than ``penalty().backward()``."""
        for strength, parameter, name in self._terms:
            difference = parameter if name is None else parameter - self.get_buffer(name)
            if parameter.grad is None:
                parameter.grad = strength * difference
            else:
                parameter.grad.add_(difference, alpha=strength)
