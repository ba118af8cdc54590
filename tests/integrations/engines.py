"""Files of texts for the tests of engines, and the comparison of their vectors with those of encode."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import sentenc

REPOSITORY = Path(__file__).parents[2]
MODEL = "cse-en-tiny"
WORDS = [
    "a",
    "man",
    "plays",
    "the",
    "guitar",
    "in",
    "a",
    "park",
    "while",
    "stocks",
    "fell",
    "by",
    "two",
    "percent",
    "Café",
]


def make_texts(count, seed=0):
    """Texts of one to twelve words; every 50th is null and every 51st is empty."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 13))) for _ in range(count)]
    return [None if i % 50 == 7 else "" if i % 51 == 9 else text for i, text in enumerate(texts)]


def write_texts(folder, files=12, rows=400):
    """Writes files with the columns id, text and rank."""
    folder.mkdir()
    texts = make_texts(files * rows)
    for number in range(files):
        ids = list(range(number * rows, (number + 1) * rows))
        table = pa.table({"id": ids, "text": [texts[i] for i in ids], "rank": [i % 7 for i in ids]})
        pq.write_table(table, folder / f"part-{number:02d}.parquet")
    return texts


def read_rows(folder):
    """All rows of the files of a folder, sorted by their id."""
    files = [path for path in sorted(Path(folder).rglob("*.parquet")) if path.name[0] not in "._"]
    return pa.concat_tables([pq.read_table(path) for path in files], promote_options="default").sort_by("id")


def assert_one_vector_a_row(table, texts, **options):
    """Every id is there once, with its other columns and the vector of ``encode``."""
    assert table["id"].to_pylist() == list(range(len(texts)))
    assert table["text"].to_pylist() == texts
    assert table["rank"].to_pylist() == [i % 7 for i in range(len(texts))]
    vectors = table["embedding"].to_pylist()
    assert [vector is None for vector in vectors] == [text is None for text in texts]
    known = [i for i, text in enumerate(texts) if text is not None]
    expected = sentenc.load(MODEL).encode([texts[i] for i in known], **options)
    np.testing.assert_allclose(np.array([vectors[i] for i in known], np.float32), expected, atol=1e-6)


def environment(**variables):
    """The environment of a script that may import sentenc and the helpers of the tests."""
    path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **variables}


def run_script(code, *arguments, **options):
    """Runs a script to its end; returns what it printed."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, **options)
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


def descendants(root):
    """The processes below a process, from /proc."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = stat.read_text(errors="replace").rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(int(stat.parent.name))
    below, waiting = [], [root]
    while waiting:
        below += children.get(waiting[-1], [])
        waiting += children.get(waiting.pop(), [])
    return below


def is_running(pid):
    """Whether a process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
