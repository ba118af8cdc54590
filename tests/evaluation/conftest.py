"""Fixtures: made-up files in SentEval's layout, a small encoder, and the real data if available."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from sentenc.encoders.base import Encoder

POSITIVE = ("good", "great", "lovely", "fine", "splendid")
NEGATIVE = ("bad", "awful", "dull", "poor", "dreadful")
FILLER = ("the", "film", "plot", "a", "story", "is", "was", "very", "quite", "actor", "scene", "and")


class WordAverage(Encoder):
    """The mean of vectors that the hash of each word determines: texts with common words are similar."""

    def __init__(self, dim: int = 16, seed: int = 0, name: str = "word-average") -> None:
        self._dim = dim
        self._seed = seed
        self.name = name
        self.encoded: list[str] = []

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def max_tokens(self) -> int:
        return 1000

    def count_tokens(self, texts):
        return np.array([len(text.split()) for text in texts], np.int64)

    def save(self, folder):
        raise NotImplementedError

    def fingerprint(self) -> str:
        return f"word-average-{self._dim}-{self._seed}"

    def _encode_block(self, texts, batch_size, out):
        self.encoded += texts
        for row, text in enumerate(texts):
            vectors = [self._vector(word) for word in text.split()]
            out[row] = np.mean(vectors, axis=0) if vectors else 0.0
        return self.count_tokens(texts)

    def _vector(self, word: str) -> np.ndarray:
        digest = hashlib.sha256(f"{self._seed} {word}".encode("utf-8", "surrogatepass")).digest()
        return np.random.default_rng(list(digest[:8])).standard_normal(self._dim)


@pytest.fixture(autouse=True, scope="session")
def one_blas_thread() -> Iterator[None]:
    """Limits BLAS to one thread: problems of this size only get slower with more."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def encoder() -> WordAverage:
    return WordAverage()


def sentence(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    """Returns filler words with one or two of ``words`` at random positions."""
    chosen = [*rng.choice(FILLER, rng.integers(2, 8)), *rng.choice(words, rng.integers(1, 3))]
    return " ".join(rng.permutation(chosen))


def write(path: Path, lines: list[str], encoding: str = "utf-8", end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode(encoding))


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    """Writes a data folder with small MR, CR, TREC, MRPC, SST2, SICK, STS-B and STS16 files."""
    rng = np.random.default_rng(7)
    data = tmp_path / "data"
    both = (NEGATIVE, POSITIVE)
    for folder, files in (
        ("MR", ("rt-polarity.neg", "rt-polarity.pos")),
        ("CR", ("custrev.neg", "custrev.pos")),
    ):
        for words, file in zip(both, files, strict=True):
            write(data / "downstream" / folder / file, [sentence(rng, words) + " " for _ in range(60)])
    for part, size in (("train", 80), ("dev", 30), ("test", 40)):
        lines = [f"{sentence(rng, both[label])} \t{label}" for label in rng.integers(0, 2, size)]
        write(data / f"downstream/SST/binary/sentiment-{part}", lines)
    _write_trec(data, rng)
    _write_pairs(data, rng)
    return data


def _write_trec(data: Path, rng: np.random.Generator) -> None:
    labels = {"ABBR": "short", "DESC": "what", "ENTY": "thing", "HUM": "who", "LOC": "where", "NUM": "many"}
    for file, each in (("train_5500.label", 12), ("TREC_10.label", 4)):
        lines = [
            f"{label}:x {sentence(rng, (word,))} ?" for label, word in labels.items() for _ in range(each)
        ]
        write(data / "downstream/TREC" / file, lines, "latin-1")


def _write_pairs(data: Path, rng: np.random.Generator) -> None:
    def pair() -> tuple[str, str, float]:
        first = sentence(rng, POSITIVE + NEGATIVE).split()
        n_common = int(rng.integers(0, len(first) + 1))
        second = first[:n_common] + list(rng.choice(FILLER, len(first) - n_common))
        return " ".join(first), " ".join(second), 5 * n_common / len(first)

    names = ("CONTRADICTION", "NEUTRAL", "ENTAILMENT")
    for file, size in (("train", 90), ("trial", 30), ("test_annotated", 40)):
        lines = ["pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment"]
        for number in range(size):
            a, b, score = pair()
            lines.append(f"{number}\t{a}\t{b}\t{1 + 0.8 * score:.1f}\t{names[min(2, int(score * 0.6))]}")
        write(data / f"downstream/SICK/SICK_{file}.txt", lines, end="\r\n")
    for part, size in (("train", 60), ("dev", 30), ("test", 30)):
        lines = []
        for number in range(size):
            a, b, score = pair()
            lines.append(f"main-news\tMSRvid\t2012\t{number}\t{score:.3f}\t{a}\t{b}")
        write(data / f"downstream/STS/STSBenchmark/sts-{part}.csv", lines)
    for file, size in (("train", 70), ("test", 40)):
        lines = ["\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"]
        for number in range(size):
            a, b, score = pair()
            lines.append(f"{int(score > 2.5)}\t{number}\t{number}\t{a}\t{b}")
        write(data / f"downstream/MRPC/msr_paraphrase_{file}.txt", lines)
    for name in ("answer-answer", "headlines", "plagiarism", "postediting", "question-question"):
        pairs = [pair() for _ in range(12)]
        write(
            data / f"sts_raw/STS16/STS.input.{name}.txt", [f"{a}\t{b}\tsource\tsource" for a, b, _ in pairs]
        )
        gold = ["" if number % 4 == 0 else f"{score:.2f}" for number, (_, _, score) in enumerate(pairs)]
        write(data / f"sts_raw/STS16/STS.gs.{name}.txt", gold)


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real files: from SENTENC_EVAL_DATA, or unpacked from a folder next to the repository."""
    if folder := os.environ.get("SENTENC_EVAL_DATA"):
        return Path(folder)
    unpack = Path(__file__).parents[2].parent / "shared" / "data" / "unpack"
    if not unpack.exists():
        pytest.skip("no evaluation data: set SENTENC_EVAL_DATA to a folder with downstream/")
    folder = tmp_path_factory.mktemp("eval")
    subprocess.run([str(unpack), str(folder)], check=True, capture_output=True)
    return folder
