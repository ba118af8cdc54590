"""Sentences per second of cse-en beside its peers, in one run.

    python benchmarks/encode_speed.py [--texts FILE --source NAME]

Peers: model2vec with cse-en's own vocabulary and dimension, wordllama, the mean of gensim word vectors,
and all-MiniLM-L6-v2 through sentence-transformers. All of them encode the same sentences, by turns,
for several rounds; medians are reported. Thread counts need their own processes, because rayon and
OpenMP read theirs at the start.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
import numpy as np

ROUNDS = 6
# Sentences for a system too slow for all of them.
SLOW = {"MiniLM (sentence-transformers)": 128}
BATCHES = {"1": 1, "64": 64, "all": None}


def natural_sentences(path: Path | None) -> list[str]:
    """ASCII sentences: the user's file, or the Lee corpus that comes with gensim."""
    if path is not None:
        lines = path.read_text(encoding="utf-8").splitlines()
    else:
        import gensim

        data = Path(gensim.__file__).parent / "test" / "test_data"
        documents = [
            (data / name).read_text(encoding="latin-1") for name in ("lee_background.cor", "lee.cor")
        ]
        lines = re.split(r"(?<=[.!?])\s+|\n", "\n".join(documents))
    return [line.strip() for line in lines if line.isascii() and 3 <= len(line.split()) <= 60]


def mixed_script(sentences: list[str]) -> list[str]:
    """Every fourth word in another guise: accents, punctuation of print, Cyrillic, CJK."""
    guises = ["café naïve", "“quoted” — and…", "привет мир", "東京の天気", "Ærøskøbing", "€5 ½"]
    rows = []
    for number, sentence in enumerate(sentences):
        words = sentence.split()
        words[number % 4 :: 4] = [
            guises[(number + i) % len(guises)] for i in range(len(words[number % 4 :: 4]))
        ]
        rows.append(" ".join(words))
    return rows


def systems(threads: int) -> dict:
    import sentenc

    encoder = sentenc.load("cse-en", threads=threads)
    words = encoder.word_path()
    found = {"cse-en": encoder.encode, "cse-en, word path alone": words.encode}
    rows = encoder.weight("embeddings")
    found["cse-en-tiny"] = sentenc.load("cse-en-tiny", threads=threads).encode
    found["model2vec, same vocabulary"] = _model2vec(encoder, rows)
    found["gensim, mean of vectors"] = _gensim(encoder, rows)
    found["wordllama"] = _wordllama()
    found["MiniLM (sentence-transformers)"] = _minilm(threads)
    return found


def _model2vec(encoder, rows):
    from model2vec import StaticModel
    from tokenizers import Tokenizer

    model = StaticModel(rows.astype(np.float32), Tokenizer.from_str(encoder.tokenizer.spec))
    return lambda texts: model.encode(texts, use_multiprocessing=False)


def _gensim(encoder, rows):
    from gensim.models import KeyedVectors

    known = {t: i for t, i in encoder.tokenizer.vocabulary.items() if t.isalpha()}
    vectors = KeyedVectors(rows.shape[1])
    vectors.add_vectors(list(known), rows[list(known.values())])
    split = re.compile(r"\w+").findall
    return lambda texts: np.array(
        [vectors.get_mean_vector(split(t.lower()) or ["the"]) for t in _listed(texts)]
    )


def _wordllama():
    import wordllama

    # Its wheel carries the weights but looks for the tokenizer under another name than it ships.
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    return lambda texts: model.embed(_listed(texts))


def _minilm(threads: int):
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(str(machine.minilm_folder()), device="cpu")
    return lambda texts: model.encode(texts, show_progress_bar=False)


def _listed(texts):
    return [texts] if isinstance(texts, str) else texts


def run(encode, texts: list[str], size: int | None) -> tuple[float, float]:
    """Wall and CPU seconds of encoding all texts in calls of ``size``."""
    wall, cpu = time.perf_counter(), time.process_time()
    if size is None:
        encode(texts)
    elif size == 1:
        for text in texts:
            encode(text)
    else:
        for start in range(0, len(texts), size):
            encode(texts[start : start + size])
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(threads: int, sets: dict[str, list[str]]) -> list[dict]:
    found = systems(threads)
    for encode in found.values():
        encode(sets["mixed script"][:300])
    seconds: dict = {}
    for number in range(ROUNDS):
        # Another one begins every round: who comes after MiniLM finds the caches full of MiniLM.
        names = list(found)
        names = names[number % len(names) :] + names[: number % len(names)]
        for kind, texts in sets.items():
            for batch, size in BATCHES.items():
                for name in names:
                    encode = found[name]
                    some = texts[: SLOW.get(name, 1000 if size == 1 else len(texts))]
                    if name in SLOW and size == 1:
                        some = some[:32]
                    wall, cpu = run(encode, some, size)
                    seconds.setdefault((kind, batch, name), []).append((wall / len(some), cpu / len(some)))
    rows = []
    for (kind, batch, name), times in seconds.items():
        wall = statistics.median(w for w, _ in times)
        cpu = statistics.median(c for _, c in times)
        spread = [min(w for w, _ in times) * 1e6, max(w for w, _ in times) * 1e6]
        rows.append(
            {"threads": threads, "text": kind, "batch": batch, "system": name, "per_second": 1 / wall,
             "wall_us": wall * 1e6, "cpu_us": cpu * 1e6, "wall_us_min_max": spread}
        )  # fmt: skip
    return rows


