"""Compares the encoding speed of cse-en with other fast encoders, in one run.

    python benchmarks/encode_speed.py [--texts FILE --source NAME]

The other encoders are model2vec with the vocabulary and dimension of cse-en, wordllama, the mean of gensim
word vectors, and all-MiniLM-L6-v2 in sentence-transformers. In several rounds all of them encode the same
sentences in turn, and medians are reported. Each number of threads has a process of its own, because rayon
and OpenMP read the number at their start. cse-en runs with each instruction set of this processor; the other
encoders choose theirs by themselves.
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
# Number of sentences for systems that are too slow for all of them.
SLOW = {"MiniLM (sentence-transformers)": 128}
BATCHES = {"1": 1, "64": 64, "all": None}
# Sentences of a document, which then has about 300 tokens.
DOCUMENT = 12
DOCUMENTS = "documents"
# The beginning of the names of cse-en with another instruction set than the fastest.
ON = "cse-en on "


def natural_sentences(path: Path | None) -> list[str]:
    """Returns the ASCII sentences of a file, by default of the Lee corpus that gensim contains."""
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
    """Replaces every fourth word by words with accents, typographic punctuation, Cyrillic or CJK."""
    replacements = ["café naïve", "“quoted” — and…", "привет мир", "東京の天気", "Ærøskøbing", "€5 ½"]
    mixed = []
    for number, sentence in enumerate(sentences):
        words = sentence.split()
        positions = range(number % 4, len(words), 4)
        for i, position in enumerate(positions):
            words[position] = replacements[(number + i) % len(replacements)]
        mixed.append(" ".join(words))
    return mixed


def levels() -> list[str]:
    """Returns the instruction sets of this processor, the fastest last."""
    from sentenc.kernels.library import available_simd_levels

    return [name for name in ("baseline", "neon", "avx2", "avx512") if name in available_simd_levels()]


def systems(threads: int) -> dict:
    import sentenc

    encoder = sentenc.load("cse-en", threads=threads)
    embeddings = encoder.weight("embeddings")
    *others, _ = levels()
    return {
        "cse-en": encoder.encode,
        **{f"{ON}{level}": encoder.encode for level in others},
        "cse-en, word path alone": encoder.word_path().encode,
        "cse-en-tiny": sentenc.load("cse-en-tiny", threads=threads).encode,
        "model2vec, same vocabulary": _model2vec(encoder, embeddings),
        "gensim, mean of vectors": _gensim(encoder, embeddings),
        "wordllama": _wordllama(),
        "MiniLM (sentence-transformers)": _minilm(threads),
    }


def _model2vec(encoder, embeddings):
    from model2vec import StaticModel
    from tokenizers import Tokenizer

    model = StaticModel(embeddings.astype(np.float32), Tokenizer.from_str(encoder.tokenizer.spec))
    return lambda texts: model.encode(texts, use_multiprocessing=False)


def _gensim(encoder, embeddings):
    from gensim.models import KeyedVectors

    words = {token: i for token, i in encoder.tokenizer.vocabulary.items() if token.isalpha()}
    vectors = KeyedVectors(embeddings.shape[1])
    vectors.add_vectors(list(words), embeddings[list(words.values())])
    split = re.compile(r"\w+").findall
    return lambda texts: np.array(
        [vectors.get_mean_vector(split(t.lower()) or ["the"]) for t in _listed(texts)]
    )


def _wordllama():
    import wordllama

    # The wheel contains the weights, but looks for the tokenizer under another name than it ships.
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
    """Returns the wall and CPU seconds of encoding all texts in calls of ``size`` texts, or in one call."""
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
    """Returns one row per kind of text, batch size and system."""
    from sentenc.kernels.library import set_simd_level

    encode_functions = systems(threads)
    fastest = levels()[-1]
    for encode in encode_functions.values():
        encode(sets["mixed script"][:300])
    seconds: dict = {}
    for number in range(ROUNDS):
        # The order rotates, because the system after MiniLM starts with caches full of MiniLM's data.
        names = list(encode_functions)
        names = names[number % len(names) :] + names[: number % len(names)]
        for kind, texts in sets.items():
            for batch, size in BATCHES.items():
                if kind == DOCUMENTS and size is not None:
                    continue
                for name in names:
                    sample = texts[: SLOW.get(name, 1000 if size == 1 else len(texts))]
                    if name in SLOW and size == 1:
                        sample = sample[:32]
                    # Not in every call: a virtual machine takes longer for it than for a sentence.
                    set_simd_level(name.removeprefix(ON) if name.startswith(ON) else fastest)
                    wall, cpu = run(encode_functions[name], sample, size)
                    times = seconds.setdefault((kind, batch, name), [])
                    times.append((wall / len(sample), cpu / len(sample)))
    megabytes = {
        kind: sum(len(text.encode()) for text in texts) / len(texts) / 1e6 for kind, texts in sets.items()
    }
    return [
        {"threads": threads, "text": kind, "batch": batch, "system": name, **medians(times, megabytes[kind])}
        for (kind, batch, name), times in seconds.items()
    ]


def medians(times: list[tuple[float, float]], megabytes: float) -> dict:
    """Returns the medians of wall and CPU seconds per text, and their range; ``megabytes`` is the mean size of a text."""
    walls, cpus = zip(*times, strict=True)
    wall = statistics.median(walls)
    return {
        "per_second": 1 / wall,
        "megabytes_per_second": megabytes / wall,
        "wall_us": wall * 1e6,
        "cpu_us": statistics.median(cpus) * 1e6,
        "wall_us_min_max": [min(walls) * 1e6, max(walls) * 1e6],
    }


def profile(texts: list[str]) -> dict:
    """Returns the CPU microseconds per sentence of each stage and instruction set, on one thread."""
    import sentenc
    from sentenc.encoders.cse.tables import fold_tables
    from sentenc.kernels.library import set_simd_level

    encoder = sentenc.load("cse-en", threads=1)
    words, tokenizer = encoder.word_path(), encoder.tokenizer
    ids, _, counts = tokenizer.encode(texts)
    rows = [table.rows for table in fold_tables(encoder.config, encoder._weights, "int8")]
    targets = [np.empty((len(ids), r.shape[1]), r.dtype) for r in rows]
    data, offsets = tokenizer.bytes_and_offsets(texts)

    def stage(model):
        out = np.empty((len(texts), model.dim), np.float32)
        return lambda: model._kernel.encode(data, offsets, 8192, out, counts)

    stages = {
        "bytes and offsets": lambda: tokenizer.bytes_and_offsets(texts),
        "tokenize": lambda: tokenizer.native.tokenize(data, offsets, 8192),
        "tokenize + word path": stage(words),
        "tokenize + word path + n-gram path (the kernel)": stage(encoder),
        "encode() in all": lambda: encoder.encode(texts),
        "plain numpy gather of the same int8 rows": lambda: [
            np.take(r, ids, axis=0, out=t, mode="clip") for r, t in zip(rows, targets, strict=True)
        ],
    }
    times: dict = {(name, level): [] for name in stages for level in levels()}
    for _ in range(3 * ROUNDS):
        for level in levels():
            set_simd_level(level)
            for name, call in stages.items():
                start = time.process_time()
                call()
                times[name, level].append((time.process_time() - start) / len(texts) * 1e6)
    return {
        "tokens_a_sentence": len(ids) / len(texts),
        "cpu_us": {
            name: {level: statistics.median(times[name, level]) for level in levels()} for name in stages
        },
    }


def profile_table(content: dict) -> str:
    stages = content["cpu_us"]
    names = list(next(iter(stages.values())))[::-1]
    return "\n".join(
        [
            f"| CPU us of a sentence of {content['tokens_a_sentence']:.1f} tokens, one thread | {' | '.join(names)} |",
            "|---|" + "---|" * len(names),
            *(
                f"| {stage} | " + " | ".join(f"{values[name]:.2f}" for name in names) + " |"
                for stage, values in stages.items()
            ),
        ]
    )


def table(rows: list[dict], reference: str = "model2vec, same vocabulary") -> str:
    speed = {(r["threads"], r["text"], r["batch"], r["system"]): r for r in rows}
    lines = [
        "| threads | text | batch | system | texts/s | MB/s | CPU us/text | ratio to model2vec, by CPU time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (threads, kind, batch, name), r in sorted(speed.items(), key=lambda item: item[0][:3]):
        ratio = speed[threads, kind, batch, reference]["cpu_us"] / r["cpu_us"]
        lines.append(
            f"| {threads} | {kind} | {batch} | {name} | {r['per_second']:,.0f} | {r['megabytes_per_second']:.3g} "
            f"| {r['cpu_us']:.1f} | {ratio:.3g} |"
        )
    return "\n".join(lines)


def in_process(threads: int, sets_file: str) -> list[dict]:
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        # Otherwise OpenMP's threads keep spinning after MiniLM is done, and slow the next system down.
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, __file__, "--threads", str(threads), "--sets", sets_file]
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--texts", type=Path, help="text file with one sentence per line; default: the Lee corpus"
    )
    parser.add_argument(
        "--source", default="Lee corpus (gensim)", help="name of the texts, which the result contains"
    )
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
    documents = [
        " ".join(ascii_texts[i : i + DOCUMENT]) for i in range(0, len(ascii_texts) - DOCUMENT + 1, DOCUMENT)
    ]
    sets = {"ASCII": ascii_texts, "mixed script": mixed_script(ascii_texts), DOCUMENTS: documents}
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
    text = table(content["rows"]) + "\n\n" + profile_table(content["profile"])
    path.with_suffix(".md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
