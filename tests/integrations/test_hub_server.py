"""Uploads and downloads with the real huggingface_hub, and a stand-in for its server."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import sentenc
from tests.support.hub_server import TOKEN, hub_server
from tests.support.models import make_bert, make_cse
from tests.support.pairs import make_pair

pytest.importorskip("huggingface_hub")

TEXTS = ["a man is playing the guitar", "the stock market fell", ""]
PUSH = """
import json, sys, sentenc
folder, name, options = sys.argv[1:]
print(sentenc.load(folder).push_to_hub(name, **json.loads(options)))
"""
LOAD = """
import json, sys, numpy, sentenc
name, options, output, texts = sys.argv[1:]
encoder = sentenc.load(name, **json.loads(options))
numpy.save(output, encoder.encode(json.loads(texts)))
print(encoder.fingerprint())
"""


@pytest.fixture
def hub():
    with hub_server() as server:
        yield server


@pytest.fixture
def python(hub, tmp_path):
    """Runs code in a process that knows only the stand-in, and has an empty cache."""

    def run(code, *arguments, token=TOKEN):
        # huggingface_hub reads these variables when it is imported. The stand-in stores no files by xet.
        hub_variables = {
            "HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HOME": str(tmp_path / "hub-home"), "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1" if hub.lfs else "0", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }  # fmt: skip
        environment = {**os.environ, **hub_variables, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    return run


def pushed(python, encoder, folder, **options):
    encoder.save(folder)
    result = python(PUSH, folder, "me/mine", json.dumps(options))
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def loaded(python, output, **options):
    result = python(LOAD, "me/mine", json.dumps(options), output, json.dumps(TEXTS))
    assert result.returncode == 0, result.stderr
    return result.stdout.strip(), np.load(output)


@pytest.mark.parametrize("make", [make_cse, make_bert, make_pair])
def test_a_pushed_model_is_loaded_from_an_empty_cache(hub, python, tmp_path, make):
    encoder = make()
    address = pushed(python, encoder, tmp_path / "model", license="mit")
    repository = hub.repositories["me/mine"]
    assert address == f"{hub.url}/me/mine/commit/{repository.branches['main']}"
    assert repository.messages[-1] == f"Upload {type(encoder).__name__} with sentenc"
    files = repository.commits[repository.branches["main"]]
    assert all(file.lfs == name.endswith(".safetensors") for name, file in files.items())
    assert b"license: mit\n" in files["README.md"].content
    fingerprint, vectors = loaded(python, tmp_path / "vectors.npy")
    assert fingerprint == encoder.fingerprint()
    np.testing.assert_array_equal(vectors, encoder.encode(TEXTS))
    # Only the files that an encoder reads were downloaded.
    assert "me/mine/.gitattributes" not in hub.downloads
    assert {f"me/mine/{name}" for name in files if name.endswith(".safetensors")} <= set(hub.downloads)


def test_the_upload_in_parts_of_hf_xet(hub, python, tmp_path):
    pytest.importorskip("hf_xet")
    # With hf_xet, huggingface_hub uploads a folder by other code, also if no file needs xet.
    hub.lfs = ()
    encoder = make_pair()
    address = pushed(python, encoder, tmp_path / "model")
    assert address == f"{hub.url}/me/mine/commit/{hub.repositories['me/mine'].branches['main']}"
    fingerprint, vectors = loaded(python, tmp_path / "vectors.npy")
    assert fingerprint == encoder.fingerprint()
    np.testing.assert_array_equal(vectors, encoder.encode(TEXTS))


def test_revisions_are_kept_apart(hub, python, tmp_path):
    first, second, third = make_cse(), make_cse(num_filters=4), make_cse(widths=())
    pushed(python, first, tmp_path / "first")
    commit = hub.repositories["me/mine"].branches["main"]
    pushed(python, second, tmp_path / "second", revision="next")
    address = pushed(python, third, tmp_path / "third", create_pr=True)
    assert address == f"{hub.url}/me/mine/discussions/1"
    for revision, encoder in (
        (None, first),
        ("next", second),
        ("refs/pr/1", third),
        (commit, first),
        (hub.repositories["me/mine"].branches["next"], second),
    ):
        fingerprint, vectors = loaded(python, tmp_path / "vectors.npy", revision=revision)
        assert fingerprint == encoder.fingerprint()
        np.testing.assert_array_equal(vectors, encoder.encode(TEXTS))
    result = python(LOAD, "me/mine", '{"revision": "none"}', tmp_path / "none.npy", "[]")
    assert "ModelNotFoundError" in result.stderr
    assert "'none'" in result.stderr


def test_a_pushed_model_replaces_the_older_one(hub, python, tmp_path):
    make_pair().save(tmp_path / "older")
    pushed(python, sentenc.load(tmp_path / "older"), tmp_path / "pair")
    pushed(python, make_cse(), tmp_path / "model")
    repository = hub.repositories["me/mine"]
    files = repository.commits[repository.branches["main"]]
    assert not [name for name in files if name.startswith(("documents/", "queries/"))]
    assert loaded(python, tmp_path / "vectors.npy")[0] == make_cse().fingerprint()


def test_an_upload_without_access_is_refused(python, tmp_path):
    make_cse().save(tmp_path / "model")
    result = python(PUSH, tmp_path / "model", "me/mine", "{}", token="hf_wrong")
    assert "HubError: me/mine on the Hugging Face Hub cannot be written" in result.stderr
    result = python(LOAD, "me/mine", "{}", tmp_path / "none.npy", "[]")
    assert "ModelNotFoundError" in result.stderr
