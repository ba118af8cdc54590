"""A transformer teacher in half precision, with batches of texts of similar length."""

import copy
import json
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from sentenc.encoders.bert.batching import between_special_tokens, spans_with_words, token_batches
from sentenc.encoders.bert.config import Pooling
from sentenc.encoders.bert.tokenizer_files import plain_spec
from sentenc.encoders.comparison import unit_rows
from sentenc.encoders.fingerprints import digest
from sentenc.encoders.transformer import TransformerEncoder
from sentenc.errors import CheckpointError
from sentenc.nn.bert import BertSentenceModule
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.teachers.base import Teacher
from sentenc.training.teachers.ensemble import TeacherEnsemble

Precision = Literal["float32", "bf16"]

# Enough padded tokens to keep a large GPU busy; they take some hundred MB.
_TOKENS_PER_BATCH = 65_536
# The activations of more tokens do not fit into the caches of a CPU.
_TOKENS_PER_CPU_BATCH = 4_096
_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
_NAMES = {torch.float32: "float32", torch.bfloat16: "bf16", torch.float16: "float16"}


class BatchedTeacher:
    """A transformer that tokenizes every text once and batches texts of similar length.

    Args:
        encoder: A model that :meth:`supports` accepts. Its weights are copied.
        device: The device that computes.
        dtype: The type of weights and activations. A CPU computes bfloat16 faster than float32 only if it has
            instructions for it, such as AMX; float16 is slower.

    Raises:
        ValueError: The model is not supported.
    """

    def __init__(
        self, encoder: TransformerEncoder, device: torch.device, dtype: torch.dtype = torch.float16
    ) -> None:
        tokenizer = _wordpiece_tokenizer(encoder)
        if tokenizer is None:
            raise ValueError(
                f"{getattr(encoder, 'name', type(encoder).__name__)} is not a transformer with WordPiece "
                "tokens and pooling alone"
            )
        self._encoder, self._device, self._dtype = encoder, device, dtype
        self._tokens_per_batch = _TOKENS_PER_CPU_BATCH if device.type == "cpu" else _TOKENS_PER_BATCH
        self._tokenizer = tokenizer
        model, transformers_tokenizer = encoder.torch_model()
        self._cls_id, self._sep_id = transformers_tokenizer.cls_token_id, transformers_tokenizer.sep_token_id
        self._max_tokens = min(encoder.max_tokens, int(model.config.max_position_embeddings))
        self._module = BertSentenceModule(
            copy.deepcopy(model).to(device, dtype).eval(), pooling=encoder.pooling()
        )

    @staticmethod
    def supports(encoder: Teacher) -> bool:
        """Returns whether the teacher is a transformer with WordPiece tokens, and mean or cls pooling alone."""
        return isinstance(encoder, TransformerEncoder) and _wordpiece_tokenizer(encoder) is not None

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self._encoder.dim

    @property
    def precision(self) -> str:
        """The type of weights and activations: "float32", "bf16" or "float16"."""
        return _NAMES.get(self._dtype, str(self._dtype))

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
        starts, has_words = spans_with_words(ids, ends, self._tokenizer.special_ids)
        vectors = np.zeros((len(texts), self.dim), np.float32)
        longest_first = np.flatnonzero(has_words)
        longest_first = longest_first[np.argsort((starts - ends)[longest_first], kind="stable")]
        for part in token_batches((ends - starts)[longest_first] + 2, self._tokens_per_batch):
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


def batch_transformers(teacher: Teacher, device: torch.device, precision: Precision | None = None) -> Teacher:
    """Returns the teacher as a :class:`BatchedTeacher`, if its precision or the device need one.

    The teachers of an ensemble are converted one by one.

    Args:
        teacher: The teacher.
        device: The device that computes.
        precision: Type of weights and activations; by default float16 on a GPU and float32 elsewhere.

    Returns:
        The teacher itself if it is not supported, or computes in float32 on a CPU: ONNX Runtime is faster
        there.

    Raises:
        ValueError: "bf16" is given, and the teacher is not supported.
    """
    if device.type != "cuda" and precision in (None, "float32"):
        return teacher
    if isinstance(teacher, TeacherEnsemble):
        converted = [batch_transformers(encoder, device, precision) for encoder in teacher.encoders]
        return TeacherEnsemble(converted, teacher.weights)
    if isinstance(teacher, TransformerEncoder) and BatchedTeacher.supports(teacher):
        default = torch.float16 if device.type == "cuda" else torch.float32
        return BatchedTeacher(teacher, device, _DTYPES[precision] if precision else default)
    if precision == "bf16":
        raise ValueError(
            f"teacher.precision is 'bf16' for {type(teacher).__name__}, expected a transformer with WordPiece "
            "tokens, and mean or cls pooling alone: leave teacher.precision out"
        )
    return teacher


def has_pooling(teacher: Teacher, pooling: Pooling) -> bool:
    """Whether a teacher is a transformer with this pooling."""
    try:
        return isinstance(teacher, TransformerEncoder) and teacher.pooling() == pooling
    except ValueError:
        return False


def _wordpiece_tokenizer(encoder: TransformerEncoder) -> Tokenizer | None:
    # The tokenizer of a transformer with mean or cls pooling; else None.
    try:
        encoder.pooling()
        tokenizer = encoder.torch_model()[1]
    except ValueError:
        return None
    if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        return None
    try:
        return Tokenizer(
            json.dumps(plain_spec(tokenizer)),
            skip_unknown=False,
            special_tokens=tokenizer.all_special_tokens,
        )
    except CheckpointError:
        return None
