"""A CSE student: a differentiable CSE model with its tokenizer."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sentenc.encoders.base import Encoder
from sentenc.encoders.cse.config import CSEConfig
from sentenc.encoders.cse.encoder import CSE, Tables
from sentenc.encoders.roles import stated_space
from sentenc.nn.cse import CSEModule
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.students.base import EncoderStudent
from sentenc.training.students.cse_rotation import map_output, map_root, principal_rotation, scale_features

# Weights of the word path; all others belong to the n-gram path.
_WORD_WEIGHTS = ("embeddings", "token_weights", "projection", "bias")


class CSEStudent(EncoderStudent):
    """A CSE model to train.

    Args:
        config: The shape of the model.
        tokenizer: The tokenizer. Its vocabulary must fit ``config.vocab_size``, and its ``skip_unknown`` must
            agree with ``config.unknown``.
        embeddings: Initial embeddings, (V, embedding_dim) float; random (normal) by default.
        average: Embeddings of the plain average, (V, average_dim) float. They are not trained.
        log_weights: Initial log token weights, (V,) float; zero by default.
        generator: Source of random initial weights.
        dropout: Share of the elements of token embeddings that is dropped in training.
        word_dropout: Share of whole tokens that is dropped in training.
        ngram_warmup: Share of the training, from its beginning, in which only the word path is trained; 0
            with combine "concat".
        sparse_embeddings: Compute sparse gradients of the embeddings, see :meth:`sparse_parameters`.
        sentence_norm: RMS norm of the finished model's sentence vectors, without the parts behind them. None
            keeps the norm of training. Cosines do not depend on it, but classifiers with a fixed
            regularization do.
        average_norm: RMS norm of the plain average, whose mean over texts is subtracted. None keeps the
            average unchanged.
        ngram_norm: RMS norm of the centered n-gram features behind the sentence vector (``"both"``). None
            keeps the features unchanged.

    Raises:
        ValueError: The tokenizer, an initial weight, a rate or a norm does not fit the configuration.
    """

    def __init__(
        self,
        config: CSEConfig,
        tokenizer: Tokenizer,
        *,
        embeddings: npt.NDArray[np.floating] | None = None,
        average: npt.NDArray[np.floating] | None = None,
        log_weights: npt.NDArray[np.floating] | None = None,
        generator: torch.Generator | None = None,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
        ngram_warmup: float = 0.0,
        sparse_embeddings: bool = False,
        sentence_norm: float | None = None,
        average_norm: float | None = None,
        ngram_norm: float | None = None,
    ) -> None:
        super().__init__()
        if tokenizer.vocab_size > config.vocab_size:
            raise ValueError(
                f"the tokenizer has {tokenizer.vocab_size} ids, "
                f"expected at most vocab_size {config.vocab_size}"
            )
        if tokenizer.skip_unknown != (config.unknown == "skip"):
            raise ValueError(
                f"tokenizer.skip_unknown is {tokenizer.skip_unknown}, but unknown={config.unknown!r}"
            )
        if not 0.0 <= ngram_warmup <= 1.0:
            raise ValueError(f"ngram_warmup is {ngram_warmup}, expected a number from 0 to 1")
        if ngram_warmup and config.combine == "concat":
            raise ValueError(
                f"ngram_warmup is {ngram_warmup} with combine='concat', expected 0 or another combine: "
                "concatenated n-gram features are the only path and cannot be left out"
            )
        _check_norms(config, sentence_norm, average_norm, ngram_norm)
        self.config = config
        self.tokenizer = tokenizer
        self.ngram_warmup = ngram_warmup
        self.sentence_norm = sentence_norm
        self.average_norm = average_norm
        self.ngram_norm = ngram_norm
        self._space: str | None = None
        self.module = CSEModule(config, generator, dropout=dropout, word_dropout=word_dropout)
        self.module.sparse_embeddings = sparse_embeddings
        if embeddings is not None:
            self._set_weight("embeddings", embeddings)
        if config.average_dim:
            # Training would let the average forget what it is meant to keep.
            self.module.weights["average"].requires_grad_(False)
            if average is not None:
                self._set_weight("average", average)
        if log_weights is not None and config.word_path:
            self._set_weight("token_weights", log_weights)
        self.set_progress(0.0)

    @classmethod
    def from_encoder(
        cls,
        encoder: CSE,
        *,
        config: CSEConfig | None = None,
        average: npt.NDArray[np.floating] | None = None,
        **options: Any,
    ) -> "CSEStudent":
        """Builds a student with all weights of a trained model, dequantized.

        Args:
            encoder: The trained model.
            config: The model's configuration by default, or one with more parts behind the sentence vector.
            average: Embeddings (V, average_dim) of a plain average, for a model that has none.
            options: ``dropout``, ``word_dropout``, ``ngram_warmup``, ``sparse_embeddings``,
                ``sentence_norm``, ``average_norm`` and ``ngram_norm`` of the class.
        """
        student = cls(
            config or encoder.config,
            encoder.tokenizer,
            average=average,
            generator=torch.Generator(),
            **options,
        )
        for name in encoder.config.shapes():
            student._set_weight(name, encoder.weight(name))
        student._space = stated_space(encoder.metadata)
        return student

    @property
    def space(self) -> str | None:
        """The space that the model states which the student starts from, or None."""
        return self._space

    def rotate(self, matrix: npt.NDArray[np.floating]) -> bool:
        """Rotates the sentence vector, see :meth:`EncoderStudent.rotate`. False for combine "concat"."""
        if self.config.combine == "concat":
            return False
        weights = {name: self.module[name].detach().cpu().numpy() for name in self.config.shapes()}
        _, rotated = map_output(self.config, weights, np.asarray(matrix, np.float64))
        for name, weight in rotated.items():
            self._set_weight(name, weight)
        return True

    @property
    def dim(self) -> int:
        """Number of components of a vector."""
        return self.config.dim

    @property
    def loss_dim(self) -> int:
        """Number of components of the sentence vector, without a plain average and features (``"both"``)."""
        config = self.config
        # With "concat" the features are the only output of the n-gram path, so the losses must see them.
        return config.dim if config.combine == "concat" else config.word_dim

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Returns padded token ids (B, L) int64, L at most ``config.max_tokens``, and token counts (B,)."""
        ids, ends, _ = self.tokenizer.encode(texts, self.config.max_tokens)
        lengths = np.diff(ends, prepend=0)
        table = np.zeros((len(texts), max(1, int(lengths.max(initial=0)))), np.int64)
        table[np.arange(table.shape[1]) < lengths[:, None]] = ids
        return torch.from_numpy(table), torch.from_numpy(lengths)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Returns sentence vectors (B, dim); the zero vector for a text without tokens."""
        vectors: Tensor = self.module(ids, lengths)
        return vectors

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Returns ``"embeddings"``, with token weights and projection, and ``"ngrams"``, if there are any."""
        groups: dict[str, list[nn.Parameter]] = {"embeddings": []}
        for name, parameter in self.module.weights.items():
            if not parameter.requires_grad:
                continue
            groups.setdefault("embeddings" if name in _WORD_WEIGHTS else "ngrams", []).append(parameter)
        return groups

    def set_progress(self, progress: float) -> None:
        """Sets training progress, from 0 to 1, and activates the n-gram path after the warm-up."""
        self.module.ngrams_active = progress >= self.ngram_warmup

    def sparse_parameters(self) -> list[nn.Parameter]:
        """Returns the embeddings if their gradient is sparse, as ``torch.optim.SparseAdam`` needs it."""
        return [self.module.weights["embeddings"]] if self.module.sparse_embeddings else []

    def encoder(
        self,
        output_map: Tensor | None = None,
        rotate_on: list[str] | None = None,
        *,
        tables: Tables = "int8",
    ) -> CSE:
        """Returns a :class:`~sentenc.CSE` with the current weights in float32, n-grams included.

        Args:
            output_map: A linear map M (dim, t). (M M^T)^(1/2) is folded into the weights, so that dot
                products are those of the sentence vectors times M. Not for combine "concat".
            rotate_on: Texts whose principal axes become the axes of the sentence vector. Ignored for combine
                "concat", which has no matrix that a rotation can be folded into.
            tables: Kind of the encoder's tables.

        Raises:
            ValueError: ``output_map`` is given for combine "concat", or has another shape.
        """
        weights = {
            name: self.module[name].detach().float().cpu().numpy().copy() for name in self.config.shapes()
        }
        config = self.config
        if output_map is not None:
            root = map_root(output_map.detach().double().cpu().numpy())
            config, weights = map_output(config, weights, root)
        if rotate_on and config.combine != "concat":
            config, weights = self._rotated(config, weights, rotate_on)
        return CSE(config, weights, self.tokenizer, tables=tables)

    def finished(self, output_map: Tensor | None = None, rotate_on: list[str] | None = None) -> CSE:
        """Returns the encoder with int8 embeddings and float16 weights; arguments as in :meth:`encoder`."""
        return self.encoder(output_map, rotate_on).compressed()

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        output_map: Tensor | None = None,
        rotate_on: list[str] | None = None,
        encoder: Encoder | None = None,
        metadata: dict[str, Any] | None = None,
        card: str | None = None,
    ) -> None:
        """Writes a model folder with int8 embeddings and float16 weights."""
        finished = encoder if isinstance(encoder, CSE) else self.finished(output_map, rotate_on)
        finished.metadata, finished.card = metadata or {}, card
        finished.save(folder)

    def _rotated(
        self, config: CSEConfig, weights: dict[str, npt.NDArray[np.float32]], texts: list[str]
    ) -> tuple[CSEConfig, dict[str, npt.NDArray[np.float32]]]:
        # Rotates the sentence vector to its principal axes, and scales its parts to their norms.
        exact = CSE(config, weights, self.tokenizer, tables="float32")
        outputs = exact.encode(texts, on_overflow="ignore").astype(np.float64)
        vectors, average, features = np.split(
            outputs, [config.word_dim, config.word_dim + config.average_dim], axis=1
        )
        matrix = principal_rotation(vectors)
        if self.sentence_norm is not None:
            matrix = matrix * (self.sentence_norm / _rms_norm(vectors))
        config, weights = map_output(config, weights, matrix)
        if self.average_norm is not None and config.average_dim:
            centered = average - average.mean(0)
            scaled = (weights["average"] - average.mean(0)) * (self.average_norm / _rms_norm(centered))
            weights["average"] = scaled.astype(np.float32)
        if self.ngram_norm is not None and config.combine == "both":
            weights = scale_features(config, weights, features, self.ngram_norm)
        return config, weights

    def _set_weight(self, name: str, values: npt.NDArray[np.floating]) -> None:
        weight = self.module[name]
        if values.shape != weight.shape:
            raise ValueError(
                f"{name} has shape {values.shape}, expected {tuple(weight.shape)} for this configuration"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"{name} has a value that is not finite")
        with torch.no_grad():
            weight.copy_(torch.from_numpy(np.asarray(values, np.float32)))


def _check_norms(
    config: CSEConfig, sentence_norm: float | None, average_norm: float | None, ngram_norm: float | None
) -> None:
    for name, value, fits, expected in (
        ("sentence_norm", sentence_norm, config.combine != "concat", "combine 'residual' or 'both'"),
        ("average_norm", average_norm, config.average_dim > 0, "an average_dim"),
        ("ngram_norm", ngram_norm, config.combine == "both", "combine 'both'"),
    ):
        if value is not None and not 0 < value < np.inf:
            raise ValueError(f"{name} is {value}, expected a number above 0")
        if value is not None and not fits:
            raise ValueError(
                f"{name} is {value} with combine={config.combine!r} and average_dim="
                f"{config.average_dim}, expected {expected}"
            )


def _rms_norm(vectors: npt.NDArray[np.float64]) -> float:
    # The root of the mean squared norm.
    return float(np.sqrt((vectors * vectors).sum(1).mean()))
