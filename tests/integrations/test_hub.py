"""Uploads to a stand-in of the Hugging Face Hub, and the model cards that the Hub reads."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import sentenc
from sentenc import HubError
from sentenc.cli import cli
from tests.support.models import make_bert, make_cse
from tests.support.pairs import make_pair

pytest.importorskip("huggingface_hub")

import huggingface_hub
from click.testing import CliRunner
from huggingface_hub import ModelCard

from sentenc.integrations.model_card import hub_card

TEXTS = ["a man is playing the guitar", "the stock market fell", ""]


class StandIn:
    """The part of ``HfApi`` that is used, with repositories in a folder."""

    root: Path
    calls: list

    def __init__(self, token=None):
        self.token = token

    def create_repo(self, repo_id, *, private, exist_ok):
        self.calls.append(("create", repo_id, private, exist_ok, self.token))
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)

    def create_branch(self, repo_id, *, branch, exist_ok):
        self.calls.append(("branch", repo_id, branch, exist_ok))

    def upload_folder(self, *, repo_id, folder_path, revision, create_pr, commit_message, delete_patterns):
        self.calls.append(("upload", repo_id, revision, create_pr, commit_message))
        if repo_id.startswith("full/"):
            raise OSError("403 Forbidden: the quota is used up")
        target = self.root / repo_id
        for pattern in delete_patterns:
            for path in target.glob(pattern):
                path.unlink()
        shutil.copytree(folder_path, target, dirs_exist_ok=True)
        address = f"https://huggingface.co/{repo_id}"
        pull_request = f"{address}/discussions/1" if create_pr else None
        return SimpleNamespace(pr_url=pull_request, commit_url=f"{address}/commit/1")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    StandIn.root, StandIn.calls = tmp_path / "hub", []
    monkeypatch.setattr(huggingface_hub, "HfApi", StandIn)
    return StandIn


@pytest.mark.parametrize("make", [make_cse, make_bert, make_pair])
def test_an_uploaded_model_is_the_same(hub, make):
    encoder = make()
    address = encoder.push_to_hub("me/mine", private=True, token="secret")
    assert address == "https://huggingface.co/me/mine/commit/1"
    assert hub.calls[0] == ("create", "me/mine", True, True, "secret")
    again = sentenc.load(hub.root / "me" / "mine")
    assert again.fingerprint() == encoder.fingerprint()
    np.testing.assert_array_equal(again.encode(TEXTS), encoder.encode(TEXTS))


def test_a_branch_and_a_pull_request(hub):
    encoder = make_cse()
    encoder.push_to_hub("me/mine", revision="next", commit_message="New words")
    assert hub.calls[1:] == [
        ("branch", "me/mine", "next", True),
        ("upload", "me/mine", "next", False, "New words"),
    ]
    assert encoder.push_to_hub("me/mine", create_pr=True).endswith("/discussions/1")


def test_files_of_an_older_model_are_deleted(hub, tmp_path):
    make_cse().save_sentence_transformers(tmp_path / "older")
    shutil.copytree(tmp_path / "older", hub.root / "me" / "mine")
    (hub.root / "me" / "mine" / "notes.json").write_text("{}")
    encoder = make_cse(widths=())
    encoder.push_to_hub("me/mine")
    assert sentenc.load(hub.root / "me" / "mine").fingerprint() == encoder.fingerprint()
    assert (hub.root / "me" / "mine" / "notes.json").exists()


def test_failures_are_named(hub, monkeypatch):
    with pytest.raises(HubError, match=r"full/up .* 403 Forbidden"):
        make_cse().push_to_hub("full/up")
    for name in ("mine", "a/b/c", "/mine", "me/", 3):
        with pytest.raises(ValueError, match="expected owner/name"):
            make_cse().push_to_hub(name)
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(sentenc.MissingExtraError, match=r"sentenc\[hub\]"):
        make_cse().push_to_hub("me/mine")


def test_front_matter_of_a_shipped_model():
    encoder = sentenc.load("cse-en-tiny")
    card = ModelCard(hub_card(encoder, "me/tiny", encoder.card))
    assert (card.data.license, card.data.language, card.data.library_name) == ("apache-2.0", "en", "sentenc")
    assert "sentence-similarity" in card.data.tags
    assert card.data.pipeline_tag == "sentence-similarity"
    assert card.data.model_name == "tiny"
    assert card.text.strip().startswith("# cse-en-tiny")
    scores = {name: value for name, value in encoder.metadata["scores"].items() if not name.endswith(" avg")}
    results = {result.dataset_name: result for result in card.data.eval_results}
    assert sorted(result.metric_value for result in card.data.eval_results) == sorted(scores.values())
    assert results["STS-B"].dataset_type == "mteb/stsbenchmark-sts"
    assert (results["MR"].metric_type, results["STS12"].metric_type) == ("accuracy", "spearman_cosine")
    assert card.data.metrics == ["accuracy", "pearson", "spearman_cosine"]
    assert hub_card(encoder, "me/tiny", card.content).count("\n---\n") == 1


def test_ids_come_from_the_metadata(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    encoder = make_cse()
    encoder.metadata = {
        "teacher": "org/base-v2 and models/mine, weights 0.3 and 0.7",
        "datasets": ["me/texts", "Tatoeba (CC BY 2.0)", "me/texts"],
        "sources": {"a": "us/texts (MIT)"},
        "scores": {"STS12": 70.5, "mine": 3, "MR": "unknown"},
    }
    data = ModelCard(hub_card(encoder, "me/mine")).data
    assert (data.base_model, data.datasets) == (["org/base-v2"], ["me/texts"])
    assert [result.dataset_name for result in data.eval_results] == ["STS12"]
    given = {"base_model": "org/other", "license": "mit", "language": ["en", "de"]}
    data = ModelCard(hub_card(encoder, "me/mine", given=given)).data
    assert (data.base_model, data.license, data.language) == ("org/other", "mit", ["en", "de"])


def test_a_card_keeps_its_text_and_its_own_values():
    written = "---\nlicense: mit\ntags: [mine]\n---\n\n# Mine\n\nA text with --- in it.\n"
    text = hub_card(make_cse(), "me/mine", written)
    card = ModelCard(text)
    assert (card.data.license, card.data.tags) == ("mit", ["mine"])
    assert card.data.library_name == "sentenc"
    assert card.text.strip() == "# Mine\n\nA text with --- in it."
    plain = ModelCard(hub_card(make_cse(), "me/mine"))
    assert 'sentenc.load("me/mine")' in plain.text
    assert plain.data.eval_results is None


def test_the_command(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "secret")
    make_cse().save(tmp_path / "model")
    options = [
        "--private",
        "--license",
        "mit",
        "--dataset",
        "a/b",
        "--dataset",
        "c/d",
        "--token-env",
        "MY_TOKEN",
    ]
    result = CliRunner().invoke(cli, ["push", str(tmp_path / "model"), "me/mine", *options])
    assert (result.exit_code, result.output) == (0, "https://huggingface.co/me/mine/commit/1\n")
    assert hub.calls[0] == ("create", "me/mine", True, True, "secret")
    data = ModelCard((hub.root / "me" / "mine" / "README.md").read_text(encoding="utf-8")).data
    assert (data.license, data.datasets) == ("mit", ["a/b", "c/d"])
