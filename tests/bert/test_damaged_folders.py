"""Damaged BERT folders: the errors name the file and the fault."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import sentenc
from sentenc import BertEncoder, CheckpointError
from tests.bert.test_reading import change
from tests.support.models import make_bert, make_cse


@pytest.fixture
def folder(tmp_path):
    make_bert().save(tmp_path / "model")
    return tmp_path / "model"


def shorten(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def drop_weight(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["embeddings.LayerNorm.bias"]
    save_file(weights, folder / "model.safetensors")


def misshape(folder):
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"embeddings.LayerNorm.bias": np.ones(3, np.float32)}, folder / "model.safetensors")


def no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").unlink()


def bad_pickle(folder):
    pytest.importorskip("torch")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")


DAMAGES = {
    "short weights": (shorten, "not a safetensors file"),
    "missing weight": (drop_weight, "lacks 1 weights.*embeddings.LayerNorm.bias"),
    "misshapen": (misshape, r"shape \(3,\), expected \(24,\)"),
    "no tokenizer": (no_tokenizer, "neither tokenizer.json nor vocab.txt"),
    "pickle": (bad_pickle, "pytorch_model.bin"),
    "no json": (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read"),
    "list": (lambda f: (f / "config.json").write_text("[]"), "contains list, expected dict"),
    "module": (lambda f: (f / "modules.json").write_text('[{"type": 1}]'), "the module {'type': 1}"),
    "no pooling": (lambda f: shutil.rmtree(f / "1_Pooling"), "cannot be read"),
    "compute": (lambda f: change(f / "config.json", sentenc_compute="int4"), "sentenc_compute 'int4'"),
    "length": (lambda f: change(f / "sentence_bert_config.json", max_seq_length="long"),
               "max_seq_length 'long'"),
    "vocab": (lambda f: (f / "tokenizer.json").unlink() or (f / "vocab.txt").write_bytes(b"\xff"),
              "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named(folder, damage, message):
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        sentenc.load(folder)


def test_a_folder_without_a_model_is_refused(tmp_path):
    make_cse().save(tmp_path / "cse")
    with pytest.raises(CheckpointError, match=r"contains no model.*config\.json"):
        sentenc.load(tmp_path)
    with pytest.raises(CheckpointError):
        BertEncoder.from_folder(tmp_path / "cse")
