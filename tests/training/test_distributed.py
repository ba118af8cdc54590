import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from sentenc.training.engine.distributed import Processes, single_process
from sentenc.training.engine.loss_terms import BatchStream, LossTerm
from sentenc.training.losses import make_loss
from tests.support.models import make_cse
from tests.support.training import assert_close_weights, score, sentences, trainer
from tests.support.two_processes import CASES

ROOT = Path(__file__).parents[2]
ONE_GROUP = ["--standalone", "--nproc-per-node", "2"]


def torchrun(*arguments):
    """Starts torchrun without waiting for its end."""
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait(*started):
    """Waits until all have ended, and checks that they succeeded."""
    try:
        errors = [process.communicate(timeout=240)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * len(started), (
        errors[0][-3000:] + errors[-1][-3000:]
    )


def test_two_processes_train_the_same_weights_as_one(tmp_path):
    wait(torchrun(*ONE_GROUP, "-m", "tests.support.two_processes", tmp_path))
    # The process on the other machine has no state of its own, and has resumed from that of the first.
    assert not (tmp_path / "elsewhere/state.pt").exists()
    for name, changes in CASES.items():
        single = trainer(tmp_path / f"{name}-one", evaluate=score, dropout=0.0, **changes)
        single.run()
        saved = torch.load(tmp_path / name / "weights.pt", weights_only=True)
        assert_close_weights(saved, single)
        assert len((tmp_path / name / "log.jsonl").read_text().splitlines()) == 6


RUN = """
output = "model"

[student]
init = "random"
tokenizer = "teacher"
dropout = 0.1
config = { embedding_dim = 12, num_filters = 4 }

[teacher]
vectors = ["vectors.parquet"]

[corpora.text]
sources = [{ files = ["sentences.txt"], form = "sentences" }]

[[losses]]
kind = "embedding_distillation"
corpus = "text"
batch_size = 16

[training]
steps = 12
warmup = 2
device = "cpu"
"""


def machine(folder):
    """The inputs of a run, which every machine has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    teacher, texts = make_cse(embedding_dim=16), sentences(1, 200)
    teacher.save(folder / "teacher")
    (folder / "run.toml").write_text(RUN)
    (folder / "sentences.txt").write_text("\n".join(texts))
    vectors = [list(map(float, row)) for row in teacher.encode(texts)]
    pq.write_table(pa.table({"text": texts, "embedding": vectors}), folder / "vectors.parquet")
    return folder


TRAIN = ["-m", "sentenc", "train", "--quiet"]


@pytest.fixture(scope="module")
def expected_weights(tmp_path_factory):
    """The weights of the model that one group of two processes trains."""
    pytest.importorskip("pyarrow")
    folder = machine(tmp_path_factory.mktemp("group") / "one")
    wait(torchrun(*ONE_GROUP, *TRAIN, folder / "run.toml"))
    return load_file(folder / "model/model.safetensors")


@pytest.mark.parametrize("is_shared", [True, False], ids=["shared files", "no shared files"])
def test_two_machines_train_the_same_model_as_one(tmp_path, expected_weights, is_shared):
    first = machine(tmp_path / "first")
    second = first if is_shared else machine(tmp_path / "second")
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        port = listening.getsockname()[1]
    wait(
        *(
            torchrun(
                *("--nnodes", 2, "--node-rank", rank, "--nproc-per-node", 1),
                *("--rdzv-endpoint", f"localhost:{port}"),
                *(*TRAIN, folder / "run.toml"),
            )
            for rank, folder in enumerate((first, second))
        )
    )
    actual = load_file(first / "model/model.safetensors")
    assert expected_weights.keys() == actual.keys()
    for name, value in expected_weights.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    assert (first / "work/state.pt").exists()
    if not is_shared:
        # The other machine has vectors, their list and statistics of its own, but neither state nor model.
        names = {path.name.partition("-")[0] for path in (second / "work").iterdir()}
        assert names == {"initialization", "statistics", "teacher"}
        assert list((second / "teacher-embeddings").glob("vectors-*.npy"))
        assert not (second / "model").exists()


def test_a_batch_is_shared_out_evenly_or_refused():
    device = torch.device("cpu")
    shards = [Processes(rank, 3, device).shard(12) for rank in range(3)]
    np.testing.assert_array_equal(np.concatenate([np.arange(12)[shard] for shard in shards]), np.arange(12))
    with pytest.raises(ValueError, match=r"13.*3"):
        Processes(0, 3, device).shard(13)


def test_processes_get_texts_of_similar_lengths_with_their_targets():
    batch = [("x" * length,) for length in range(1, 13)]
    loss = make_loss("embedding_distillation", {}, dim=4, teacher_dim=1, generator=torch.Generator())
    term = LossTerm(
        name="distill",
        loss=loss,
        batches=lambda _epoch, _start: iter([(0, batch)]),
        targets=lambda texts: np.array([[len(text)] for text in texts], np.float32),
    )

    def tokenize(texts):
        return torch.zeros(len(texts), 1, dtype=torch.int64), torch.tensor([len(text) for text in texts])

    lengths = []
    for rank in range(3):
        processes = Processes(rank, 3, torch.device("cpu"))
        stream = BatchStream(term, tokenize, processes, [0])
        drawn = stream.next(None)
        stream.close()
        lengths.append(drawn.lengths.tolist())
        # A loss compares the vectors of all processes, in the order of their ranks, with the targets.
        assert drawn.targets[processes.shard(12), 0].tolist() == lengths[-1]
    assert lengths == [[1, 4, 7, 10], [2, 5, 8, 11], [3, 6, 9, 12]]


class SecondOfTwo(Processes):
    """The second of two processes, whose first one always has the same values."""

    def __init__(self):
        super().__init__(1, 2, torch.device("cpu"))

    def gather(self, vectors):
        return torch.cat([vectors, vectors])

    def average_gradients(self, parameters):
        pass

    def all_reduce_max(self, *values):
        return list(values)

    def gather_objects(self, value):
        return [value, value]

    def from_first(self, compute):
        return compute()

    def broadcast(self, value):
        return value


def test_the_process_that_fails_writes_the_texts(tmp_path):
    broken = trainer(tmp_path, processes=SecondOfTwo())
    broken.loss_terms[0].loss.register_forward_hook(lambda _module, _inputs, loss: loss * float("nan"))
    with pytest.raises(FloatingPointError, match=r"failed-step-0-process-1\.json"):
        broken.run()
    failure = json.loads((tmp_path / "failed-step-0-process-1.json").read_text())
    assert len(failure["examples"]["distill"][0]) == 8


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match="device is 'toaster', expected an available one"):
        single_process("toaster")
    assert single_process("cpu").device.type == "cpu"
