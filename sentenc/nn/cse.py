"""CSE as a torch module: the dense form that training uses.

Jiao, Wang, Feng: "Convolutional Neural Network for Universal Sentence Embeddings", COLING 2018.
:class:`sentenc.CSE` computes the same vectors by look-ups.
"""

import torch
from torch import Tensor, nn

from sentenc.encoders.cse_config import CSEConfig


class CSEModule(nn.Module):
    """The n-gram CNN of a :class:`~sentenc.CSEConfig`, differentiable.

    Parameters are named and shaped as in a checkpoint (``CSEConfig.shapes``), ``token_weights``
    being w in a_i = exp(w). The output maps Q_h start at zero, so that with ``combine="residual"``
    training starts from a word average. The filters start uniform (Glorot), from ``generator``.

    Args:
        config: The shape.
        generator: Source of the random start.
    """

    def __init__(self, config: CSEConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.weights = nn.ParameterDict()
        for name, shape in config.shapes().items():
            # A dot would mean a sub-module to torch.
            self.weights[name.replace(".", "_")] = nn.Parameter(torch.zeros(shape))
        with torch.no_grad():
            self._initialise(generator)

    def _initialise(self, generator: torch.Generator | None) -> None:
        config = self.config
        self["embeddings"].normal_(0.0, config.embedding_dim**-0.5, generator=generator)
        if "projection" in self.weights:
            nn.init.eye_(self["projection"])
        for h in config.widths:
            bound = (6.0 / (h * config.embedding_dim + config.num_filters)) ** 0.5
            self[f"filters.{h}"].uniform_(-bound, bound, generator=generator)

    def __getitem__(self, name: str) -> Tensor:
        """A weight by the name it has in a checkpoint."""
        weight: Tensor = self.weights[name.replace(".", "_")]
        return weight

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Sentence vectors.

        Args:
            ids: (B, L) int64 token ids; what stands beyond a sentence's length is ignored.
            lengths: (B,) int64, tokens of each sentence, 0 to L.

        Returns:
            (B, dim) float; the zero vector for a sentence without tokens.
        """
        config = self.config
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        ids = ids.masked_fill(~mask, 0)
        x = nn.functional.embedding(ids, self["embeddings"]) * mask[..., None]
        parts = [self._words(x, ids, mask)] if config.word_path else []
        for h in config.widths:
            features = self._ngrams(x, lengths, h)
            if config.combine == "residual":
                parts[0] = parts[0] + features @ self[f"output.{h}"]
            else:
                parts.append(features)
        return torch.cat(parts, dim=1) * (lengths > 0)[:, None]

    def _words(self, x: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        # u P, with u = sum_i a_i x_i / sum_i a_i.
        a = torch.exp(nn.functional.embedding(ids, self["token_weights"][:, None]).squeeze(2)) * mask
        u = torch.bmm(a[:, None], x).squeeze(1) / a.sum(1, keepdim=True).clamp(min=1e-30)
        return u @ self["projection"] if "projection" in self.weights else u

    def _ngrams(self, x: Tensor, lengths: Tensor, h: int) -> Tensor:
        # s_h. The convolution is one product and h - 1 shifted additions.
        config = self.config
        padded = nn.functional.pad(x, (0, 0, 0, h - 1))
        positions = padded.shape[1] - h + 1
        taps = torch.einsum("bld,jdk->jblk", padded, self[f"filters.{h}"])
        z = sum((taps[j][:, j : j + positions] for j in range(h)), start=self[f"biases.{h}"])
        z = _activate(z, config.phi)
        count = lengths if config.windows == "padded" else (lengths - h + 1).clamp(min=1)
        inside = (torch.arange(positions, device=x.device) < count[:, None])[..., None]
        if config.pooling == "max":
            return z.masked_fill(~inside, -torch.inf).amax(1).masked_fill(count[:, None] == 0, 0.0)
        s = (z * inside).sum(1)
        return s / count.clamp(min=1)[:, None] if config.pooling == "mean" else s


def _activate(z: Tensor, phi: str) -> Tensor:
    if phi == "identity":
        return z
    if phi == "gelu":
        return nn.functional.gelu(z)
    return torch.tanh(z) if phi == "tanh" else torch.relu(z)
