"""Measures the peak memory of encoding a million short texts.

    python benchmarks/encode_memory.py

Each way runs in a fresh process: sentenc and model2vec with the output in memory, sentenc into a
memory-mapped file, and sentenc by ``encode_iter`` from a generator, where neither the texts nor the output
are in memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile

import machine

N = 1_000_000
WAYS = ["encode", "encode, out=memmap", "encode_iter", "model2vec"]


def texts():
    return (f"the cat number {i} sat on the mat" for i in range(N))


def peak() -> float:
    """Returns the peak resident memory of the process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way: str) -> dict:
    import numpy as np

    import sentenc

    encoder = sentenc.load("cse-en")
    encoder.encode("warm")
    if way == "model2vec":
        from model2vec import StaticModel
        from tokenizers import Tokenizer

        model = StaticModel(encoder.weight("embeddings"), Tokenizer.from_str(encoder.tokenizer.spec))
        model.encode(["warm"])
    all_texts = list(texts()) if way != "encode_iter" else None
    before = peak()
    if way == "encode":
        encoder.encode(all_texts)
    elif way == "encode_iter":
        for _ in encoder.encode_iter(texts()):
            pass
    elif way == "model2vec":
        model.encode(all_texts, use_multiprocessing=False)
    else:
        with tempfile.NamedTemporaryFile(suffix=".npy") as file:
            out = np.lib.format.open_memmap(file.name, "w+", np.float32, (N, encoder.dim))
            encoder.encode(all_texts, out=out)
    output = N * encoder.dim * 4 / 2**20
    return {"way": way, "before_mib": before, "added_mib": peak() - before, "output_mib": output}


def in_process(way: str) -> dict:
    command = [sys.executable, __file__, "--way", way]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    way = parser.parse_args().way
    if way:
        print(json.dumps(measure(way)))
        return
    content = machine.circumstances()
    content["texts"] = N
    content["rows"] = [in_process(way) for way in WAYS]
    machine.write("encode_memory", content)
    for row in content["rows"]:
        print(f"{row['way']:22} added {row['added_mib']:7.0f} MiB (output: {row['output_mib']:.0f} MiB)")


if __name__ == "__main__":
    main()
