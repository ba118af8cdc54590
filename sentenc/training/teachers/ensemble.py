"""Who teaches: one encoder, or several whose vectors stand side by side; on a GPU in half precision."""

import copy
import json
import os
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import torch

from sentenc.checkpoint import is_checkpoint
from sentenc.encoders.base import Encoder, digest, unit_rows
from sentenc.encoders.bert.batching import between_special_tokens, spans_with_words, token_batches
from sentenc.encoders.bert.tokenizer_files import plain_spec
from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder
from sentenc.encoders.transformer import TransformerEncoder
from sentenc.errors import CheckpointError
from sentenc.nn.bert import BertSentenceModule
from sentenc.registry import find, load
from sentenc.texts import as_text_list
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.config.pretraining import normalized_weights

# Padded tokens of a batch: what keeps a large GPU busy, in some hundred MB.
_TOKENS = 65_536


def load_teacher(models: Sequence[str], shares: Sequence[float] = ()) -> Encoder:
    """The teacher that one or several names stand for.

    Args:
        models: What :func:`sentenc.load` takes, one or more.
        shares: What each of several counts for, see :class:`TeacherEnsemble`.

    Raises:
        ValueError: There is none, or the shares do not fit; else as :func:`sentenc.load`.
    """
    if not models:
        raise ValueError("no teacher configured: set teacher.models in the run file")
    encoders = [_loaded(model) for model in models]
    return TeacherEnsemble(encoders, shares) if len(encoders) > 1 or shares else encoders[0]


def _loaded(model: str) -> Encoder:
    # ONNX Runtime computes a BERT twice as fast as torch on a CPU, and only torch uses a GPU.
    if torch.cuda.is_available() and not is_checkpoint(find(model)):
        return load(model, backend="torch")
    return load(model)


