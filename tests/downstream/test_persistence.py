"""Estimators saved to a folder and loaded from it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.models import make_cse

pytest.importorskip("sklearn")

from sklearn.base import clone

from sentenc import CheckpointError
from sentenc.downstream import SentenceClassifier, SentencePairClassifier, SentencePairRegressor, load
from tests.support.labeled import labeled, scored_pairs

TEXTS, LABELS = map(list, zip(*labeled(), strict=True))
ROWS = scored_pairs()
PAIRS = [(left, right) for left, right, _ in ROWS]
SCORES = [score for *_, score in ROWS]
ROOT = Path(__file__).parents[2]


def sets():
    return [{label, "long"} if len(text) > 25 else {label} for text, label in zip(TEXTS, LABELS, strict=True)]


def numbers(values):
    return [sorted(set(LABELS)).index(label) + 3 for label in values]


@pytest.mark.parametrize("class_weight", [None, "balanced", {3: 2.0, np.int64(4): 5}])
def test_class_weights_are_those_of_the_next_fit(encoder, tmp_path, class_weight):
    y = numbers(LABELS)
    before = SentenceClassifier(encoder, C=4.0, class_weight=class_weight).fit(TEXTS, y)
    before.save(tmp_path / "folder")
    after = SentenceClassifier.load(tmp_path / "folder")
    assert after.class_weight == class_weight
    again = clone(after).fit(TEXTS, y)
    np.testing.assert_allclose(again.predict_proba(TEXTS), before.predict_proba(TEXTS), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        (LABELS, str),
        (numbers(LABELS), int),
        ([float(number) for number in numbers(LABELS)], float),
        ([label == "pets" for label in LABELS], bool),
        ([label + "\0" for label in LABELS], str),
        (["\ud800" if label == "pets" else '東 "é\\\n' for label in LABELS], str),
        ([2**70 if label == "pets" else -1 for label in LABELS], int),
    ],
)
def test_labels_keep_their_type(encoder, tmp_path, y, kind):
    before = SentenceClassifier(encoder, C=4.0).fit(TEXTS, y)
    before.save(tmp_path / "saved")
    after = SentenceClassifier.load(tmp_path / "saved")
    assert after.classes_.tolist() == before.classes_.tolist() == sorted(set(y))
    assert {type(label) for label in after.predict(TEXTS).tolist()} == {kind}
    assert after.classes_.dtype == before.classes_.dtype
    np.testing.assert_array_equal(after.predict_proba(TEXTS), before.predict_proba(TEXTS))
    assert after.predict(TEXTS).tolist() == before.predict(TEXTS).tolist()
    assert after.score(TEXTS, y) == before.score(TEXTS, y)


@pytest.mark.parametrize("matrix", [False, True])
def test_any_number_of_labels(encoder, tmp_path, matrix):
    y = sets()
    if matrix:
        y = np.array([[label in labels for label in ("market", "pets", "long")] for labels in y]).astype(int)
    before = SentenceClassifier(encoder, C=4.0).fit(TEXTS, y)
    before.save(tmp_path / "saved")
    after = load(tmp_path / "saved")
    assert after.multi_label_ is True
    np.testing.assert_array_equal(after.predict_proba(TEXTS), before.predict_proba(TEXTS))
    assert type(after.predict(TEXTS)) is type(before.predict(TEXTS))
    np.testing.assert_array_equal(
        np.array(after.predict(TEXTS), object), np.array(before.predict(TEXTS), object)
    )


@pytest.mark.parametrize("kind", [SentencePairClassifier, SentencePairRegressor])
def test_pairs(encoder, tmp_path, kind):
    before = kind(encoder, random_state=0).fit(PAIRS, SCORES)
    before.save(tmp_path / "saved")
    after = load(tmp_path / "saved")
    assert type(after) is kind
    np.testing.assert_array_equal(after.predict(PAIRS), before.predict(PAIRS))
    np.testing.assert_array_equal(after.predict_proba(PAIRS), before.predict_proba(PAIRS))
    assert after.score(PAIRS, SCORES) == before.score(PAIRS, SCORES)
    assert after.metrics_ == before.metrics_


@pytest.mark.parametrize("tables", ["float32", "int8"])
def test_encoders_of_each_form_are_saved(tables, tmp_path):
    before = SentenceClassifier(make_cse(tables), random_state=0).fit(TEXTS, LABELS)
    before.save(tmp_path / "saved")
    np.testing.assert_array_equal(load(tmp_path / "saved").predict_proba(TEXTS), before.predict_proba(TEXTS))


def test_settings_and_metrics_are_restored(classifier, folder):
    after = load(folder)
    assert (after.C_, after.n_iter_, after.history_) == (8.0, 1, [])
    assert after.metrics_ == classifier.metrics_
    assert after.encoder_.fingerprint() == classifier.encoder_.fingerprint()
    assert after.encoder is after.encoder_
    parameters = classifier.get_params() | {"encoder": None, "random_state": None}
    assert after.get_params() | {"encoder": None} == parameters
    # The loaded estimator can be fitted and saved again.
    again = clone(after).fit(TEXTS, LABELS)
    assert again.score(TEXTS, LABELS) > 0.9
    after.save(folder)
    assert load(folder).metrics_ == classifier.metrics_


def test_score_range_is_restored(encoder, tmp_path):
    regressor = SentencePairRegressor(encoder, score_range=(np.int64(0), 5)).fit(PAIRS, SCORES)
    regressor.save(tmp_path / "saved")
    assert load(tmp_path / "saved").score_range == (0, 5)
    assert load(tmp_path / "saved").steps_.tolist() == [0, 1, 2, 3, 4, 5]


def test_layout(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["format_version"] == 1
    assert config["kind"] == "SentenceClassifier"
    assert config["labels"]["classes"] == ["market", "music", "pets"]
    assert set(config["versions"]) == {"numpy", "scikit-learn"}
    assert config["params"]["C"] == 8
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(config["files"]) == files - {"config.json"}
    assert "head.safetensors" in files
    assert any(name.startswith("encoder/") for name in files)
    for name in files:
        content = (folder / name).read_bytes()
        # No file is a pickle by its name or by its content: protocols 2 to 5 begin with these bytes.
        assert not name.endswith((".pkl", ".pickle", ".joblib", ".npy", ".npz"))
        assert not (content[:1] == b"\x80" and content[1:2] in b"\x02\x03\x04\x05")


def test_nothing_is_unpickled(folder, monkeypatch):
    import pickle

    def refuse(*_args, **_options):
        raise AssertionError("a pickle was read")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    load(folder)


# Atomic saving -----------------------------------------------------------------------------------


def content_of(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_save_that_fails_changes_nothing(folder, classifier, monkeypatch):
    before = content_of(folder)
    for name in ("json.dumps", "safetensors.numpy.save_file"):
        with monkeypatch.context() as patch:

            def fail(*_args, **_options):
                raise OSError("disk full")

            patch.setattr(name, fail)
            with pytest.raises(OSError, match="disk full"):
                classifier.save(folder)
        assert content_of(folder) == before
        assert [path.name for path in folder.parent.iterdir()] == ["saved"]


def test_a_save_replaces_the_whole_folder(folder, encoder):
    (folder / "old").write_text("from before")
    other = SentenceClassifier(encoder).fit(TEXTS, [label == "pets" for label in LABELS])
    other.save(str(folder))
    assert not (folder / "old").exists()
    assert load(folder).classes_.tolist() == [False, True]
    assert [path.name for path in folder.parent.iterdir()] == ["saved"]


def test_no_other_folder_is_replaced(classifier, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    (tmp_path / "file").write_text("text")
    for name in ("mine", "file"):
        with pytest.raises(CheckpointError, match=name):
            classifier.save(tmp_path / name)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years"
    (tmp_path / "empty").mkdir()
    classifier.save(tmp_path / "empty")
    classifier.save(tmp_path / "new" / "deep")
    load(tmp_path / "new" / "deep")


# In another process -------------------------------------------------------------------------------


def in_a_new_process(code, *arguments):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_new_process_predicts_the_same(folder, classifier, tmp_path):
    folder.rename(tmp_path / "moved")
    code = (
        "import json, sys; from sentenc.downstream import load; c = load(sys.argv[1]);"
        "t = json.loads(sys.argv[2]);"
        "print(json.dumps([c.predict(t).tolist(), c.predict_proba(t).tolist(), 'torch' in sys.modules]))"
    )
    labels, probabilities, torch = in_a_new_process(code, tmp_path / "moved", json.dumps(TEXTS))
    assert labels == classifier.predict(TEXTS).tolist()
    assert probabilities == classifier.predict_proba(TEXTS).tolist()
    assert not torch


def test_fitting_a_head_needs_no_torch(folder, tmp_path):
    code = (
        "import json, sys; from sentenc.downstream import *;"
        "from sentenc import load; e = load(sys.argv[1]); p = [('a man', 'a dog'), ('stock', 'market')] * 4;"
        "c = SentenceClassifier(e).fit(['a man', 'a dog'] * 4, ['x', 'y'] * 4); c.save(sys.argv[2]);"
        "d = SentencePairClassifier(e).fit(p, [0, 1] * 4); r = SentencePairRegressor(e).fit(p, [0.5, 3] * 4);"
        "print(json.dumps([SentenceClassifier.load(sys.argv[2]).predict(['a man']).tolist(),"
        " d.predict(p[:1]).tolist(), r.predict(p[:1]).tolist(), r.metrics_['pearson'], 'torch' in sys.modules]))"
    )
    label, same, (score,), pearson, torch = in_a_new_process(code, folder / "encoder", tmp_path / "new")
    assert (label, same) == (["x"], [0])
    assert 0 <= score < 1.5
    assert pearson > 0.9
    assert not torch


def test_importing_downstream_is_cheap():
    code = (
        "import json, sys; import sentenc, sentenc.downstream;"
        "print(json.dumps([n for n in ('sklearn', 'scipy', 'torch') if n in sys.modules]))"
    )
    assert in_a_new_process(code) == []


def test_without_scikit_learn_the_extra_is_named():
    code = (
        "import json, sys; sys.modules['sklearn'] = None; import sentenc\n"
        "try: sentenc.SentenceClassifier\n"
        "except sentenc.MissingExtraError as error: print(json.dumps([error.extra, str(error)]))"
    )
    extra, words = in_a_new_process(code)
    assert extra == "downstream"
    assert 'pip install "sentenc[downstream]"' in words
