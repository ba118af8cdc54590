"""Measures the time from the start of a process to its first vector, for several encoders in one run.

    python benchmarks/startup.py [--rounds 11]

Every measurement is a process of its own that imports a library, loads a model and encodes one sentence. In
several rounds the systems take turns, and medians are reported. The first round is not counted: it reads the
files of all systems into the memory of the operating system, and writes Python's bytecode where it is
missing. The model of model2vec has the vocabulary and the embeddings of cse-en, in a local folder.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine

from sentenc.io.atomic import write_text

SENTENCE = "A man is playing a guitar in the park."
REFERENCE = "cse-en"


def programs(model2vec_folder: Path) -> dict[str, str]:
    """Returns the Python program of each system."""
    sentenc = f"import sentenc; sentenc.load({{!r}}).encode({SENTENCE!r})"
    return {
        "Python alone": "pass",
        "import sentenc": "import sentenc",
        "import numpy": "import numpy",
        **{name: sentenc.format(name) for name in ("cse-en", "cse-en-tiny", "tinybert4-en")},
        "model2vec, same vocabulary": (
            "from model2vec import StaticModel; "
            f"StaticModel.from_pretrained({str(model2vec_folder)!r}).encode({SENTENCE!r})"
        ),
        "wordllama": (
            "import wordllama, pathlib; folder = pathlib.Path(wordllama.__file__).parent; "
            f"wordllama.WordLlama.load(cache_dir=folder, disable_download=True).embed([{SENTENCE!r}])"
        ),
        "MiniLM (sentence-transformers)": (
            "from sentence_transformers import SentenceTransformer; "
            f"SentenceTransformer({str(machine.minilm_folder())!r}, device='cpu').encode({SENTENCE!r})"
        ),
    }


def save_model2vec(folder: Path) -> None:
    """Writes a model of model2vec with the tokenizer and the embeddings of cse-en."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer

    import sentenc

    encoder = sentenc.load("cse-en")
    tokenizer = Tokenizer.from_str(encoder.tokenizer.spec)
    StaticModel(encoder.weight("embeddings"), tokenizer).save_pretrained(folder)


def run(program: str) -> tuple[float, float]:
    """Returns the wall seconds and the CPU seconds of a process and its threads, from its start to its end."""
    # Nothing is downloaded, and no system prints progress into the output of this one.
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    # An installed package has bytecode.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as process:
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"a process ended with exit code {process.returncode}: {program}")
    return wall, usage.ru_utime + usage.ru_stime


def measure(rounds: int) -> list[dict]:
    """Returns one row per system, with medians and ranges in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        save_model2vec(Path(folder))
        systems = programs(Path(folder))
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
        for number in range(rounds + 1):
            for name, program in systems.items():
                seconds = run(program)
                if number > 0:
                    times[name].append(seconds)
    rows = []
    for name, pairs in times.items():
        walls, cpus = zip(*pairs, strict=True)
        rows.append(
            {
                "system": name,
                "wall": statistics.median(walls),
                "cpu": statistics.median(cpus),
                "wall_min_max": [min(walls), max(walls)],
                "cpu_min_max": [min(cpus), max(cpus)],
            }
        )
    return rows


def table(rows: list[dict]) -> str:
    """Returns the results as Markdown."""
    reference = next(row for row in rows if row["system"] == REFERENCE)
    lines = ["| program | wall, s | CPU, s | wall relative to cse-en |", "|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row['system']} | {row['wall']:.3f} | {row['cpu']:.3f} | "
            f"{row['wall'] / reference['wall']:.2f} |"
        )
    lines += [
        "",
        "Medians over processes, from start to end. Models load from local folders and encode one sentence. "
        "The files are already in the memory of the operating system.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=11, help="processes of each system that are counted")
    parser.add_argument("-o", "--output", type=Path, default=machine.RESULTS / "startup")
    options = parser.parse_args()
    content = {**machine.circumstances(), "rounds": options.rounds, "sentence": SENTENCE}
    content["rows"] = measure(options.rounds)
    output = options.output.resolve()
    machine.write(str(output), content)
    write_text(output.with_suffix(".md"), table(content["rows"]))
    print(table(content["rows"]))


if __name__ == "__main__":
    main()
