from typing import ClassVar

import numpy as np
import pytest
import Stemmer

from sentenc import Index, PairEncoder
from sentenc.errors import DataError
from sentenc.evaluation import evaluate
from sentenc.evaluation.protocols.search import cosine_scores, hybrid_scores, lexical_scores
from sentenc.metrics.ranking import RANKING_METRICS
from sentenc.tokenization.analysis import Analyzer
from tests.evaluation.conftest import FILLER, WordAverage
from tests.evaluation.test_beir import beir_folder
from tests.support.models import make_bert, make_cse
from tests.support.pairs import in_space, with_prompts

# A function that returns these vectors: the cosines with "q" are 1, 0.8, 0.6, 0.6, 0.6 and 0.
VECTORS = {"q": [1, 0], "a": [2, 0], "b": [8, 6], "c": [3, 4], "d": [3, 4], "e": [0, 0], "": [0, 0]}


def vectors(texts):
    return np.array([VECTORS[text] for text in texts], np.float32)


def search(tmp_path, documents, judgments, queries=({"_id": "1", "text": "q"},), encoder=vectors, **options):
    rows = [{"_id": name, "text": text} for name, text in documents.items()]
    folder = beir_folder(tmp_path / "task", rows, queries, test=judgments)
    return evaluate(encoder, str(folder), **options).records["task"]


def test_documents_are_ranked_by_cosine(tmp_path):
    documents = {"x": "b", "y": "c", "z": "a"}
    score = search(tmp_path, documents, [("1", "x", 1), ("1", "y", 2)])
    # The ranking is z, x, y.
    expected = (1 / np.log2(3) + 2 / np.log2(4)) / (2 + 1 / np.log2(3))
    assert score.value == round(100 * expected, 2)
    values = {"nDCG@10": 100 * expected, "recall@100": 100, "MRR@10": 50, "MAP": 100 * (1 / 2 + 2 / 3) / 2}
    assert score.details["vector"] == pytest.approx(values)
    assert {name: score.metrics[name] for name in values} == score.details["vector"]
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


