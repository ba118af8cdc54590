"""Students: what the trainer trains. Text to padded ids, ids to vectors, and a finished encoder at the end."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sentenc.encoders.cse.config import CSEConfig
from sentenc.encoders.cse.encoder import CSE, Tables
from sentenc.nn.cse import CSEModule
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.students.base import EncoderStudent
from sentenc.training.students.cse_rotation import map_root, principal_axes, turned, with_features_of_length

_WORDS = ("embeddings", "token_weights", "projection")


class CSEStudent(EncoderStudent):
    """A CSE model to train.

    Args:
        config: The model's shape.
        tokenizer: Its vocabulary must fit ``config.vocab_size``, and ``skip_unknown`` ``config.unknown``.
        embeddings: The start of the embeddings, (V, embedding_dim) float; random (normal) by default.
        average: The rows of the plain average, (V, average_dim) float; they are not trained.
        log_weights: The start of the log token weights, (V,) float; zero by default.
        generator: Source of the random start.
        dropout: Share of embedding elements dropped while training.
        word_dropout: Share of whole tokens dropped while training.
        ngram_warmup: Share of the training that goes to the word path alone; not with combine "concat".
        sparse_embeddings: Sparse gradients for the embeddings, see :meth:`sparse_parameters`.
        sentence_norm: How long the finished model's vectors are (root of the mean square), features that stand
            beside them not counted; None leaves them as they are trained. Classifiers with a fixed
            regularization depend on it, cosines do not.
        average_norm: The same for the plain average, whose mean over texts is taken off.
        ngram_norm: The same for features beside the vector (``"both"``), less their means.

    Raises:
        ValueError: The tokenizer, a start, a rate or a length does not fit the configuration.
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
                f"the tokenizer has {tokenizer.vocab_size} ids, expected at most vocab_size {config.vocab_size}"
            )
        if tokenizer.skip_unknown != (config.unknown == "skip"):
            raise ValueError(
                f"tokenizer.skip_unknown is {tokenizer.skip_unknown}, but unknown={config.unknown!r}"
            )
        if not 0.0 <= ngram_warmup <= 1.0:
            raise ValueError(f"ngram_warmup is {ngram_warmup}, expected a share in [0, 1]")
        if ngram_warmup and config.combine == "concat":
            raise ValueError(
                f"ngram_warmup is {ngram_warmup} with combine='concat', expected 0 or another combine: "
                "concatenated n-gram features cannot wait for the words"
            )
        _check_norms(config, sentence_norm, average_norm, ngram_norm)
        self.config = config
        self.tokenizer = tokenizer
        self.ngram_warmup = ngram_warmup
        self.sentence_norm = sentence_norm
        self.average_norm = average_norm
        self.ngram_norm = ngram_norm
        self.module = CSEModule(config, generator, dropout=dropout, word_dropout=word_dropout)
        self.module.sparse_embeddings = sparse_embeddings
        if embeddings is not None:
            self._start("embeddings", embeddings)
        if config.average_dim:
            # It is there to keep what the objectives would let go.
            self.module.weights["average"].requires_grad_(False)
            if average is not None:
                self._start("average", average)
        if log_weights is not None and config.word_path:
            self._start("token_weights", log_weights)
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
        """A student that goes on from a model: every weight is taken over, dequantized.

        Args:
            encoder: The model.
            config: Its own, or one with more beside the sentence vector.
            average: Rows (V, average_dim) of a plain average, for a model that has none.
            options: ``dropout``, ``word_dropout``, ``ngram_warmup``, ``sparse_embeddings``,
                ``sentence_norm``, ``average_norm``, ``ngram_norm``.
        """
        student = cls(
            config or encoder.config,
            encoder.tokenizer,
            average=average,
            generator=torch.Generator(),
            **options,
        )
        for name in encoder.config.shapes():
            student._start(name, encoder.weight(name))
        return student

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self.config.dim

    @property
    def loss_dim(self) -> int:
        """The sentence vector alone where features (``"both"``) or a plain average stand beside it."""
        config = self.config
        # What is concatenated alone has no other place in the vector: it is learned where it stands.
        return config.dim if config.combine == "concat" else config.word_dim

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Padded ids (B, L) int64 and tokens of each text (B,) int64, cut to ``config.max_tokens``."""
        ids, ends, _ = self.tokenizer.encode(texts, self.config.max_tokens)
        lengths = np.diff(ends, prepend=0)
        table = np.zeros((len(texts), max(1, int(lengths.max(initial=0)))), np.int64)
        table[np.arange(table.shape[1]) < lengths[:, None]] = ids
        return torch.from_numpy(table), torch.from_numpy(lengths)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Sentence vectors (B, dim); the zero vector for a text without tokens."""
        vectors: Tensor = self.module(ids, lengths)
        return vectors

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """``"embeddings"`` (embeddings, token weights, projection) and, if there are n-grams, ``"ngrams"``."""
        found: dict[str, list[nn.Parameter]] = {"embeddings": []}
        for name, parameter in self.module.weights.items():
            if not parameter.requires_grad:
                continue
            found.setdefault("embeddings" if name in _WORDS else "ngrams", []).append(parameter)
        return found

    def set_progress(self, progress: float) -> None:
        """Lets the n-gram path take part once the share ``ngram_warmup`` is over."""
        self.module.ngrams_active = progress >= self.ngram_warmup

    def sparse_parameters(self) -> list[nn.Parameter]:
        """The embeddings, if their gradient is sparse (which suits ``torch.optim.SparseAdam``)."""
        return [self.module.weights["embeddings"]] if self.module.sparse_embeddings else []

    def encoder(
        self,
        output_map: Tensor | None = None,
        rotate_on: list[str] | None = None,
        *,
        tables: Tables = "int8",
    ) -> CSE:
        """The student as it is now, n-grams included, as a :class:`~sentenc.CSE` with float32 weights.

        Args:
            output_map: A linear map M (dim, t). Residual models only: (M M^T)^(1/2) is folded into the
                weights, so that dot products are those of vectors times M.
            rotate_on: Texts on whose principal axes the output is turned. A model that concatenates
                has nothing to fold a rotation into, and keeps its axes.
            tables: Kind of the encoder's tables.

        Raises:
            ValueError: ``output_map`` is given and the model concatenates, or the shape is wrong.
        """
        weights = {
            name: self.module[name].detach().float().cpu().numpy().copy() for name in self.config.shapes()
        }
        config = self.config
        if output_map is not None:
            config, weights = turned(config, weights, map_root(output_map.detach().double().cpu().numpy()))
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
        metadata: dict[str, Any] | None = None,
        card: str | None = None,
    ) -> None:
        """Writes a model folder with int8 embeddings and float16 weights."""
        encoder = self.finished(output_map, rotate_on)
        encoder.metadata, encoder.card = metadata or {}, card
        encoder.save(folder)

    def _rotated(
        self, config: CSEConfig, weights: dict[str, npt.NDArray[np.float32]], texts: list[str]
    ) -> tuple[CSEConfig, dict[str, npt.NDArray[np.float32]]]:
        # The output turned onto its principal axes, and vectors and features as long as they shall be.
        exact = CSE(config, weights, self.tokenizer, tables="float32")
        found = exact.encode(texts, on_overflow="ignore")
        vectors, average, features = np.split(
            found.astype(np.float64), [config.word_dim, config.word_dim + config.average_dim], axis=1
        )
        turn = principal_axes(vectors)
        if self.sentence_norm is not None:
            turn = turn * (self.sentence_norm / _length(vectors))
        config, weights = turned(config, weights, turn)
        if self.average_norm is not None and config.average_dim:
            centered = average - average.mean(0)
            rows = (weights["average"] - average.mean(0)) * (self.average_norm / _length(centered))
            weights["average"] = rows.astype(np.float32)
        if self.ngram_norm is not None and config.combine == "both":
            weights = with_features_of_length(config, weights, features, self.ngram_norm)
        return config, weights

    def _start(self, name: str, values: npt.NDArray[np.floating]) -> None:
        weight = self.module[name]
        if values.shape != weight.shape:
            raise ValueError(
                f"the start of {name} has shape {values.shape}, expected {tuple(weight.shape)} (config)"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"the start of {name} has values that are not finite")
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
                f"{config.average_dim}, expected {expected} with it"
            )


def _length(vectors: npt.NDArray[np.float64]) -> float:
    # The root of the mean square.
    return float(np.sqrt((vectors * vectors).sum(1).mean()))
