"""Model folders: checked strictly, written atomically, verified."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import sentenc
from sentenc import CheckpointError, ModelNotFoundError
from sentenc.io.atomic import replacing_folder
from tests.support.models import make_bert, make_cse


@pytest.fixture
def folder(tmp_path):
    make_cse("int8").compressed().save(tmp_path / "model")
    return tmp_path / "model"


def reseal(folder, name):
    """Updates the hash of a file in config.json, so that the checks after the hash are tested."""
    import hashlib

    config = json.loads((folder / "config.json").read_text())
    data = (folder / name).read_bytes()
    config["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "config.json").write_text(json.dumps(config))


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_verify_passes(folder):
    result = sentenc.verify(folder)
    assert result.texts == 8
    assert result.max_difference < 1e-6


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "golden.json"])
def test_missing_truncated_and_changed_files_are_named(folder, name):
    path = folder / name
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(CheckpointError, match=f"{name} has .* bytes, expected"):
        sentenc.load(folder)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=f"{name} does not have the sha256"):
        sentenc.load(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{name} cannot be read"):
        sentenc.load(folder)


def test_bad_config_is_named(folder):
    original = (folder / "config.json").read_text()
    for changes, message in [
        ({"format_version": 2}, "format_version 2, expected 1"),
        ({"kind": "word2vec"}, "kind 'word2vec'"),
        ({"extra": 1}, r"unexpected: \['extra'\]"),
        ({"config": []}, "config of type list"),
        ({"config": {}}, "bad config"),
        ({"config": {**json.loads(original)["config"], "tables": "int4"}}, "bad config: tables is 'int4'"),
        ({"files": {}}, "no entry for model.safetensors"),
    ]:
        edit_config(folder, **changes)
        with pytest.raises(CheckpointError, match=message):
            sentenc.load(folder)
        (folder / "config.json").write_text(original)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="contains no model"):
        sentenc.load(folder)


def test_content_with_a_correct_hash_is_checked_too(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if k != "biases.2"}, folder / "model.safetensors")
    reseal(folder, "model.safetensors")
    with pytest.raises(CheckpointError, match=r"missing: \['biases.2'\]"):
        sentenc.load(folder)
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    reseal(folder, "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model.safetensors is not a safetensors file"):
        sentenc.load(folder)
    (folder / "tokenizer.json").write_bytes(b"\xff")
    reseal(folder, "tokenizer.json")
    with pytest.raises(CheckpointError, match=r"tokenizer.json is not UTF-8|not a safetensors"):
        sentenc.load(folder)


@pytest.mark.parametrize("make", [make_cse, make_bert])
def test_a_card_that_is_not_utf8_keeps_no_model_from_loading(make, tmp_path):
    encoder = make()
    encoder.save(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_bytes("# A modèle".encode("latin-1"))
    loaded = sentenc.load(tmp_path / "model")
    assert loaded.card == "# A mod\ufffdle"
    assert loaded.fingerprint() == encoder.fingerprint()
    loaded.save(tmp_path / "copy")
    assert sentenc.load(tmp_path / "copy").card == loaded.card


def test_a_folder_is_no_card(folder):
    (folder / "README.md").mkdir()
    assert sentenc.load(folder).card is None


def test_verify_sees_a_changed_weight(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings"] = np.roll(tensors["embeddings"], 1, axis=0)
    save_file(tensors, folder / "model.safetensors")
    reseal(folder, "model.safetensors")
    sentenc.load(folder)
    with pytest.raises(CheckpointError, match=r"golden text \d "):
        sentenc.verify(folder)


def test_nothing_by_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for name in ("no-such-model", "models/mine", "./a", "/a/b", ""):
        with pytest.raises(ModelNotFoundError, match="model is"):
            sentenc.load(name)
    with pytest.raises(CheckpointError, match="contains no model"):
        sentenc.load("models")
    with pytest.raises(ModelNotFoundError, match=r"'someone/something'.*Hugging Face Hub"):
        sentenc.load("someone/something")


def test_a_failed_save_leaves_the_older_model(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def save_half():
        with replacing_folder(folder, "config.json", CheckpointError, "a model folder") as staging:
            (staging / "config.json").write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk"):
        save_half()
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert os.listdir(folder.parent) == ["model"]


def test_a_killed_save_leaves_a_whole_model(folder, tmp_path):
    script = "import sys, sentenc\ne = sentenc.load(sys.argv[1])\nprint('go', flush=True)\nwhile True: e.save(sys.argv[1])"
    for delay in (0.05, 0.13, 0.21):
        process = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"go\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert sentenc.verify(folder).texts == 8


def test_every_shipped_model_verifies():
    assert sentenc.available_models()
    for name in sentenc.available_models():
        assert sentenc.verify(name).max_difference < 1e-4