class TestWords:
    """The modes lexical and hybrid, on 60 documents and 15 queries of words."""

    @pytest.fixture
    def documents(self):
        rng = np.random.default_rng(2)
        return {f"d{i:02}": " ".join(rng.choice(FILLER, rng.integers(2, 9))) for i in range(60)}

    @pytest.fixture
    def queries(self):
        rng = np.random.default_rng(4)
        texts = [" ".join(rng.choice(FILLER, 3)) for _ in range(15)]
        return [{"_id": f"q{i}", "text": text} for i, text in enumerate([*texts, "unseen words"])]

    @pytest.mark.parametrize("mode", ["vector", "lexical", "hybrid"])
    def test_the_ranking_is_that_of_an_index(self, documents, queries, mode):
        """The index ranks equal scores by age, so documents are added in the order of falling ids."""
        names = sorted(documents, reverse=True)
        texts = [documents[name] for name in names]
        asked = [query["text"] for query in queries]
        encoder = WordAverage()
        index = Index(encoder, language="en")
        index.add(texts, ids=names)
        vector = cosine_scores(encoder.encode(texts), encoder.encode(asked), texts)
        lexical = lexical_scores(texts, asked, Analyzer("en"))
        modes = {"vector": vector, "lexical": lexical, "hybrid": hybrid_scores(vector, lexical, 0.3)}
        alpha = {"alpha": 0.3} if mode == "hybrid" else {}
        everything = slice(0, len(asked))
        for scores, hits in zip(
            modes[mode](everything), index.search(asked, 60, mode=mode, **alpha), strict=True
        ):
            n_scored = int((scores > -np.inf).sum())
            assert len(hits) == n_scored
            own = np.sort(scores)[::-1][:n_scored]
            np.testing.assert_allclose([hit.score for hit in hits], own, rtol=1e-4, atol=1e-5)
            by_name = dict(zip(names, scores.tolist(), strict=True))
            np.testing.assert_allclose([by_name[hit.id] for hit in hits], own, rtol=1e-4, atol=1e-5)

    def test_a_query_without_a_known_word_is_ranked_by_its_vector_alone(self, documents, queries):
        texts, asked = list(documents.values()), [queries[-1]["text"]]
        encoder = WordAverage()
        vector = cosine_scores(encoder.encode(texts), encoder.encode(asked), texts)
        lexical = lexical_scores(texts, asked, Analyzer("en"))
        assert (lexical(slice(0, 1)) == -np.inf).all()
        hybrid = hybrid_scores(vector, lexical, 0.1)(slice(0, 1))[0]
        assert np.argsort(-hybrid).tolist() == np.argsort(-vector(slice(0, 1))[0]).tolist()

    def test_a_query_without_a_vector_finds_only_documents_with_its_words(self):
        texts = ["film plot", "actor", "plot", "scene"]
        vector = cosine_scores(np.eye(4, dtype=np.float32), np.zeros((1, 4), np.float32), texts)
        hybrid = hybrid_scores(vector, lexical_scores(texts, ["plot"], Analyzer("en")), 0.9)(slice(0, 1))[0]
        assert (hybrid > -np.inf).tolist() == [True, False, True, False]
        # The shorter text has the higher BM25.
        assert hybrid[2] > hybrid[0]

    def test_the_score_has_all_modes_and_their_settings(self, tmp_path, documents, queries):
        judgments = [(query["_id"], name, 1) for query in queries for name in list(documents)[:8]]
        score = search(tmp_path, documents, judgments, queries, WordAverage(), language="en", alpha=0.25)
        assert set(score.metrics) == {
            f"{mode}{name}" for mode in ("", "lexical ", "hybrid ") for name in RANKING_METRICS
        }
        assert score.metrics["hybrid MAP"] == score.details["hybrid"]["MAP"]
        assert len({score.details[mode]["MAP"] for mode in ("vector", "lexical", "hybrid")}) == 3
        assert score.probe == {
            "name": "BM25 and z-scores",
            "k1": 1.2,
            "b": 0.75,
            "language": "en",
            "stemmer": Stemmer.version(),
            "alpha": 0.25,
        }

    def test_the_weight_of_one_is_the_ranking_of_the_vectors(self, tmp_path, documents, queries):
        judgments = [(query["_id"], name, 1) for query in queries for name in list(documents)[:8]]
        score = search(tmp_path, documents, judgments, queries, WordAverage(), alpha=1.0)
        assert score.details["hybrid"] == pytest.approx(score.details["vector"])

    def test_settings_out_of_range_are_refused(self, tmp_path, documents, queries):
        with pytest.raises(ValueError, match=r"alpha is 1\.5, expected a finite number >= 0 and <= 1"):
            search(tmp_path / "1", documents, [("q1", "d01", 1)], queries, alpha=1.5)
        with pytest.raises(ValueError, match="language is 'English'"):
            search(tmp_path / "2", documents, [("q1", "d01", 1)], queries, language="English")


class TestRoles:
    """Models that encode queries and documents in different ways."""

    TEXTS: ClassVar = ["a man is playing the guitar", "dog cat", "the stock market fell", "not good at all"]

    @pytest.fixture(params=["prompts", "pair"])
    def encoder(self, request):
        if request.param == "prompts":
            return with_prompts(make_bert(pooling="cls"), query="the word ", document="good ")
        return PairEncoder(in_space(make_bert()), in_space(make_cse(widths=())))

    def ranking(self, documents, query):
        """The names of the documents, the best first."""
        cosines = cosine_scores(documents, query[None], self.TEXTS)(slice(0, 1))[0]
        return [f"d{row}" for row in np.argsort(-cosines)]

    @pytest.mark.parametrize("cached", [False, True])
    def test_queries_and_documents_are_encoded_as_such(self, tmp_path, encoder, cached):
        names = {f"d{row}": text for row, text in enumerate(self.TEXTS)}
        options = {"cache": tmp_path / "cache"} if cached else {}
        different = 0
        # A text that is a query and a document has two vectors.
        for number, text in enumerate([self.TEXTS[1], "someone plays a guitar", "word new york"]):
            ranking = self.ranking(encoder.encode_document(self.TEXTS), encoder.encode_query(text))
            different += ranking != self.ranking(encoder.encode(self.TEXTS), encoder.encode(text))
            for place, name in enumerate(ranking, 1):
                folder = tmp_path / f"{number} {place}"
                query = [{"_id": "q", "text": text}]
                score = search(folder, names, [("q", name, 1)], query, encoder, **options)
                assert score.metrics["MRR@10"] == pytest.approx(100 / place)
        assert different
