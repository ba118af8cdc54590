"""Any sentence-transformers model as an :class:`~sentenc.Encoder`: a teacher, a baseline, a peer."""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder, digest
from sentenc.errors import CheckpointError, MissingExtraError
from sentenc.texts import as_text_list, replace_lone_surrogates


class SentenceTransformerEncoder(Encoder):
    """Wraps a ``SentenceTransformer`` and adds the contract that it lacks.

    Args:
        model: A loaded ``SentenceTransformer``, or a folder that one can be loaded from.
        name: What to call it in reports; the folder's name by default.

    Texts without any known token give the zero vector here as everywhere in sentenc, where the
    wrapped model would give the vector of its special tokens.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
    """

    def __init__(self, model: Any, name: str | None = None) -> None:
        if isinstance(model, str | os.PathLike):
            folder = Path(model)
            name = name or folder.name
            model = _load_sentence_transformer(folder)
        self.model = model
        self.name = name or type(model).__name__
        self._tokenizer = model.tokenizer
        self._special_ids = np.array(sorted(self._tokenizer.all_special_ids), np.int64)
        self._fingerprint: str | None = None
        self._lock = threading.Lock()
        # Not every model says how long its vectors are; one vector does.
        self._dim = int(model.encode("a", show_progress_bar=False).shape[0])

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self._dim

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are used, special tokens included."""
        return int(self.model.max_seq_length or 2**31 - 1)

    def count_tokens(self, texts: Any) -> npt.NDArray[np.int64]:
        """Counts tokens, special ones included: shape (n,), int64."""
        items = [texts] if isinstance(texts, str) else as_text_list(texts)
        return np.array([len(ids) for ids in self._token_ids(items)], np.int64)

    def fingerprint(self) -> str:
        """A short hash of the weights, the tokenizer's name and the length limit."""
        if self._fingerprint is None:
            state = self.model.state_dict()
            parts = [f"{self.name} {self.max_tokens}".encode()]
            for key in sorted(state):
                parts += [key.encode(), np.ascontiguousarray(state[key].float().cpu().numpy()).tobytes()]
            self._fingerprint = digest(parts)
        return self._fingerprint

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the wrapped model in sentence-transformers' own layout, all of it or nothing."""
        from sentenc.io.atomic import replacing_folder

        with replacing_folder(Path(folder), "modules.json", CheckpointError, "a model folder") as staging:
            self.model.save(str(staging))

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the lock, which cannot be pickled."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores the rest, and makes a new lock."""
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def _encode_block(
        self, texts: list[str], batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        clean = [replace_lone_surrogates(text) for text in texts]
        ids = self._token_ids(clean)
        with self._lock:
            out[...] = self.model.encode(
                clean, batch_size=batch_size, convert_to_numpy=True, show_progress_bar=False
            )
        for row, row_ids in enumerate(ids):
            if np.isin(row_ids, self._special_ids).all():
                out[row] = 0.0
        return np.array([len(row_ids) for row_ids in ids], np.int64)

    def _token_ids(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        clean = [replace_lone_surrogates(text) for text in texts]
        # The tokenizer keeps padding and truncation as state, so two threads must not use it at once.
        # verbose=False: its own warning about length says less than ours.
        with self._lock:
            encoded = self._tokenizer(clean, truncation=False, padding=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids


def _load_sentence_transformer(folder: Path) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError(
            "sentence-transformers", "sentence-transformers", "loading a sentence-transformers model"
        ) from error
    return SentenceTransformer(str(folder), device=None, local_files_only=True)
