import numpy as np
import pytest

from sentenc.metrics.ranking import (
    average_precision,
    ndcg,
    ranked,
    ranking_metrics,
    recall,
    reciprocal_rank,
)

# Three judged documents, of which "x" was judged not relevant and "b" is missing from most rankings.
GRADES = {"a": 1, "b": 2, "x": 0}


def test_ndcg_has_linear_gains_and_the_ideal_of_all_judged_documents():
    # The ideal ranking is b, a: 2 / log2(2) + 1 / log2(3).
    ideal = 2 + 1 / np.log2(3)
    assert ndcg(["x", "b", "u", "a"], GRADES) == pytest.approx((2 / np.log2(3) + 1 / np.log2(5)) / ideal)
    assert ndcg(["b", "a"], GRADES) == 1
    assert ndcg(["a"], GRADES) == pytest.approx(1 / ideal)
    assert ndcg(["x", "a"], GRADES, k=1) == 0
    # The ideal is cut at k as well.
    assert ndcg(["b"], GRADES, k=1) == 1


def test_recall_counts_relevant_documents_once_whatever_their_grade():
    assert recall(["x", "a", "u"], GRADES) == 0.5
    assert recall(["u", "a", "b"], GRADES, k=2) == 0.5
    assert recall(["b", "a"], GRADES) == 1


def test_reciprocal_rank_is_that_of_the_first_relevant_document():
    assert reciprocal_rank(["x", "u", "a", "b"], GRADES) == pytest.approx(1 / 3)
    assert reciprocal_rank([*"cdefghijkl", "a"], GRADES) == 0
    assert reciprocal_rank([*"cdefghijk", "a"], GRADES) == pytest.approx(1 / 10)


def test_average_precision_divides_by_all_relevant_documents():
    assert average_precision(["a", "x", "b"], GRADES) == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert average_precision(["u", "b"], GRADES) == pytest.approx((1 / 2) / 2)


@pytest.mark.parametrize("metric", [ndcg, recall, reciprocal_rank, average_precision])
@pytest.mark.parametrize("grades", [{}, {"a": 0}, {"a": -1}])
def test_a_query_without_a_relevant_document_scores_zero(metric, grades):
    assert metric(["a", "b"], grades) == 0


@pytest.mark.parametrize("metric", [ndcg, recall, reciprocal_rank, average_precision])
def test_an_empty_ranking_scores_zero(metric):
    assert metric([], GRADES) == 0


def test_negative_grades_have_no_gain():
    assert ndcg(["c", "a"], {"a": 1, "c": -1}) == pytest.approx(1 / np.log2(3))


def test_judged_queries_without_a_ranking_count_and_other_rankings_do_not():
    values = ranking_metrics({"1": ["a"], "3": ["a"]}, {"1": {"a": 1}, "2": {"a": 1}})
    assert values == {"nDCG@10": [1, 0], "recall@100": [1, 0], "MRR@10": [1, 0], "MAP": [1, 0]}


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"'q'.*'a' twice"):
        ranking_metrics({"q": ["a", "b", "a"]}, {"q": {"a": 1}})
    with pytest.raises(ValueError, match="judgments is empty"):
        ranking_metrics({"q": ["a"]}, {})
    with pytest.raises(ValueError, match=r"\(3,\), expected \(2,\)"):
        ranked([1, 2, 3], ["a", "b"])


def test_ties_are_ordered_by_falling_id_also_at_the_cut():
    ids = ["a", "c", "b", "d", "e"]
    scores = [1.0, 1.0, 1.0, 0.0, 2.0]
    assert ranked(scores, ids) == ["e", "c", "b", "a", "d"]
    assert ranked(scores, ids, 2) == ["e", "c"]
    assert ranked(scores, ids, 9) == ["e", "c", "b", "a", "d"]
    assert ranked(scores, ids, 0) == []
    order = [3, 1, 4, 0, 2]
    assert ranked([scores[i] for i in order], [ids[i] for i in order], 2) == ["e", "c"]


def run_and_judgments(seed=7, n_queries=40, n_documents=300):
    """A random run of 200 documents a query with many ties, and grades from -1 to 3, some of them of
    documents that the run lacks. The last three queries have no relevant document."""
    rng = np.random.default_rng(seed)
    names = [f"d{i}" for i in range(n_documents)]
    run, judgments = {}, {}
    for query in range(n_queries):
        relevance = rng.integers(-1, 4, n_documents) * (rng.random(n_documents) < 0.1)
        if query >= n_queries - 3:
            relevance = np.minimum(relevance, 0)
        scores = np.round(relevance * 0.7 + rng.standard_normal(n_documents), 1)
        returned = rng.permutation(n_documents)[:200]
        judged = np.flatnonzero((rng.random(n_documents) < 0.1) | (relevance != 0))
        run[f"q{query}"] = {names[i]: float(scores[i]) for i in returned}
        judgments[f"q{query}"] = {names[i]: int(relevance[i]) for i in judged}
    return run, judgments


def means(values):
    return {name: float(np.mean(by_query)) for name, by_query in values.items()}


def our_values(run, judgments):
    rankings = {query: ranked(list(scores.values()), list(scores)) for query, scores in run.items()}
    return ranking_metrics(rankings, judgments)


def test_metrics_are_those_of_trec_eval():
    pytrec_eval = pytest.importorskip("pytrec_eval")
    run, judgments = run_and_judgments()
    evaluator = pytrec_eval.RelevanceEvaluator(judgments, {"ndcg_cut.10", "recall.100", "map", "recip_rank"})
    theirs = evaluator.evaluate(run)
    # trec_eval's reciprocal rank has no cut, so the rankings are cut before.
    cut = {query: dict.fromkeys(ranked(list(s.values()), list(s), 10)) for query, s in run.items()}
    first = {query: {name: run[query][name] for name in names} for query, names in cut.items()}
    reciprocal = evaluator.evaluate(first)
    ours = our_values(run, judgments)
    for name, key in {"nDCG@10": "ndcg_cut_10", "recall@100": "recall_100", "MAP": "map"}.items():
        assert ours[name] == pytest.approx([theirs[query][key] for query in judgments], abs=1e-4)
    assert ours["MRR@10"] == pytest.approx([reciprocal[q]["recip_rank"] for q in judgments], abs=1e-4)


def test_metrics_equal_values_computed_with_trec_eval():
    # Computed once by the test above with pytrec-eval-terrier 0.5.11: the means over all 40 queries.
    expected = {"nDCG@10": 0.411501, "recall@100": 0.526651, "MRR@10": 0.774583, "MAP": 0.234946}
    assert means(our_values(*run_and_judgments())) == pytest.approx(expected, abs=1e-4)
