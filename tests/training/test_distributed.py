import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sentenc.training.engine.distributed import Processes, single_process
from tests.support.training import assert_close_weights, score, trainer

SCRIPT = """
import sys
from pathlib import Path

sys.path.insert(0, {tests!r})
import torch
from tests.support.training import score, trainer, weights
from sentenc.training.engine.distributed import process_group

torch.set_num_threads(1)
with process_group("cpu") as processes:
    assert processes.count == 2
    for name, changes in {cases!r}.items():
        folder = Path({folder!r}) / name
        trained = trainer(folder, evaluate=score, dropout=0.0, processes=processes, **changes)
        trained.run(stop_at=5)
        trained = trainer(folder, evaluate=score, dropout=0.0, processes=processes, **changes)
        result = trained.run()
        if processes.is_first:
            torch.save(weights(trained), folder / "weights.pt")
    kept = {{}}
    for place in range(2):
        text = str(processes.gather_objects(weights(trained))[place]["0.module.weights.embeddings"].sum())
        kept[place] = text
    assert kept[0] == kept[1], kept
"""
CASES = {
    "dense": {"regularization": {"embeddings": 0.1}, "max_minutes": 60},
    "sparse": {"sparse_embeddings": True, "accumulate": 2},
}


def test_two_processes_train_the_same_weights_as_one(tmp_path):
    here = Path(__file__).parent
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(tests=str(here.parent), cases=CASES, folder=str(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(here.parents[1])},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name, changes in CASES.items():
        single = trainer(tmp_path / f"{name}-one", evaluate=score, dropout=0.0, **changes)
        single.run()
        saved = torch.load(tmp_path / name / "weights.pt", weights_only=True)
        assert_close_weights(saved, single)
        assert len((tmp_path / name / "log.jsonl").read_text().splitlines()) == 6


def test_a_batch_is_shared_out_evenly_or_refused():
    device = torch.device("cpu")
    shards = [Processes(rank, 3, device).shard(12) for rank in range(3)]
    np.testing.assert_array_equal(np.concatenate([np.arange(12)[shard] for shard in shards]), np.arange(12))
    with pytest.raises(ValueError, match=r"13.*3"):
        Processes(0, 3, device).shard(13)


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match="device is 'toaster', expected an available one"):
        single_process("toaster")
    assert single_process("cpu").device.type == "cpu"