def profile(texts: list[str]) -> dict:
    """CPU microseconds a sentence, stage by stage, on one thread."""
    import sentenc
    from sentenc.kernels.encode import encode as kernel
    from sentenc.kernels.encode import tokenize

    encoder = sentenc.load("cse-en", threads=1)
    words, tokenizer = encoder.word_path(), encoder.tokenizer
    ids, ends, counts = tokenizer.encode(texts)
    rows = [encoder._words.rows, encoder._ngrams.rows]
    targets = [np.empty((len(ids), r.shape[1]), r.dtype) for r in rows]
    data, offsets = tokenizer.bytes_and_offsets(texts)
    out = np.empty((len(texts), encoder.dim), np.float32)
    arguments = (data, offsets, tokenizer.rules, tokenizer.table, tokenizer.powers)
    buffer = np.empty(len(data), np.int32)

    def stage(model):
        return lambda: kernel(*arguments, model._words, model._ngrams, 8192, out, counts)

    stages = {
        "bytes and offsets": lambda: tokenizer.bytes_and_offsets(texts),
        "tokenize": lambda: tokenize(*arguments, 8192, buffer, ends, counts),
        "tokenize + word path": stage(words),
        "tokenize + word path + n-gram path (the kernel)": stage(encoder),
        "encode() in all": lambda: encoder.encode(texts),
        "plain numpy gather of the same int8 rows": lambda: [
            np.take(r, ids, axis=0, out=t, mode="clip") for r, t in zip(rows, targets, strict=True)
        ],
    }
    times: dict = {name: [] for name in stages}
    for _ in range(3 * ROUNDS):
        for name, call in stages.items():
            start = time.process_time()
            call()
            times[name].append((time.process_time() - start) / len(texts) * 1e6)
    return {
        "tokens_a_sentence": len(ids) / len(texts),
        "cpu_us": {n: statistics.median(t) for n, t in times.items()},
    }


def table(rows: list[dict], reference: str = "model2vec, same vocabulary") -> str:
    speed = {(r["threads"], r["text"], r["batch"], r["system"]): r for r in rows}
    lines = [
        "| threads | text | batch | system | sentences/s | CPU us/sentence | ratio to model2vec |",
        "|---|---|---|---|---|---|---|",
    ]
    for (threads, kind, batch, name), r in sorted(speed.items(), key=lambda item: item[0][:3]):
        ratio = r["per_second"] / speed[threads, kind, batch, reference]["per_second"]
        lines.append(
            f"| {threads} | {kind} | {batch} | {name} | {r['per_second']:,.0f} | {r['cpu_us']:.1f} | {ratio:.3g} |"
        )
    return "\n".join(lines)


def in_process(threads: int, sets_file: str) -> list[dict]:
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads),
        # Else OpenMP's threads go on spinning after MiniLM is done, on the time of whoever comes next.
        "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    command = [sys.executable, __file__, "--threads", str(threads), "--sets", sets_file]
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, help="one sentence a line; the Lee corpus by default")
    parser.add_argument("--source", default="Lee corpus (gensim)", help="what the texts are, for the record")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--sets", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        sets = json.loads(Path(options.sets).read_text())
        result = measure(options.threads, sets)
        if options.threads == 1:
            result.append({"profile": profile(sets["ASCII"])})
        print(json.dumps(result))
        return
    content = machine.circumstances()
    ascii_texts = natural_sentences(options.texts)
    sets = {"ASCII": ascii_texts, "mixed script": mixed_script(ascii_texts)}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(sets, file)
        file.flush()
        rows = [row for threads in (1, 2) for row in in_process(threads, file.name)]
    content["source"] = options.source
    content["sentences"] = len(ascii_texts)
    content["words_a_sentence"] = statistics.mean(len(t.split()) for t in ascii_texts)
    content["profile"] = next(row["profile"] for row in rows if "profile" in row)
    content["rows"] = [row for row in rows if "profile" not in row]
    path = machine.write("encode_speed", content)
    text = table(content["rows"]) + "\n\n" + json.dumps(content["profile"], indent=1)
    path.with_suffix(".md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
