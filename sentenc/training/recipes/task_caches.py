"""What a task's run computes once: augmented texts, and a teacher's outputs; both go on where they were stopped."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sentenc.embedding_cache import EmbeddingCache
from sentenc.errors import CorpusError
from sentenc.io.atomic import replacing_file
from sentenc.io.progress import progress_bar
from sentenc.training.augmentation.augment import augment, words_of
from sentenc.training.augmentation.masked_lm import MaskedLanguageModel
from sentenc.training.augmentation.word_neighbors import WordNeighbors, nearest_words_of
from sentenc.training.config.task_distillation import AugmentationConfig
from sentenc.training.data.labeled import Example, TaskData
from sentenc.training.initialization.word_vectors import load_word_vectors
from sentenc.training.students.bert_classifier import BertClassifierStudent

FloatArray = npt.NDArray[np.float32]


class Targets:
    """What to learn for each text.

    Args:
        texts: Distinct texts (n).
        rows: Targets (n, C).
    """

    def __init__(self, texts: Sequence[str], rows: FloatArray) -> None:
        self._rows = rows
        self._place = {text: place for place, text in enumerate(texts)}

    def lookup(self, texts: list[str]) -> FloatArray:
        """Targets (m, C) of m texts.

        Raises:
            CorpusError: A text has none.
        """
        try:
            places = [self._place[text] for text in texts]
        except KeyError as error:
            raise CorpusError(
                f"the text {error.args[0][:60]!r} has no target, expected one of each"
            ) from None
        return np.asarray(self._rows[places], np.float32)


def augmented(
    data: TaskData, settings: AugmentationConfig, seed: int, folder: Path, show_progress_bar: bool
) -> list[Example]:
    """The examples and their augmented copies, from a TSV in the folder (number of the example, texts) if it is there.

    Raises:
        SentencError: The masked language model or the word vectors cannot be read.
    """
    stamp = _hash(json.dumps([seed, data.fingerprint(), _about(settings)]))
    path = folder / f"augmented-{stamp}.tsv"
    if not path.exists():
        part = path.with_suffix(".part")
        first = _resumable(part)
        masked, nearest = _sources(data, settings)
        stream = augment(
            data.examples[first:], masked_words=masked, nearest_words=nearest, copies=settings.copies, p=settings.p,
            candidates=settings.candidates, seed=seed, first=first, show_progress_bar=show_progress_bar,
        )  # fmt: skip
        with open(part, "a", encoding="utf-8", newline="\n") as file:
            for number, example in stream:
                file.write("\t".join([str(number), *example]) + "\n")
        part.replace(path)
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return list(dict.fromkeys(tuple(line.split("\t")[1:]) for line in lines))


def outputs(
    teacher: BertClassifierStudent, texts: Sequence[str], folder: Path, show_progress_bar: bool
) -> EmbeddingCache:
    """Returns a cache with the teacher's logits (C,) of every text, stored in a subfolder."""
    fingerprint = teacher.fingerprint()
    cache = EmbeddingCache(folder / f"outputs-{fingerprint}", fingerprint)
    with progress_bar(len(texts), "teacher", show_progress_bar) as bar:
        cache.fill(texts, teacher.logits, bar=bar, source="the teacher")
    return cache


def _sources(
    data: TaskData, settings: AugmentationConfig
) -> tuple[MaskedLanguageModel | None, WordNeighbors | None]:
    masked = None if settings.masked_lm is None else MaskedLanguageModel.from_folder(settings.masked_lm)
    nearest = None
    if settings.word_vectors is not None:
        if Path(settings.word_vectors).is_file():
            nearest = WordNeighbors(load_word_vectors(settings.word_vectors))
        else:
            from sentenc.registry import load

            nearest = nearest_words_of(
                load(settings.word_vectors), words_of(text for example in data.examples for text in example)
            )
    return masked, nearest


def _about(settings: AugmentationConfig) -> dict[str, object]:
    # Folders are known by their name: what is in them is the user's to keep.
    names = {
        name: None if (value := getattr(settings, name)) is None else Path(value).name
        for name in ("masked_lm", "word_vectors")
    }
    return {"copies": settings.copies, "p": settings.p, "candidates": settings.candidates, **names}


def _resumable(part: Path) -> int:
    # Cuts off the last example that was begun, and gives its number.
    if not part.exists():
        return 0
    lines = part.read_text(encoding="utf-8").split("\n")[:-1]
    if not lines:
        return 0
    last = lines[-1].split("\t", 1)[0]
    kept = [line for line in lines if line.split("\t", 1)[0] != last]
    with replacing_file(part) as temporary:
        temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    return int(last)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
