"""Folders of estimators that are incomplete, damaged or of another kind."""

import json

import numpy as np
import pytest

pytest.importorskip("sklearn")


from sentenc import CheckpointError
from sentenc.downstream import SentenceClassifier, SentencePairClassifier, SentencePairRegressor, load
from tests.support.labeled import labeled, scored_pairs

TEXTS, LABELS = map(list, zip(*labeled(), strict=True))
ROWS = scored_pairs()
PAIRS = [(left, right) for left, right, _ in ROWS]
SCORES = [score for *_, score in ROWS]


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    for name, value in values.items():
        old = config[name]
        config[name] = value(old) if callable(value) else value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", ["config.json", "head.safetensors", "encoder"])
def test_missing_file_is_named(folder, name):
    (folder / name).rename(folder.parent / "elsewhere")
    with pytest.raises(CheckpointError, match=str(folder)):
        load(folder)


def test_every_file_counts(folder):
    for path in [path for path in folder.rglob("*") if path.is_file() and path.name != "config.json"]:
        content = path.read_bytes()
        middle = len(content) // 2
        for damaged in (
            content[:middle],
            content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        ):
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=str(path)):
                load(folder)
        path.unlink()
        with pytest.raises(CheckpointError, match=str(folder)):
            load(folder)
        path.write_bytes(content)
        load(folder)
    (folder / "encoder" / "modules.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"modules\.json .*config\.json"):
        load(folder)
    (folder / "encoder" / "modules.json").unlink()
    # Other files, such as a report, are allowed.
    (folder / "report").mkdir()
    (folder / "report" / "report.md").write_text("good")
    load(folder)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"format_version": 2}, "format_version 2, expected 1"),
        ({"kind": "Pickle"}, "kind 'Pickle', expected one of SentenceClassifier"),
        ({"kind": ["SentenceClassifier"]}, "kind "),
        ({"kind": "SentencePairClassifier"}, r"\(3, 24\), expected \(3, 48\)"),
        ({"kind": "SentencePairRegressor"}, "config.json"),
        ({"kind": "SentencePairRegressor", "labels": {"steps": []}}, "IndexError"),
        ({"params": {"fine_tune": "none"}}, "fine_tune is 'none'"),
        ({"params": {"unknown": 1}}, "unknown"),
        ({"params": [1]}, "config.json"),
        ({"params": {"C": None}}, "C is None"),
        ({"labels": {}}, "KeyError"),
        ({"labels": None}, "TypeError"),
        ({"labels": lambda old: old | {"classes": ["a", "b"]}}, r"\(3, 24\), expected \(2, 24\)"),
        ({"labels": lambda old: old | {"classes": ["c", "b", "a"]}}, "classes"),
        ({"labels": lambda old: old | {"type": "int"}}, "list of int"),
        ({"labels": lambda old: old | {"multi_label": True}}, "'softmax'"),
        ({"head": "sigmoid"}, "'sigmoid'"),
        ({"head": "linear"}, "'linear'"),
        ({"fitted": {}}, "KeyError"),
        ({"fitted": None}, "TypeError"),
        ({"files": None}, "files None"),
        ({"files": {}}, "files {}"),
        ({"files": lambda old: old | {"../x": {}}}, r"\.\./x"),
        ({"files": lambda old: old | {"/etc/passwd": {}}}, "/etc/passwd"),
        ({"files": lambda old: old | {"encoder/more": {}}}, "encoder/more"),
    ],
)
def test_inconsistent_config_is_refused(folder, values, words):
    change(folder, **values)
    with pytest.raises(CheckpointError, match=words):
        load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"format_version": 1}', "\udcff"])
def test_invalid_config_is_refused(folder, text):
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=str(folder)):
        load(folder)


def test_another_kind_is_refused(folder, encoder, tmp_path):
    with pytest.raises(CheckpointError, match="a SentenceClassifier, expected a SentencePairClassifier"):
        SentencePairClassifier.load(folder)
    SentencePairRegressor(encoder).fit(PAIRS, SCORES).save(tmp_path / "scorer")
    with pytest.raises(CheckpointError, match="a SentencePairRegressor, expected a SentenceClassifier"):
        SentenceClassifier.load(tmp_path / "scorer")
    encoder.save(tmp_path / "encoder")
    for other in (tmp_path / "encoder", tmp_path / "nowhere", tmp_path):
        with pytest.raises(CheckpointError, match=str(other)):
            load(other)


def test_a_head_that_does_not_fit(folder):
    from safetensors.numpy import save_file

    from sentenc.downstream.persistence import file_entry

    for tensors, words in (
        ({"weights": np.zeros((3, 24), np.float32)}, "tensors"),
        ({"weights": np.zeros((3, 24), np.float32), "bias": np.zeros(2, np.float32)}, "shapes"),
        ({"weights": np.full((3, 24), np.nan, np.float32), "bias": np.zeros(3, np.float32)}, "not finite"),
    ):
        save_file(tensors, folder / "head.safetensors")
        entry = file_entry(folder / "head.safetensors")
        change(folder, files=lambda old, entry=entry: old | {"head.safetensors": entry})
        with pytest.raises(CheckpointError, match=words):
            load(folder)
    (folder / "head.safetensors").write_bytes(b"no tensors")
    entry = file_entry(folder / "head.safetensors")
    change(folder, files=lambda old: old | {"head.safetensors": entry})
    with pytest.raises(CheckpointError, match=r"head\.safetensors"):
        load(folder)
