"""Who teaches: one encoder, or several whose vectors stand side by side; on a GPU in half precision."""

import copy
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sentenc.checkpoint import is_checkpoint
from sentenc.encoders.base import Encoder, digest
from sentenc.encoders.external import ExternalEncoder
from sentenc.encoders.texts import as_text_list
from sentenc.errors import CheckpointError
from sentenc.nn.bert import BertSentenceModule
from sentenc.registry import find, load
from sentenc.tokenization import Tokenizer

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
        raise ValueError("the run needs a teacher's model, expected teacher.model in its file")
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
        shares = tuple(shares) or (1.0,) * len(encoders)
        if len(shares) != len(encoders) or not all(0 < share < np.inf for share in shares):
            raise ValueError(
                f"the teacher's shares are {list(shares)}, expected {len(encoders)} positive numbers, one for each model"
            )
        self.encoders = tuple(encoders)
        self.shares = tuple(share / sum(shares) for share in shares)

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
            [f"{e.fingerprint()} {s:.6f}".encode() for e, s in zip(self.encoders, self.shares, strict=True)]
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
            _unit_rows(part) * np.float32(share**0.5) for part, share in zip(parts, self.shares, strict=True)
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
    """A transformer with mean pooling, for many texts: tokenised once, in batches of like length, in any precision.

    Args:
        encoder: A sentence-transformers model that :meth:`fits`; its weights are copied.
        device: Where to compute.
        dtype: Of weights and activations.

    Raises:
        ValueError: The model does not fit.
    """

    def __init__(
        self, encoder: ExternalEncoder, device: torch.device, dtype: torch.dtype = torch.float16
    ) -> None:
        tokenizer = _mean_pooled(encoder)
        if tokenizer is None:
            raise ValueError(
                f"{encoder.name} is no transformer with WordPiece and mean pooling, expected one"
            )
        self._encoder, self._device, self._dtype = encoder, device, dtype
        self._tokenizer = tokenizer
        special = encoder.model.tokenizer
        self._start, self._end = special.cls_token_id, special.sep_token_id
        self._special_ids = np.array(sorted(special.all_special_ids), np.int64)
        model = copy.deepcopy(encoder.model[0].auto_model)
        self._module = BertSentenceModule(model.to(device, dtype).eval())

    @staticmethod
    def fits(encoder: Encoder) -> bool:
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
        most = min(self.max_tokens, self._encoder.model[0].auto_model.config.max_position_embeddings) - 2
        ids, ends, counts = self._tokenizer.encode(texts, most)
        lengths = np.diff(ends, prepend=0)
        order = np.argsort(lengths, kind="stable")
        for rows in _batches(order, lengths + 2):
            table, kept = self._padded(ids, ends, lengths, rows)
            with torch.inference_mode():
                out[rows] = self._module(table.to(self._device), kept.to(self._device)).float().cpu().numpy()
        # No known word: the zero vector, as everywhere in sentenc.
        known = np.concatenate([[0], np.cumsum(~np.isin(ids, self._special_ids))])
        out[known[ends] == known[ends - lengths]] = 0.0
        return counts + 2

    def _padded(
        self,
        ids: npt.NDArray[np.integer],
        ends: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
    ) -> tuple[Tensor, Tensor]:
        # Ids (B, L) between the special tokens, and their numbers (B,).
        most = int(lengths[rows].max())
        places = np.arange(most)
        within = places < lengths[rows][:, None]
        table = np.full((len(rows), most + 2), self._end, np.int64)
        table[:, 0] = self._start
        table[:, 1:-1][within] = ids[((ends - lengths)[rows][:, None] + places)[within]]
        return torch.from_numpy(table), torch.from_numpy(lengths[rows] + 2)


def for_many_texts(teacher: Encoder) -> Encoder:
    """The teacher in the form that computes many vectors fastest: on a GPU in float16, elsewhere as it is."""
    if not torch.cuda.is_available():
        return teacher
    if isinstance(teacher, TeacherEnsemble):
        return TeacherEnsemble([for_many_texts(encoder) for encoder in teacher.encoders], teacher.shares)
    if isinstance(teacher, ExternalEncoder) and BatchedTeacher.fits(teacher):
        return BatchedTeacher(teacher, torch.device("cuda"))
    return teacher


def _mean_pooled(encoder: Encoder) -> Tokenizer | None:
    # The tokeniser of a transformer with mean pooling; None for anything else.
    if not isinstance(encoder, ExternalEncoder):
        return None
    names = [type(module).__name__ for module in encoder.model]
    if names[:2] != ["Transformer", "Pooling"] or names[2:] not in ([], ["Normalize"]):
        return None
    tokenizer = encoder.model.tokenizer
    if encoder.model[1].pooling_mode not in ("mean", ("mean",), ["mean"]):
        return None
    if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        return None
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    spec["padding"] = spec["truncation"] = None
    try:
        return Tokenizer(json.dumps(spec), skip_unknown=False)
    except CheckpointError:
        return None


def _batches(order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    # Parts of the order, each of about _TOKENS padded tokens; lengths rise along it.
    start = 0
    while start < len(order):
        size = max(1, _TOKENS // int(lengths[order[start]]))
        while size > 1 and size * int(lengths[order[min(start + size, len(order)) - 1]]) > _TOKENS:
            size = max(1, size // 2)
        yield order[start : start + size]
        start += size


def _unit_rows(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    rows = np.asarray(vectors, np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    norms[norms == 0] = 1.0
    unit: npt.NDArray[np.float32] = rows / norms[:, None]
    return unit
