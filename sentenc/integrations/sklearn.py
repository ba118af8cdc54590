"""A transformer of scikit-learn that turns columns of texts into sentence vectors."""

import os
from collections.abc import Iterator
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from sentenc.downstream.labels import parse_texts
from sentenc.downstream.shared_encoder import (
    ClassNamePrefixFeaturesOutMixin,
    NotFittedError,
    SharedEncoder,
    TransformerMixin,
    encoder_of,
)
from sentenc.encoders.base import Encoder
from sentenc.encoders.encode_options import OnOverflow, Vectors
from sentenc.encoders.roles import Role
from sentenc.texts import describe

_SIMILARITY = "similarity"


class SentenceVectorizer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SharedEncoder):  # type: ignore[misc, unused-ignore]
    """Turns texts into sentence vectors, in a ``Pipeline`` or ``ColumnTransformer`` of scikit-learn.

        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> pipeline = make_pipeline(SentenceVectorizer("cse-en"), LogisticRegression())

    The input is n texts, or a data frame or an array with a column of texts or several. The vectors of the columns
    are put next to each other. A clone has the same encoder object, so a grid search loads it once.

    Args:
        model: An encoder, or an argument of :func:`sentenc.load`.
        role: ``"query"`` or ``"document"``, to encode the texts as these; None to encode them without a role.
        prompt_name: The name of a prompt of the model, which is put before every text. Not together with ``role``.
        batch_size: As for :meth:`sentenc.Encoder.encode`, like the options that follow.
        normalize_embeddings: Scale every vector to unit length.
        truncate_dim: Keep the first ``truncate_dim`` components. ``"similarity"`` keeps those that a similarity
            compares, which suits clustering. None keeps all, which suits classifiers.
        dtype: ``"float32"``, ``"float16"`` or ``"float64"``.
        on_overflow: ``"warn"``, ``"error"`` or ``"ignore"``, for texts with more tokens than the model uses.
        show_progress_bar: Draw a progress bar on standard error.

    Attributes:
        encoder_: The encoder.
        n_features_in_: The number of columns, if the input has columns.
        feature_names_in_: Their names, if they have names.
    """

    _encoder_parameter = "model"

    def __init__(
        self,
        model: str | os.PathLike[str] | Encoder = "cse-en",
        *,
        role: Role | None = None,
        prompt_name: str | None = None,
        batch_size: int = 64,
        normalize_embeddings: bool = False,
        truncate_dim: int | Literal["similarity"] | None = None,
        dtype: npt.DTypeLike = "float32",
        on_overflow: OnOverflow = "warn",
        show_progress_bar: bool = False,
    ) -> None:
        self.model = model
        self.role = role
        self.prompt_name = prompt_name
        self.batch_size = batch_size
        self.normalize_embeddings = normalize_embeddings
        self.truncate_dim = truncate_dim
        self.dtype = dtype
        self.on_overflow = on_overflow
        self.show_progress_bar = show_progress_bar

    def fit(self, X: Any, y: Any = None) -> Self:
        """Loads the encoder and checks the texts. Nothing is learned from them.

        Args:
            X: n texts, or a data frame or array (n, k) of texts.
            y: Ignored.

        Raises:
            TypeError: An item is no text; the message has its index. Or the texts are an iterator.
            ValueError: An option is out of range.
        """
        if isinstance(X, Iterator):
            # ``fit_transform`` reads the texts twice, and would return no vectors.
            raise TypeError(
                f"X is {describe(X)}, which can be read only once, expected a list or a column of texts"
            )
        if self.role is not None and self.prompt_name is not None:
            raise ValueError(
                f"role is {self.role!r} and prompt_name is {self.prompt_name!r}, expected one of them"
            )
        columns = self._read(X, reset=True)
        self.encoder_ = encoder_of(self.model)
        self._n_features_out = len(columns) * self._encode([]).shape[1]
        return self

    def transform(self, X: Any) -> Vectors:
        """Returns the vectors of the texts: shape (n, k * dim) for k columns of texts.

        Raises:
            sklearn.exceptions.NotFittedError: The transformer is not fitted.
            TypeError: An item is no text; the message has its index.
            ValueError: There are other columns than in the fit.
        """
        if not hasattr(self, "encoder_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit first")
        vectors = [self._encode(column) for column in self._read(X, reset=False)]
        return vectors[0] if len(vectors) == 1 else np.hstack(vectors)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Returns the names of the columns of the output: shape (k * dim,).

        Args:
            input_features: The names of the columns of the input, if it has columns. By default those of the fit.

        Raises:
            sklearn.exceptions.NotFittedError: The transformer is not fitted.
            ValueError: The names are not those of the fit.
        """
        n_columns = getattr(self, "n_features_in_", None)
        if n_columns is None:
            names: npt.NDArray[np.object_] = super().get_feature_names_out()
            return names
        fitted = getattr(self, "feature_names_in_", None)
        if input_features is None:
            input_features = [f"x{i}" for i in range(n_columns)] if fitted is None else fitted
        elif fitted is not None and not np.array_equal(fitted, input_features):
            raise ValueError("input_features is not equal to feature_names_in_")
        elif len(input_features) != n_columns:
            # scikit-learn's checks search for this wording.
            raise ValueError(
                "input_features should have length equal to number of features: "
                f"got {len(input_features)}, expected {n_columns}"
            )
        dim = self._n_features_out // n_columns
        return np.array([f"{name}_{i}" for name in input_features for i in range(dim)], object)

    def __sklearn_is_fitted__(self) -> bool:
        """Returns whether the transformer is fitted, for scikit-learn."""
        return hasattr(self, "encoder_")

    def __sklearn_tags__(self) -> Any:
        """Returns scikit-learn's tags: the input is texts instead of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags

    def _read(self, X: Any, *, reset: bool) -> list[list[str]]:
        # Returns the columns of texts.
        from sklearn.utils.validation import validate_data

        if len(getattr(X, "shape", ())) != 2:
            if not reset and hasattr(self, "n_features_in_"):
                raise ValueError(f"X is a column of texts, expected {self.n_features_in_} columns, as in fit")
            if reset:
                for name in {"n_features_in_", "feature_names_in_"} & set(vars(self)):
                    delattr(self, name)
            return [parse_texts(X)]
        if not reset and not hasattr(self, "n_features_in_"):
            raise ValueError(f"X has the shape {X.shape}, expected a single column of texts, as in fit")
        validate_data(self, X, reset=reset, skip_check_array=True)
        names = list(getattr(X, "columns", range(X.shape[1])))
        values = X.to_numpy() if hasattr(X, "columns") else np.asarray(X)
        columns = []
        for name, column in zip(names, values.T, strict=True):
            try:
                columns.append(parse_texts(column))
            except TypeError as error:
                raise TypeError(f"column {name!r}: {error}") from error
        return columns

    def _encode(self, texts: list[str]) -> Vectors:
        encoder = self.encoder_
        options: dict[str, Any] = {
            "batch_size": self.batch_size, "normalize_embeddings": self.normalize_embeddings,
            "truncate_dim": encoder.similarity_dim if self.truncate_dim == _SIMILARITY else self.truncate_dim,
            "dtype": self.dtype, "on_overflow": self.on_overflow, "show_progress_bar": self.show_progress_bar,
        }  # fmt: skip
        if self.role is None:
            return encoder.encode(texts, prompt_name=self.prompt_name, **options)
        # Checks the role.
        encoder.for_role(self.role)
        return (encoder.encode_query if self.role == "query" else encoder.encode_document)(texts, **options)

    encoder_: Encoder
    n_features_in_: int
    feature_names_in_: npt.NDArray[np.object_]
