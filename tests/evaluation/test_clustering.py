import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import v_measure_score

from sentenc.errors import DataError
from sentenc.evaluation import Task, evaluate
from sentenc.evaluation.protocols.clustering import v_measure
from tests.evaluation.conftest import FILLER, NEGATIVE, POSITIVE, WordAverage, sentence


@pytest.fixture
def topics(tmp_path):
    """A file of 90 texts with the labels good, bad and none."""
    rng = np.random.default_rng(5)
    path = tmp_path / "topics.csv"
    words = {"good": POSITIVE, "bad": NEGATIVE, "none": FILLER}
    lines = [f"{sentence(rng, words[name])},{name}" for name in rng.permutation([*words] * 30)]
    path.write_text("text,label\n" + "\n".join(lines) + "\n")
    return path


def test_the_score_is_the_mean_of_ten_runs_of_scikit_learn(topics):
    encoder = WordAverage()
    score = evaluate(encoder, f"clustering:{topics}", seed=3).records["topics-clustering"]
    rows = [line.split(",") for line in topics.read_text().splitlines()[1:]]
    vectors, labels = encoder.encode([text for text, _ in rows]), [label for _, label in rows]
    expected = []
    for seed in range(3, 13):
        k_means = MiniBatchKMeans(n_clusters=3, batch_size=500, n_init="auto", random_state=seed)
        expected.append(100 * v_measure_score(labels, k_means.fit_predict(vectors)))
    assert score.details["v_measure"] == pytest.approx(expected)
    assert score.details["seeds"] == list(range(3, 13))
    assert score.metrics == pytest.approx({"v_measure": np.mean(expected), "v_measure_std": np.std(expected)})
    assert score.value == round(float(np.mean(expected)), 2)
    assert (score.protocol, score.metric, score.seed) == ("clustering", "v_measure", 3)
    assert score.probe == {"name": "mini-batch k-means", "batch_size": 500, "runs": 10}


def test_separate_clusters_have_a_v_measure_of_one():
    vectors = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)
    labels = np.repeat([2, 0, 1], 20)
    assert v_measure(vectors, labels, 0) == 1


def test_v_measure_by_hand():
    """Twenty texts of label 0 at one place, ten of each label at another."""
    vectors = np.repeat(np.eye(2, dtype=np.float32), 20, axis=0)
    labels = np.repeat([0, 0, 1], [20, 10, 10])

    def entropy(*shares):
        return -sum(share * np.log(share) for share in shares)

    homogeneity = 1 - entropy(1 / 2, 1 / 2) / 2 / entropy(3 / 4, 1 / 4)
    completeness = 1 - 3 / 4 * entropy(2 / 3, 1 / 3) / entropy(1 / 2, 1 / 2)
    expected = 2 * homogeneity * completeness / (homogeneity + completeness)
    assert v_measure(vectors, labels, 0) == pytest.approx(expected)


def test_one_label_is_an_error(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,x\nb,x\n")
    with pytest.raises(DataError, match="same label, expected at least 2"):
        evaluate(WordAverage(), f"clustering:{tmp_path / 'a.csv'}")


def test_files_without_its_columns_and_other_files_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text1,text2,label\na,b,0\n")
    with pytest.raises(DataError, match=r"columns are text1,text2,label, expected text,label for clustering"):
        Task.from_file(tmp_path / "a.csv", kind="clustering")
    with pytest.raises(ValueError, match=r"kind is 'clusters', expected 'clustering' or 'pair-"):
        Task.from_file(tmp_path / "a.csv", kind="clusters")
    (tmp_path / "b.csv").write_text("text,label\na,0\n")
    with pytest.raises(ValueError, match=r"dev and test are given, but .*b\.csv is scored without training"):
        Task.from_file(tmp_path / "b.csv", kind="clustering", test=tmp_path / "b.csv")
