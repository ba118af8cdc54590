"""Peak memory of encoding a million short texts: the output, plus what a block needs.

    python benchmarks/encode_memory.py

Measured in fresh processes: model2vec and sentenc, output in memory; sentenc into a memmap and by
encode_iter from a generator, where the texts and the output are not held either.
"""

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
    held = list(texts()) if way != "encode_iter" else None
    before = peak()
    if way == "encode":
        encoder.encode(held)
    elif way == "encode_iter":
        assert sum(len(block) for block in encoder.encode_iter(texts())) == N
    elif way == "model2vec":
        model.encode(held, use_multiprocessing=False)
    else:
        with tempfile.NamedTemporaryFile(suffix=".npy") as file:
            out = np.lib.format.open_memmap(file.name, "w+", np.float32, (N, encoder.dim))
            encoder.encode(held, out=out)
    output = N * encoder.dim * 4 / 2**20
    return {"way": way, "before_mib": before, "added_mib": peak() - before, "output_mib": output}


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    content = machine.circumstances()
    content["texts"] = N
    content["rows"] = [
        json.loads(subprocess.run([sys.executable, __file__, way], capture_output=True, check=True).stdout)
        for way in WAYS
    ]
    machine.write("encode_memory", content)
    for row in content["rows"]:
        print(f"{row['way']:22} added {row['added_mib']:7.0f} MiB (output: {row['output_mib']:.0f} MiB)")


if __name__ == "__main__":
    main()
