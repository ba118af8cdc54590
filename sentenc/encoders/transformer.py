"""The interface of encoders that are transformers: their tokens, and their PyTorch model."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.config import Pooling


class TransformerEncoder(Encoder):
    """An encoder whose vectors are computed by a transformer.

    Training initializes students from it, and fine-tuning trains it. Both need its tokens and its
    PyTorch model, and both use this interface instead of the concrete class.
    """

    @property
    @abstractmethod
    def vocabulary(self) -> dict[str, int]:
        """The id of every token."""

    @property
    @abstractmethod
    def normalize(self) -> bool:
        """Whether the vectors are scaled to unit length after pooling."""

    @abstractmethod
    def token_embeddings(self) -> npt.NDArray[np.float32]:
        """Returns the input embeddings of V tokens, by id: shape (V, d), float32.

        Raises:
            ValueError: The encoder wraps a model that is not a transformer.
        """

    @abstractmethod
    def encode_tokens(self, ids: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Encodes n single tokens, each between the model's special tokens.

        Args:
            ids: Token ids, shape (n,).

        Returns:
            Shape (n, dim), float32.

        Raises:
            ValueError: The encoder wraps a model that is not a transformer.
        """

    @abstractmethod
    def torch_model(self) -> tuple[Any, Any]:
        """Returns the transformer and its fast tokenizer, both of the ``transformers`` library.

        An encoder that computes with this very model returns the model itself. Copy it before training.

        Raises:
            ValueError: The encoder wraps a model that is not a transformer.
            MissingExtraError: torch or transformers is not installed.
        """

    @abstractmethod
    def pooling(self) -> Pooling:
        """Returns the pooling over the last hidden states, ``"mean"`` or ``"cls"``.

        The vectors are the pooled states, normalized if ``normalize``, and nothing else.

        Raises:
            ValueError: The vectors are computed in another way. The message contains the difference.
        """


def single_token_batch(tokenizer: Any, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Returns n single tokens, each between the special tokens of its tokenizer.

    Args:
        tokenizer: A tokenizer of the ``transformers`` library.
        ids: Token ids, shape (n,).

    Returns:
        Shape (n, 1 to 3), depending on whether the tokenizer has a token for the beginning and the end.
    """
    tokens = np.asarray(ids, np.int64).reshape(-1, 1)
    special: Sequence[int | None] = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    first, last = (np.full((len(tokens), int(i is not None)), i or 0, np.int64) for i in special)
    return np.concatenate([first, tokens, last], axis=1)


def has_known_tokens(ids: npt.ArrayLike, special_ids: npt.NDArray[np.int64]) -> bool:
    """Returns whether any token of a text is neither unknown nor another special token.

    Args:
        ids: The token ids of the text, shape (n,).
        special_ids: The ids of all special tokens, unknown words and padding among them.
    """
    return not np.isin(ids, special_ids).all()
