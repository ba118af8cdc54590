"""A transformer teacher on a GPU, in half precision and large batches."""

import copy
import json
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from sentenc.encoders.bert.batching import between_special_tokens, spans_with_words, token_batches
from sentenc.encoders.bert.tokenizer_files import plain_spec
from sentenc.encoders.comparison import unit_rows
from sentenc.encoders.fingerprints import digest
from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder
from sentenc.errors import CheckpointError
from sentenc.nn.bert import BertSentenceModule
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.teachers.base import Teacher
from sentenc.training.teachers.ensemble import TeacherEnsemble

# Enough padded tokens to keep a large GPU busy; they take some hundred MB.
_TOKENS_PER_BATCH = 65_536


class BatchedTeacher:
    """A mean-pooled transformer that tokenizes every text once and batches texts of similar length.

    Args:
        encoder: A sentence-transformers model that :meth:`supports` accepts. Its weights are copied.
        device: The device that computes.
        dtype: The type of weights and activations.

    Raises:
        ValueError: The model is not supported.
    """

    def __init__(
        self, encoder: SentenceTransformerEncoder, device: torch.device, dtype: torch.dtype = torch.float16
    ) -> None:
        tokenizer = _wordpiece_tokenizer(encoder)
        if tokenizer is None:
            raise ValueError(f"{encoder.name} is not a transformer with WordPiece tokens and mean pooling")
        self._encoder, self._device, self._dtype = encoder, device, dtype
        self._tokenizer = tokenizer
        model, transformers_tokenizer = encoder.torch_model()
        self._cls_id, self._sep_id = transformers_tokenizer.cls_token_id, transformers_tokenizer.sep_token_id
        self._max_tokens = min(encoder.max_tokens, int(model.config.max_position_embeddings))
        self._module = BertSentenceModule(copy.deepcopy(model).to(device, dtype).eval())

    @staticmethod
    def supports(encoder: Teacher) -> bool:
        """Returns whether the teacher is a transformer with WordPiece tokens and mean pooling."""
        return isinstance(encoder, SentenceTransformerEncoder) and _wordpiece_tokenizer(encoder) is not None

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self._encoder.dim

    def encode(
        self,
        texts: list[str],
        *,
        normalize_embeddings: bool = False,
        on_overflow: Literal["ignore"] = "ignore",
    ) -> npt.NDArray[np.float32]:
        """Encodes n texts, see :meth:`Teacher.encode`: (n, dim) float32, as precise as ``dtype``.

        Texts without known tokens become zero vectors.
        """
        # Two tokens are special.
        ids, ends, _ = self._tokenizer.encode(texts, self._max_tokens - 2)
        starts, has_words = spans_with_words(ids, ends, self._tokenizer.unknown_id)
        vectors = np.zeros((len(texts), self.dim), np.float32)
        longest_first = np.flatnonzero(has_words)
        longest_first = longest_first[np.argsort((starts - ends)[longest_first], kind="stable")]
        for part in token_batches((ends - starts)[longest_first] + 2, _TOKENS_PER_BATCH):
            batch = longest_first[part]
            tokens = [ids[a:b] for a, b in zip(starts[batch], ends[batch], strict=True)]
            # The module ignores the padding, so any token will do.
            table, mask = between_special_tokens(tokens, self._cls_id, self._sep_id, self._sep_id)
            padded, lengths = torch.from_numpy(table), torch.from_numpy(mask.sum(1))
            with torch.inference_mode():
                output = self._module(padded.to(self._device), lengths.to(self._device))
                vectors[batch] = output.float().cpu().numpy()
        return unit_rows(vectors, "vectors") if normalize_embeddings else vectors

    def fingerprint(self) -> str:
        """Returns a short hash of the encoder's fingerprint and the type of the weights."""
        return digest([f"{self._encoder.fingerprint()} {self._dtype}".encode()])


def batch_on_gpu(teacher: Teacher, device: torch.device) -> Teacher:
    """Returns the teacher as a :class:`BatchedTeacher` in float16, if the device is a GPU.

    On other devices, and for teachers that are not supported, the teacher itself is returned. The teachers of
    an ensemble are converted one by one.
    """
    if device.type != "cuda":
        return teacher
    if isinstance(teacher, TeacherEnsemble):
        return TeacherEnsemble(
            [batch_on_gpu(encoder, device) for encoder in teacher.encoders], teacher.weights
        )
    if isinstance(teacher, SentenceTransformerEncoder) and BatchedTeacher.supports(teacher):
        return BatchedTeacher(teacher, device)
    return teacher


def _wordpiece_tokenizer(encoder: SentenceTransformerEncoder) -> Tokenizer | None:
    # The tokenizer of a model with mean pooling; None for any other model.
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