class TeacherEnsemble(Encoder):
    """Several encoders as one: their unit vectors side by side, each times the root of its share.

    The cosine of two such vectors is the mean of the teachers' cosines, weighted by the shares (where no
    teacher gives a text the zero vector). Tokens and layers, where a student starts from them, are the first's.

    Args:
        encoders: One or more.
        shares: Of each, positive; they are divided by their sum. Equal ones by default.

    Raises:
        ValueError: There is no encoder, or the shares are not one positive number for each.
    """

    def __init__(self, encoders: Sequence[Encoder], shares: Sequence[float] = ()) -> None:
        if not encoders:
            raise ValueError("encoders is empty, expected one or more")
        self.encoders = tuple(encoders)
        self.weights = normalized_weights(len(encoders), shares)

    @property
    def dim(self) -> int:
        """The sum of the encoders' lengths."""
        return sum(encoder.dim for encoder in self.encoders)

    @property
    def max_tokens(self) -> int:
        """Of the encoder that uses the fewest."""
        return min(encoder.max_tokens for encoder in self.encoders)

    def count_tokens(self, texts: Any) -> npt.NDArray[np.int64]:
        """The largest count of each text: shape (n,), int64."""
        items = [texts] if isinstance(texts, str) else as_text_list(texts)
        found: npt.NDArray[np.int64] = np.max(
            [encoder.count_tokens(items) for encoder in self.encoders], axis=0
        )
        return found

    def fingerprint(self) -> str:
        """A short hash of the encoders' fingerprints and their shares."""
        return digest(
            [f"{e.fingerprint()} {s:.6f}".encode() for e, s in zip(self.encoders, self.weights, strict=True)]
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Refused: save the encoders.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            "several teachers are no model of their own, expected their encoders to be saved one by one"
        )

    def beside(self, parts: Sequence[npt.NDArray[np.floating]]) -> npt.NDArray[np.float32]:
        """Vectors (n, t_i) of every encoder, of any length, as those of the ensemble: (n, dim) float32."""
        scaled = [
            unit_rows(part, "vectors") * np.float32(share**0.5)
            for part, share in zip(parts, self.weights, strict=True)
        ]
        return np.concatenate(scaled, axis=1)

    def _block_size(self, batch_size: int) -> int:
        return max(encoder._block_size(batch_size) for encoder in self.encoders)

    def _encode_block(
        self, texts: list[str], batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        parts, counts = [], []
        for encoder in self.encoders:
            part = np.empty((len(texts), encoder.dim), np.float32)
            counts.append(encoder._encode_block(texts, batch_size, part))
            parts.append(part)
        out[...] = self.beside(parts)
        found: npt.NDArray[np.int64] = np.max(counts, axis=0)
        return found


class BatchedTeacher(Encoder):
    """A transformer with mean pooling, for many texts: tokenized once, in batches of like length, in any precision.

    Args:
        encoder: A sentence-transformers model that :meth:`fits`; its weights are copied.
        device: Where to compute.
        dtype: Of weights and activations.

    Raises:
        ValueError: The model does not fit.
    """

    def __init__(
        self, encoder: SentenceTransformerEncoder, device: torch.device, dtype: torch.dtype = torch.float16
    ) -> None:
        tokenizer = _mean_pooled(encoder)
        if tokenizer is None:
            raise ValueError(
                f"{encoder.name} is no transformer with WordPiece and mean pooling, expected one"
            )
        self._encoder, self._device, self._dtype = encoder, device, dtype
        self._tokenizer = tokenizer
        model, special = encoder.torch_model()
        self._start, self._end = special.cls_token_id, special.sep_token_id
        self._positions = int(model.config.max_position_embeddings)
        self._module = BertSentenceModule(copy.deepcopy(model).to(device, dtype).eval())

    @staticmethod
    def fits(encoder: Encoder) -> TypeGuard[SentenceTransformerEncoder]:
        """Whether an encoder is of the kind that this class computes."""
        return _mean_pooled(encoder) is not None

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self._encoder.dim

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are used, special tokens included."""
        return self._encoder.max_tokens

    def count_tokens(self, texts: Any) -> npt.NDArray[np.int64]:
        """Counts tokens, special ones included: shape (n,), int64."""
        return self._encoder.count_tokens(texts)

    def fingerprint(self) -> str:
        """A short hash of the encoder's fingerprint and the precision."""
        return digest([f"{self._encoder.fingerprint()} {self._dtype}".encode()])

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the encoder in its own precision."""
        self._encoder.save(folder)

    def _encode_block(
        self, texts: list[str], batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        most = min(self.max_tokens, self._positions) - 2
        ids, ends, counts = self._tokenizer.encode(texts, most)
        starts, with_words = spans_with_words(ids, ends, self._tokenizer.unknown_id)
        out[~with_words] = 0.0
        rows = np.flatnonzero(with_words)
        rows = rows[np.argsort(starts[rows] - ends[rows], kind="stable")]
        for part in token_batches((ends - starts)[rows] + 2, _TOKENS):
            chosen = rows[part]
            tokens = [ids[a:b] for a, b in zip(starts[chosen], ends[chosen], strict=True)]
            # What stands in the padding is ignored.
            table, mask = between_special_tokens(tokens, self._start, self._end, self._end)
            batch, lengths = torch.from_numpy(table), torch.from_numpy(mask.sum(1))
            with torch.inference_mode():
                vectors = self._module(batch.to(self._device), lengths.to(self._device))
                out[chosen] = vectors.float().cpu().numpy()
        return counts + 2


def for_many_texts(teacher: Encoder) -> Encoder:
    """The teacher in the form that computes many vectors fastest: on a GPU in float16, elsewhere as it is."""
    if not torch.cuda.is_available():
        return teacher
    if isinstance(teacher, TeacherEnsemble):
        return TeacherEnsemble([for_many_texts(encoder) for encoder in teacher.encoders], teacher.weights)
    if BatchedTeacher.fits(teacher):
        return BatchedTeacher(teacher, torch.device("cuda"))
    return teacher


def first_transformer(teacher: Encoder) -> TransformerEncoder:
    """Returns the teacher, or the first of an ensemble, whose tokens and layers a student starts from.

    Raises:
        ValueError: It is not a transformer.
    """
    if isinstance(teacher, TeacherEnsemble):
        teacher = teacher.encoders[0]
    if not isinstance(teacher, TransformerEncoder):
        raise ValueError(f"the teacher is {type(teacher).__name__}, expected a transformer")
    return teacher


def _mean_pooled(encoder: Encoder) -> Tokenizer | None:
    # The tokenizer of a sentence-transformers model with mean pooling; None for anything else.
    if not isinstance(encoder, SentenceTransformerEncoder):
        return None
    try:
        encoder.check_mean_pooling()
    except ValueError:
        return None
    tokenizer = encoder.torch_model()[1]
    if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        return None
    try:
        return Tokenizer(json.dumps(plain_spec(tokenizer)), skip_unknown=False)
    except CheckpointError:
        return None
