"""A teacher's vectors of a corpus, on disk: the slow half of distillation, done once and resumable."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.atomic import replacing_file
from sentenc.encoders.base import Encoder
from sentenc.progress import progress_bar

# Sentences in a file. A stopped run loses the file it is at, no more.
SHARD = 16_384
Encode = Callable[[list[str]], npt.NDArray[np.float32]]


def read_sentences(paths: list[Path]) -> list[str]:
    """The lines of plain, gzip or xz text files, without duplicates, in order."""
    from sentenc.text_files import open_text

    seen: dict[str, None] = {}
    for path in paths:
        with open_text(str(path)) as lines:
            seen.update(dict.fromkeys(line for line in lines if line.strip()))
    return list(seen)


def shuffled(sentences: list[str], limit: int | None, seed: int) -> list[str]:
    """The sentences in random order, at most ``limit`` of them."""
    order = np.random.default_rng(seed).permutation(len(sentences))[:limit]
    return [sentences[i] for i in order]


def cache_vectors(encode: Encode, sentences: list[str], folder: Path) -> None:
    """Writes the teacher's unit vectors of ``sentences`` as float16 files of 16,384 rows, skipping what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    with progress_bar(len(sentences), "teacher", True) as bar:
        for path, shard in _shards(folder, sentences):
            if not path.exists():
                vectors = encode(shard).astype(np.float16)
                with replacing_file(path) as temporary, open(temporary, "wb") as file:
                    np.save(file, vectors)
            bar.update(len(shard))


def load_vectors(folder: Path, count: int) -> npt.NDArray[Any]:
    """The cached vectors of the first ``count`` sentences, (count, t) float16.

    Raises:
        ValueError: The cache holds another number of sentences.
    """
    files = sorted(folder.glob("[0-9]*.npy"))
    vectors = [np.load(path) for path in files]
    found = sum(map(len, vectors))
    if found != count:
        raise ValueError(
            f"{folder} holds vectors of {found} sentences, expected {count}: finish the cache first"
        )
    return np.concatenate(vectors)


def teacher_function(teacher: Encoder, batch_size: int = 64) -> Encode:
    """Unit vectors by the encoder itself."""
    return lambda texts: teacher.encode(
        texts, batch_size=batch_size, normalize_embeddings=True, on_overflow="ignore"
    )


def _shards(folder: Path, sentences: list[str]) -> Iterator[tuple[Path, list[str]]]:
    for index, start in enumerate(range(0, len(sentences), SHARD)):
        yield folder / f"{index:05d}.npy", sentences[start : start + SHARD]
