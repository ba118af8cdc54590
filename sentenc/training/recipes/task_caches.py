"""Resumable caches of task distillation: augmented examples and a teacher's outputs."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from sentenc.embedding_cache import EmbeddingCache
from sentenc.io.atomic import replacing_file
from sentenc.io.disk_full import naming_full_disk
from sentenc.io.progress import progress_bar
from sentenc.io.word_vectors import load_word_vectors
from sentenc.registry import load
from sentenc.training.augmentation.augment import augment, words_of
from sentenc.training.augmentation.masked_lm import MaskedLanguageModel
from sentenc.training.augmentation.word_neighbors import WordNeighbors, neighbors_among
from sentenc.training.config.task_distillation import AugmentationConfig
from sentenc.training.data.examples import Example
from sentenc.training.data.labeled import TaskData
from sentenc.training.students.bert_classifier import BertClassifierStudent


def augmented_examples(
    data: TaskData, config: AugmentationConfig, seed: int, folder: Path, show_progress_bar: bool
) -> list[Example]:
    """Returns the distinct examples and augmented copies, from a file in the folder if they were made before.

    An augmentation that was stopped is resumed.

    Args:
        data: The training examples.
        config: The section ``[augmentation]``.
        seed: Seed of the augmentation.
        folder: The work folder. The file is a TSV with the number of the example and its texts.
        show_progress_bar: Draw a bar on standard error.

    Raises:
        SentencError: The masked language model or the word vectors cannot be read.
    """
    identity = json.dumps([seed, data.fingerprint(), _identity(config)])
    path = folder / f"augmented-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.tsv"
    if not path.exists():
        unfinished = path.with_suffix(".part")
        first = _truncate_to_whole_examples(unfinished)
        stream = augment(
            data.examples[first:],
            masked_lm=None if config.masked_lm is None else MaskedLanguageModel.from_folder(config.masked_lm),
            word_neighbors=None if config.word_vectors is None else _neighbors(data, config.word_vectors),
            copies=config.copies,
            p=config.p,
            candidates=config.candidates,
            seed=seed,
            first=first,
            show_progress_bar=show_progress_bar,
        )
        with naming_full_disk(unfinished), open(unfinished, "a", encoding="utf-8", newline="\n") as file:
            for number, example in stream:
                file.write("\t".join([str(number), *example]) + "\n")
        unfinished.replace(path)
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return list(dict.fromkeys(tuple(line.split("\t")[1:]) for line in lines))


def teacher_outputs(
    teacher: BertClassifierStudent, texts: Sequence[str], folder: Path, show_progress_bar: bool
) -> EmbeddingCache:
    """Returns a cache with the teacher's logits (C,) of every text, in a subfolder of the work folder."""
    fingerprint = teacher.fingerprint()
    cache = EmbeddingCache(folder / f"outputs-{fingerprint}", fingerprint)
    with progress_bar(len(texts), "teacher outputs", show_progress_bar) as bar:
        cache.fill(texts, teacher.logits, bar=bar, source="the teacher")
    return cache


def _neighbors(data: TaskData, word_vectors: str) -> WordNeighbors:
    if Path(word_vectors).is_file():
        return WordNeighbors(load_word_vectors(word_vectors))
    texts = (text for example in data.examples for text in example)
    return neighbors_among(words_of(texts), load(word_vectors))


def _identity(config: AugmentationConfig) -> dict[str, object]:
    # Models are identified by the names of their folders, not by their content.
    names = {
        name: None if (value := getattr(config, name)) is None else Path(value).name
        for name in ("masked_lm", "word_vectors")
    }
    return {"copies": config.copies, "p": config.p, "candidates": config.candidates, **names}


def _truncate_to_whole_examples(path: Path) -> int:
    # Deletes the lines of the last example, which may be incomplete, and returns its number.
    if not path.exists():
        return 0
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    if not lines:
        return 0
    last = lines[-1].split("\t", 1)[0]
    complete = [line for line in lines if line.split("\t", 1)[0] != last]
    with replacing_file(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in complete), encoding="utf-8")
    return int(last)
