import numpy as np
import pytest

from sentenc.errors import DataError
from sentenc.evaluation import evaluate
from sentenc.evaluation.protocols.search import cosine_scores
from tests.evaluation.conftest import FILLER, WordAverage
from tests.evaluation.test_beir import beir_folder

# A function that returns these vectors: the cosines with "q" are 1, 0.8, 0.6, 0.6, 0.6 and 0.
VECTORS = {"q": [1, 0], "a": [2, 0], "b": [8, 6], "c": [3, 4], "d": [3, 4], "e": [0, 0], "": [0, 0]}


def vectors(texts):
    return np.array([VECTORS[text] for text in texts], np.float32)


def search(tmp_path, documents, judgments, queries=({"_id": "1", "text": "q"},), encoder=vectors):
    rows = [{"_id": name, "text": text} for name, text in documents.items()]
    folder = beir_folder(tmp_path / "task", rows, queries, test=judgments)
    return evaluate(encoder, str(folder)).records["task"]


def test_documents_are_ranked_by_cosine(tmp_path):
    documents = {"x": "b", "y": "c", "z": "a"}
    score = search(tmp_path, documents, [("1", "x", 1), ("1", "y", 2)])
    # The ranking is z, x, y.
    expected = (1 / np.log2(3) + 2 / np.log2(4)) / (2 + 1 / np.log2(3))
    assert score.value == round(100 * expected, 2)
    assert score.metrics == pytest.approx(
        {"nDCG@10": 100 * expected, "recall@100": 100, "MRR@10": 50, "MAP": 100 * (1 / 2 + 2 / 3) / 2}
    )
    assert (score.protocol, score.metric, score.text) == ("search", "nDCG@10", "own")
    assert score.sizes == {"corpus": 3, "queries": 1}
    assert [name.rpartition("/")[2] for name in score.data] == ["corpus.jsonl", "queries.jsonl", "test.tsv"]


def test_equal_texts_tie_and_ties_are_ordered_by_falling_id(tmp_path):
    documents = {"x": "c", "z": "c", "y": "d"}
    assert search(tmp_path / "1", documents, [("1", "z", 1)]).metrics["MRR@10"] == 100
    assert search(tmp_path / "2", documents, [("1", "y", 1)]).metrics["MRR@10"] == 50
    assert search(tmp_path / "3", documents, [("1", "x", 1)]).metrics["MRR@10"] == pytest.approx(100 / 3)


def test_a_document_with_the_id_of_the_query_is_left_out(tmp_path):
    score = search(tmp_path, {"1": "a", "2": "b"}, [("1", "2", 1)])
    assert score.metrics["MRR@10"] == 100


def test_an_empty_document_has_a_cosine_of_zero(tmp_path):
    score = search(tmp_path, {"x": "", "y": "b"}, [("1", "x", 1)])
    assert score.metrics["MRR@10"] == 50


def test_an_empty_query_ties_all_documents(tmp_path):
    queries = [{"_id": "1", "text": ""}]
    score = search(tmp_path, {"x": "a", "y": "b"}, [("1", "x", 1)], queries)
    assert score.metrics["MRR@10"] == 50


def test_a_missing_relevant_document_counts_as_not_found(tmp_path):
    score = search(tmp_path, {"x": "a"}, [("1", "x", 1), ("1", "gone", 1), ("1", "too", 0)])
    assert score.metrics["recall@100"] == 50
    assert score.details["missing_documents"] == 1
    with pytest.raises(DataError, match=r"none of the 1 relevant documents, for example 'gone'"):
        search(tmp_path / "none", {"x": "a"}, [("1", "gone", 1)])


def test_rankings_have_a_thousand_documents(tmp_path):
    VECTORS.update({f"n{i}": [1, i / 1000] for i in range(1200)})
    documents = {f"{i:04}": f"n{i}" for i in range(1200)}
    score = search(tmp_path, documents, [("1", "0999", 1), ("1", "1000", 1)])
    assert score.metrics["MAP"] == pytest.approx(100 * (1 / 1000) / 2)


def test_only_the_columns_of_similarity_are_compared(tmp_path):
    class Cut(WordAverage):
        similarity_dim = 4

    rng = np.random.default_rng(3)
    documents = {str(i): " ".join(rng.choice(FILLER, 5)) for i in range(30)}
    queries = [{"_id": "q", "text": "the plot"}]
    judgments = [("q", str(i), 1) for i in range(5)]
    cut = search(tmp_path / "1", documents, judgments, queries, Cut())
    short = search(tmp_path / "2", documents, judgments, queries, WordAverage(dim=4))
    assert cut.metrics["MAP"] == pytest.approx(short.metrics["MAP"])
    assert cut.encoder["settings"]["truncate_dim"] == 4
    whole = search(tmp_path / "3", documents, judgments, queries, WordAverage())
    assert cut.metrics["MAP"] != pytest.approx(whole.metrics["MAP"])


def test_values_equal_those_of_trec_eval(tmp_path):
    """The same vectors, ranked by cosines computed here and scored by trec_eval."""
    pytrec_eval = pytest.importorskip("pytrec_eval")
    rng = np.random.default_rng(11)
    documents = {f"d{i}": " ".join(rng.choice(FILLER, 6)) for i in range(120)}
    queries = [{"_id": f"q{i}", "text": " ".join(rng.choice(FILLER, 3))} for i in range(20)]
    judged = [
        (query["_id"], name, int(rng.integers(-1, 4)))
        for query in queries
        for name in documents
        if rng.random() < 0.1
    ]
    encoder = WordAverage()
    score = search(tmp_path, documents, judged, queries, encoder)
    similarity = encoder.similarity([query["text"] for query in queries], list(documents.values()))
    run = {
        query["_id"]: {name: float(value) for name, value in zip(documents, row, strict=True)}
        for query, row in zip(queries, similarity, strict=True)
    }
    judgments = {}
    for query, name, grade in judged:
        judgments.setdefault(query, {})[name] = grade
    keys = {"nDCG@10": "ndcg_cut_10", "recall@100": "recall_100", "MAP": "map"}
    evaluator = pytrec_eval.RelevanceEvaluator(judgments, {"ndcg_cut.10", "recall.100", "map"})
    theirs = evaluator.evaluate(run)
    for ours, key in keys.items():
        expected = 100 * np.mean([theirs[query][key] for query in judgments])
        assert score.metrics[ours] == pytest.approx(expected, abs=1e-2)


def test_equal_texts_have_exactly_equal_scores():
    rng = np.random.default_rng(0)
    documents = rng.standard_normal((50, 33)).astype(np.float32)
    documents[47] = documents[2]
    texts = [f"{min(i, 2) if i == 47 else i}" for i in range(50)]
    scores = cosine_scores(documents, rng.standard_normal((7, 33)).astype(np.float32), texts)(slice(0, 7))
    assert (scores[:, 2] == scores[:, 47]).all()
    assert scores.shape == (7, 50)
