import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import (
    paired_cosine_distances,
    paired_euclidean_distances,
    paired_manhattan_distances,
)

from sentenc.errors import DataError
from sentenc.evaluation import Task, evaluate
from tests.evaluation.conftest import FILLER, POSITIVE, WordAverage, sentence


@pytest.fixture
def duplicates(tmp_path):
    """Pairs whose label is 1 if the second text has words of the first; labels are JSON numbers."""
    rng = np.random.default_rng(9)
    path = tmp_path / "duplicates.jsonl"
    rows = []
    for label in rng.integers(0, 2, 60).tolist():
        first = sentence(rng, POSITIVE)
        second = " ".join([*first.split()[: 3 * label], *rng.choice(FILLER, 4)])
        rows.append({"text1": first, "text2": second, "label": label, "other": None})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_average_precisions_are_scikit_learns(duplicates):
    encoder = WordAverage()
    score = evaluate(encoder, f"pair-classification:{duplicates}").records["duplicates-pair-classification"]
    rows = [json.loads(line) for line in duplicates.read_text().splitlines()]
    labels = [row["label"] for row in rows]
    left, right = (encoder.encode([row[name] for row in rows]) for name in ("text1", "text2"))
    expected = {
        "cosine_ap": average_precision_score(labels, 1 - paired_cosine_distances(left, right)),
        "dot_ap": average_precision_score(labels, (left * right).sum(axis=1)),
        "euclidean_ap": average_precision_score(labels, -paired_euclidean_distances(left, right)),
        "manhattan_ap": average_precision_score(labels, -paired_manhattan_distances(left, right)),
    }
    expected["max_ap"] = max(expected.values())
    assert score.metrics == pytest.approx({name: 100 * value for name, value in expected.items()})
    assert len(set(expected.values())) > 2
    assert score.value == round(score.metrics["cosine_ap"], 2)
    assert (score.protocol, score.metric, score.probe) == ("pair-classification", "cosine_ap", None)


def test_average_precision_by_hand(tmp_path):
    """The cosines are 1, 0.6 and 0, with the labels 1, 0 and 1: precisions 1 and 2/3 at the positives."""
    (tmp_path / "a.csv").write_text("text1,text2,label\na,a,1\na,b,0\na,c,1\n")
    vectors = {"a": [1, 0], "b": [3, 4], "c": [0, 1]}
    task = Task.from_file(tmp_path / "a.csv", kind="pair-classification", name="mine")
    score = evaluate(lambda texts: [vectors[text] for text in texts], task).records["mine"]
    assert score.metrics["cosine_ap"] == pytest.approx(100 * (1 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text1,text2,label\na,b,1\na,b,yes\n", r"a\.csv, line 3: label is 'yes', expected one of '0', '1'"),
        ("text1,text2,label\na,b,1\n", "all pairs have the same label"),
        ("text,label\na,1\nb,0\n", r"columns are text,label, expected text1,text2,label for pair-class"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        evaluate(WordAverage(), f"pair-classification:{tmp_path / 'a.csv'}")
