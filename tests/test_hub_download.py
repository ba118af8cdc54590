"""Downloads from the Hugging Face Hub, from a stand-in for its package: the files, the revision, and offline use."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import sentenc
from sentenc import MissingExtraError, ModelNotFoundError
from sentenc.encoders.hub_download import needed_files
from tests.support.models import make_bert

NEEDED = [
    "1_Pooling/config.json", "2_Dense/pytorch_model.bin", "README.md", "config.json",
    "config_sentence_transformers.json", "merges.txt", "model.safetensors", "modules.json",
    "sentencepiece.bpe.model", "tokenizer.json",
]  # fmt: skip
NEEDLESS = [
    ".gitattributes", "pytorch_model.bin", "tf_model.h5", "rust_model.ot", "flax_model.msgpack", "model.onnx",
    "onnx/model.onnx", "onnx/config.json", "openvino/openvino_model.bin", "openvino/openvino_model.xml",
    "training_args.bin", "optimizer.pt", "picture.png",
]  # fmt: skip


def test_only_files_that_an_encoder_reads_are_needed():
    assert needed_files([*NEEDLESS, *reversed(NEEDED)]) == NEEDED
    assert needed_files(["pytorch_model.bin", "config.json"]) == ["config.json", "pytorch_model.bin"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in for huggingface_hub that has one model; ``calls`` records its calls."""
    make_bert().save(tmp_path / "model")
    calls = []

    class Api:
        def model_info(self, name, revision=None):
            calls.append(("info", name, revision))
            if name != "me/tiny":
                raise OSError(f"no repository {name}")
            return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in NEEDED + NEEDLESS])

    def snapshot_download(name, **options):
        calls.append(("download", name, options))
        return str(tmp_path / "model")

    constants = SimpleNamespace(HF_HUB_OFFLINE=False)
    module = SimpleNamespace(
        HfApi=Api, snapshot_download=snapshot_download, constants=constants, calls=calls, folder=tmp_path
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.chdir(tmp_path)
    return module


@pytest.mark.parametrize("revision", [None, "v1.0"])
def test_a_model_of_the_hub(hub, revision):
    encoder = sentenc.load("me/tiny", revision=revision)
    np.testing.assert_array_equal(encoder.encode("a dog"), make_bert().encode("a dog"))
    options = {"revision": revision, "allow_patterns": NEEDED}
    assert hub.calls == [("info", "me/tiny", revision), ("download", "me/tiny", options)]
    assert encoder.loaded_as == ("me/tiny", {} if revision is None else {"revision": revision})


def test_offline_only_the_cache_is_read(hub):
    hub.constants.HF_HUB_OFFLINE = True
    sentenc.load("me/tiny")
    assert hub.calls == [("download", "me/tiny", {"revision": None, "local_files_only": True})]


def test_errors_of_the_hub_name_the_model_and_the_revision(hub, monkeypatch):
    with pytest.raises(
        ModelNotFoundError, match=r"'me/other' \(revision 'old'\) is no folder.*no repository"
    ):
        sentenc.load("me/other", revision="old")
    for model in ("cse-en-tiny", hub.folder / "model"):
        with pytest.raises(ValueError, match="revision is 'old', expected None"):
            sentenc.load(model, revision="old")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"sentenc\[hub\]"):
        sentenc.load("me/tiny")
