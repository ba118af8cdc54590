"""Labeled examples of tasks: reading, refusals, and metrics compared with scikit-learn and worked by hand."""

import gzip

import numpy as np
import pytest

from sentenc.errors import TextFileError
from sentenc.training.config.task_distillation import TaskConfig
from sentenc.training.data.labeled import baseline, read_task_data, task_score


def settings(**changes):
    values = {"kind": "classification", "train": "t", "dev": "d", "text": ("sentence",)} | changes
    return TaskConfig(**values)


@pytest.fixture
def write(tmp_path):
    def written(text, name="data.tsv"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return str(path)

    return written


def test_tsv_has_no_quotes(write):
    path = write('sentence\tlabel\n a "b  c\t1\n\nd "e"\u2028f\t0\r\n', "data.tsv.gz")
    data = read_task_data(path, settings())
    assert data.examples == [('a "b c',), ('d "e" f',)]
    assert (data.labels, data.targets.tolist()) == (("0", "1"), [1, 0])


def test_csv_has_quotes(write):
    path = write('label,id,sentence\nno,1,"a, ""b""\nc"\nyes,2,d\n', "data.csv")
    data = read_task_data(path, settings())
    assert data.examples == [('a, "b" c',), ("d",)]
    assert data.labels == ("no", "yes")


def test_files_without_header(write):
    path = write("gj04\t1\t\tA sentence.\ngj04\t0\t*\tA wrong.\n")
    task = settings(columns=("source", "label", "star", "sentence"))
    assert read_task_data(path, task).texts == ["A sentence.", "A wrong."]


def test_pairs_and_scores(write):
    path = write("a\tb\tscore\nx y\tz\t2.5\nx\tx\t5\n")
    data = read_task_data(path, settings(kind="regression", text=("a", "b"), label="score"))
    assert data.texts == ["x y\tz", "x\tx"]
    assert data.labels == ()
    assert data.outputs == 1
    assert data.gold()[1].tolist() == [[2.5], [5.0]]


def test_labels_of_dev_are_those_of_train(write):
    path = write("sentence\tlabel\na\tc\nb\ta\n")
    assert read_task_data(path, settings(), ("c", "b", "a")).targets.tolist() == [0, 2]
    with pytest.raises(TextFileError, match=r"line 2: .* 'c', expected .*'a', 'b'"):
        read_task_data(path, settings(), ("a", "b"))


def test_numbers_are_in_numerical_order(write):
    path = write("sentence\tlabel\na\t10\nb\t9\n")
    assert read_task_data(path, settings()).labels == ("9", "10")


def test_gold_of_a_repeated_text_is_the_mean(write):
    path = write("sentence\tlabel\na\t1\nb\t0\na\t0\na\t1\n")
    texts, targets = read_task_data(path, settings()).gold()
    assert texts == ["a", "b"]
    np.testing.assert_allclose(targets, [[1 / 3, 2 / 3], [1, 0]], rtol=1e-6)


def test_sample_is_seeded_and_in_order(write):
    path = write("sentence\tlabel\n" + "".join(f"w{i}\t{i % 2}\n" for i in range(20)))
    data = read_task_data(path, settings())
    sample = data.sample(5, 3)
    assert len(sample) == 5
    numbers = [int(text[1:]) for text in sample.texts]
    assert numbers == sorted(set(numbers))
    assert sample.targets.tolist() == [n % 2 for n in numbers]
    assert data.sample(5, 3).texts == sample.texts != data.sample(5, 4).texts
    assert data.sample(0, 1) is data is data.sample(20, 1)
    assert data.fingerprint() != sample.fingerprint() == data.sample(5, 3).fingerprint()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text\tlabel\na\t1\n", "has no column 'sentence', only 'text', 'label'"),
        ("sentence\tlabel\na\n", "line 2: .*1, expected 2"),
        ("sentence\tlabel\na\t1\n \t0\n", "line 3: 'sentence' is empty"),
        ("sentence\tlabel\na\t \n", "line 2: 'label' is empty"),
        ("sentence\tlabel\na\t1\nb\t1\n", "has only the label '1'"),
        ("sentence\tlabel\n", "has no examples"),
        ("", "has no examples"),
    ],
)
def test_malformed_files_are_refused(write, text, message):
    with pytest.raises(TextFileError, match=message):
        read_task_data(write(text), settings())


def test_refused_scores_and_quotes(write):
    for value in ("x", "nan", "inf"):
        with pytest.raises(TextFileError, match=f"line 2: the score is '{value}'"):
            read_task_data(write(f"sentence\tlabel\na\t{value}\n"), settings(kind="regression"))
    with pytest.raises(TextFileError, match="line 2: bad CSV"):
        read_task_data(write('sentence,label\n"a"b,1\n', "data.csv"), settings())


def one_hot(guesses, classes):
    return np.eye(classes, dtype=np.float32)[guesses]


def test_metrics_against_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for classes in (2, 4):
        gold, guesses = rng.integers(0, classes, 50), rng.integers(0, classes, 50)
        outputs = one_hot(guesses, classes)
        assert task_score("accuracy", outputs, gold) == pytest.approx(
            100 * metrics.accuracy_score(gold, guesses)
        )
        assert task_score("matthews", outputs, gold) == pytest.approx(
            100 * metrics.matthews_corrcoef(gold, guesses)
        )
        last = metrics.f1_score(gold == classes - 1, guesses == classes - 1)
        assert task_score("f1", outputs, gold) == pytest.approx(100 * last)


def test_metrics_by_hand():
    gold = np.array([1, 1, 0, 0])
    # One true positive, one false positive, one false negative: precision and recall are 1/2.
    assert task_score("f1", one_hot([1, 0, 1, 0], 2), gold) == 50
    assert task_score("matthews", one_hot([1, 0, 1, 0], 2), gold) == 0
    assert task_score("matthews", one_hot([0, 0, 0, 0], 2), gold) == 0
    assert task_score("f1", one_hot([0, 0, 0, 0], 2), np.array([0, 0, 0, 0])) == 0
    scores = np.array([[0.1], [0.3], [0.2]], np.float32)
    # Ranks 1 3 2 against 1 2 3: 1 - 6 * 2 / (3 * 8).
    assert task_score("spearman", scores, np.array([1.0, 2.0, 3.0])) == pytest.approx(50)
    assert task_score("spearman", np.ones((3, 1), np.float32), np.array([1.0, 2.0, 3.0])) == 0


def test_baseline_is_the_score_of_the_most_frequent_class(write):
    path = write("sentence\tlabel\na\t1\nb\t1\nc\t1\nd\t0\n")
    data = read_task_data(path, settings())
    assert baseline("accuracy", data) == 75
    assert baseline("f1", data) == pytest.approx(100 * 6 / 7)
    assert baseline("matthews", data) == 0
    assert baseline("spearman", data) == 20
