"""A CSE as a PyTorch module, in the dense form that training uses.

Jiao, Wang, Feng: "Convolutional Neural Network for Universal Sentence Embeddings", COLING 2018.
:class:`sentenc.CSE` computes the same vectors by table look-ups.
"""

import torch
from torch import Tensor, nn

from sentenc.encoders.cse.config import CSEConfig


class CSEModule(nn.Module):
    """The differentiable n-gram CNN of a :class:`~sentenc.CSEConfig`.

    Parameters have the names and shapes of a checkpoint (``CSEConfig.shapes``); ``token_weights`` is w in
    a_i = exp(w). The output matrices Q_h are initialized with zeros, so that with ``combine="residual"`` the
    untrained model is a word average. The filters are initialized uniformly (Glorot) from ``generator``.

    Args:
        config: The shape of the model.
        generator: Source of the random initial weights.
        dropout: Share of the elements of token embeddings that is dropped, in training mode only.
        word_dropout: Share of the tokens whose whole embedding is dropped, in training mode only. The
            elements that are not dropped are scaled up (Srivastava et al., 2014), which keeps expected
            values.

    Attributes:
        ngrams_active: Whether ``forward`` computes the n-gram path. If False, its features are zero, and the
            word path is trained at a fraction of the cost.
        sparse_embeddings: Whether the gradient of ``embeddings`` is a sparse tensor of the rows that a batch
            used.

    Raises:
        ValueError: A dropout rate is not in [0, 1).
    """

    def __init__(
        self,
        config: CSEConfig,
        generator: torch.Generator | None = None,
        *,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for name, rate in (("dropout", dropout), ("word_dropout", word_dropout)):
            if not 0.0 <= rate < 1.0:
                raise ValueError(f"{name} is {rate}, expected a number in [0, 1)")
        self.config = config
        self.dropout = dropout
        self.word_dropout = word_dropout
        self.ngrams_active = True
        self.sparse_embeddings = False
        self.weights = nn.ParameterDict()
        for name, shape in config.shapes().items():
            # PyTorch does not allow a dot in the name of a parameter.
            self.weights[name.replace(".", "_")] = nn.Parameter(torch.zeros(shape))
        with torch.no_grad():
            self._initialize(generator)

    def _initialize(self, generator: torch.Generator | None) -> None:
        config = self.config
        self["embeddings"].normal_(0.0, config.embedding_dim**-0.5, generator=generator)
        if config.average_dim:
            self["average"].normal_(0.0, config.average_dim**-0.5, generator=generator)
        if "projection" in self.weights:
            nn.init.eye_(self["projection"])
        for h in config.widths:
            bound = (6.0 / (h * config.embedding_dim + config.num_filters)) ** 0.5
            self[f"filters.{h}"].uniform_(-bound, bound, generator=generator)

    def __getitem__(self, name: str) -> Tensor:
        """Returns a weight by its name in a checkpoint."""
        weight: Tensor = self.weights[name.replace(".", "_")]
        return weight

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Computes sentence vectors.

        Args:
            ids: Token ids (B, L) int64. Ids beyond a sentence's length are ignored.
            lengths: Number of tokens of each sentence, 0 to L: (B,) int64.

        Returns:
            Shape (B, dim), float; the zero vector for a sentence without tokens.
        """
        config = self.config
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        ids = ids.masked_fill(~mask, 0)
        # Most tokens occur several times in a batch. Everything that depends on one token alone is computed
        # once, in a table of the batch's distinct tokens, with a last row of zeros for padding.
        tokens, places = torch.unique(ids, return_inverse=True)
        rows = nn.functional.embedding(tokens, self["embeddings"], sparse=self.sparse_embeddings)
        rows = nn.functional.pad(rows, (0, 0, 0, 1))
        places = places.masked_fill(~mask, len(tokens))
        x = self._drop(nn.functional.embedding(places, rows))
        parts = [self._words(x, ids, mask)] if config.word_path else []
        if config.bias:
            parts[0] = parts[0] + self["bias"] / lengths.clamp(min=1)[:, None]
        average = [self._average(ids, mask)] if config.average_dim else []
        for h in config.widths if self.ngrams_active else ():
            features = self._pool(self._windows(x, rows, places, h), lengths, h)
            if config.combine != "concat":
                parts[0] = parts[0] + features @ self[f"output.{h}"]
            if config.combine != "residual":
                parts.append(features)
        if config.combine != "residual" and not self.ngrams_active:
            parts.append(x.new_zeros(len(x), config.num_features))
        # The average comes between the sentence vector, if there is one, and the features.
        place = int(config.word_path)
        return torch.cat([*parts[:place], *average, *parts[place:]], dim=1) * (lengths > 0)[:, None]

    def _average(self, ids: Tensor, mask: Tensor) -> Tensor:
        # mean_i y_i.
        weights = mask / mask.sum(1, keepdim=True).clamp(min=1)
        return nn.functional.embedding_bag(
            ids, self["average"], mode="sum", per_sample_weights=weights.to(self["average"].dtype)
        )

    def _drop(self, x: Tensor) -> Tensor:
        # A dropped token still counts in the denominators, which the rescaling compensates on average.
        if self.training and self.word_dropout:
            x = x * nn.functional.dropout(x.new_ones(*x.shape[:2], 1), self.word_dropout)
        if self.training and self.dropout:
            x = nn.functional.dropout(x, self.dropout)
        return x

    def _words(self, x: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        # u P, with u = sum_i a_i x_i / sum_i a_i.
        a = torch.exp(nn.functional.embedding(ids, self["token_weights"][:, None]).squeeze(2)) * mask
        u = torch.bmm(a[:, None], x).squeeze(1) / a.sum(1, keepdim=True).clamp(min=1e-30)
        return u @ self["projection"] if "projection" in self.weights else u

    def _windows(self, x: Tensor, rows: Tensor, places: Tensor, h: int) -> Tensor:
        # phi of every window, (B, L, k): multiplies each token by the filters, and adds h shifted products.
        filters, positions = self[f"filters.{h}"], places.shape[1]
        if self.training and (self.dropout or self.word_dropout):
            # Dropout differs between positions, so products of the same token cannot be shared.
            taps = torch.einsum("bld,jdk->jblk", nn.functional.pad(x, (0, 0, 0, h - 1)), filters)
            parts = [taps[j][:, j : j + positions] for j in range(h)]
        else:
            table = torch.einsum("ud,jdk->juk", rows, filters)
            places = nn.functional.pad(places, (0, h - 1), value=len(rows) - 1)
            parts = [nn.functional.embedding(places[:, j : j + positions], table[j]) for j in range(h)]
        return _activate(sum(parts, start=self[f"biases.{h}"]), self.config.phi)

    def _pool(self, z: Tensor, lengths: Tensor, h: int) -> Tensor:
        # s_h.
        config = self.config
        count = lengths if config.windows == "padded" else (lengths - h + 1).clamp(min=1)
        inside = (torch.arange(z.shape[1], device=z.device) < count[:, None])[..., None]
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
