"""Analysis of texts, postings, and BM25 compared with its formula."""

import math
from collections import Counter

import numpy as np
import pytest

from sentenc import Index
from sentenc.retrieval.lexical.bm25 import Bm25, RowScores
from sentenc.retrieval.lexical.postings import NO_TEXT, Postings, merged_postings
from sentenc.tokenization.analysis import Analyzer

TEXTS = [
    "The cat sat on the mat.",
    "A cat and another cat met two dogs",
    "",
    "Stock markets fell by 3% in 2008",
    None,
    "dogs, dogs and more DOGS",
    "the of and",
]
ARRAYS = ("terms", "starts", "rows", "counts", "lengths")


def bm25_by_formula(query, texts, analyzer):
    """Scores of all texts, computed text by text."""
    documents = [None if text is None else analyzer.terms(text) for text in texts]
    lengths = [len(document) for document in documents if document is not None]
    average = sum(lengths) / len(lengths)
    frequencies = Counter(term for document in documents for term in set(document or ()))
    scores = []
    for document in documents:
        score = 0.0
        for term in analyzer.terms(query):
            df = frequencies[term]
            tf = 0 if document is None else document.count(term)
            if tf:
                idf = math.log(1 + (len(lengths) - df + 0.5) / (df + 0.5))
                score += idf * tf / (tf + 1.2 * (1 - 0.75 + 0.75 * len(document) / average))
        scores.append(score)
    return scores


def all_scores(bm25, terms, n):
    scores = np.zeros(n, np.float32)
    bm25.scores(terms).add_to(scores, 0)
    return scores


def random_texts(n, seed=0):
    rng = np.random.default_rng(seed)
    words = [f"w{i}" for i in range(60)]
    return [
        " ".join(rng.choice(words, rng.integers(0, 12))) if rng.random() > 0.1 else None for _ in range(n)
    ]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The Cats were running", ["cat", "run"]),
        ("café CAFE cafe\u0301", ["cafe", "cafe", "cafe"]),
        ("the US and O'Brien's 1,000 e-mails", ["us", "o", "brien", "1", "000", "e", "mail"]),
        ("snake_case ﬁne Łódź straße", ["snake", "case", "fine", "lodz", "strass"]),
        ("", []),
        ("to be or not to be 😀 \ud800", []),
    ],
)
def test_english_terms(text, terms):
    assert Analyzer("en").terms(text) == terms


def test_a_word_is_returned_as_it_is_written():
    analyzer = Analyzer("en")
    text = "Dogs bark; a DOG barks, cafe\u0301 Hund 東京都"
    assert all(word in text for word in analyzer.words(text))
    assert analyzer.matched(text, set(analyzer.terms("dog café"))) == ("Dogs", "DOG", "cafe\u0301")
    assert analyzer.matched("Dogs dogs Dogs", {"dog"}) == ("Dogs", "dogs")


def test_languages_without_a_stemmer_keep_their_words():
    assert Analyzer("und").terms("The Cats were running") == ["the", "cats", "were", "running"]
    assert Analyzer("ja").terms("the") == ["the"]
    assert Analyzer("de").terms("die Häuser der Straße") == Analyzer("de").terms("DIE häuser DER strasse")
    with pytest.raises(ValueError, match="'english'"):
        Analyzer("english")


def test_scripts_without_spaces_are_indexed_by_characters_and_pairs():
    assert Analyzer("und").terms("東京都 in 2020年") == ["東", "京", "都", "東京", "京都", "in", "2020", "年"]
    assert set(Analyzer("und").terms("京都")) < set(Analyzer("und").terms("東京都"))
    # The vowel signs of Devanagari are inside of words, and are no accents.
    assert Analyzer("und").terms("हिन्दी में") == ["हिन्दी", "में"]


@pytest.mark.parametrize("language", ["en", "und"])
def test_bm25_equals_its_formula(language):
    analyzer = Analyzer(language)
    texts = TEXTS + random_texts(80)
    bm25 = Bm25([Postings.of(texts, analyzer)], np.zeros(len(texts), np.bool_))
    for query in ["cat", "cats and dogs", "dog dog stock", "w3 w4 w4 w59 nothing", "unknown", ""]:
        expected = bm25_by_formula(query, texts, analyzer)
        np.testing.assert_allclose(all_scores(bm25, analyzer.terms(query), len(texts)), expected, rtol=1e-5)


def test_only_short_words_are_cached():
    analyzer = Analyzer("en")
    long = "walking" * 10
    assert analyzer.terms(f"{long} {long[:64]} Walking") == [long[:-3], long[:64], "walk"]
    assert set(analyzer._terms) == {long[:64], "Walking"}


def test_bm25_counts_live_rows_of_all_segments():
    analyzer = Analyzer("en")
    texts = TEXTS + random_texts(50, seed=1)
    parts = [
        Postings.of(texts[:3], analyzer),
        Postings.of(texts[3:30], analyzer),
        Postings.of(texts[30:], analyzer),
    ]
    deleted = np.random.default_rng(2).random(len(texts)) < 0.4
    bm25 = Bm25(parts, deleted)
    live = [text for text, gone in zip(texts, deleted, strict=True) if not gone]
    for query in ["cat w1 w2 w2", "dogs w7"]:
        scores = all_scores(bm25, analyzer.terms(query), len(texts))
        np.testing.assert_allclose(scores[~deleted], bm25_by_formula(query, live, analyzer), rtol=1e-5)
        assert not scores[deleted].any()


def test_merged_postings_and_selected_rows_equal_new_ones():
    analyzer = Analyzer("und")
    texts = [*random_texts(40), *TEXTS]
    whole = Postings.of(texts, analyzer)
    cuts = [(0, 1), (1, 1), (1, 25), (25, 26), (26, len(texts))]
    merged = merged_postings([Postings.of(texts[a:b], analyzer) for a, b in cuts])
    rows = np.flatnonzero(np.arange(len(texts)) % 3 > 0)
    selected, few = whole.only(rows), Postings.of([texts[row] for row in rows], analyzer)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))
        np.testing.assert_array_equal(getattr(selected, name), getattr(few, name))


def test_postings_of_few_or_no_texts(tmp_path):
    for texts in ([], [None], ["the of"], ["word " * 70_000]):
        postings = Postings.of(texts, Analyzer("en"))
        assert len(postings) == len(texts)
        assert postings.counts.tolist() == [
            min(n, 65_535) for n in Counter("".join(filter(None, texts)).split()).values() if n > 1
        ]
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        postings.write(folder)
        again = Postings.read(folder)
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(postings, name), getattr(again, name))
    assert Postings.of([None, ""], Analyzer("en")).lengths.tolist() == [NO_TEXT, 0]


def test_best_scores_rank_ties_by_row():
    scores = RowScores(np.array([1, 4, 5, 7, 9]), np.array([2, 3, 2, 3, 1], np.float32))
    left_out = np.zeros(10, np.bool_)
    assert scores.best(3, left_out).rows.tolist() == [4, 7, 1]
    left_out[4] = True
    assert scores.best(2, left_out).rows.tolist() == [7, 1]
    assert scores.best(9, left_out).rows.tolist() == [7, 1, 5, 9]
    assert scores.at(np.array([0, 9, 4, -1])).tolist() == [0, 1, 3, 0]
    mean, std = scores.mean_and_std(10)
    dense = np.zeros(10)
    dense[scores.rows] = scores.scores
    assert (mean, std) == (pytest.approx(dense.mean()), pytest.approx(dense.std()))


def test_lexical_search_needs_no_encoder(tmp_path):
    texts = [text or "" for text in TEXTS]
    index = Index(dim=2, language="en")
    index.add(texts, vectors=np.zeros((len(texts), 2)))
    index.delete([0])
    index.save(tmp_path / "index")
    for opened in (index, Index.open(tmp_path / "index")):
        hits = opened.search("CATS dog")
        expected = bm25_by_formula("cat dog", texts[1:], Analyzer("en"))
        assert [hit.id for hit in hits] == [1, 5]
        assert [hit.score for hit in hits] == pytest.approx([expected[0], expected[4]])
        assert [hit.words for hit in hits] == [("cat", "dogs"), ("dogs", "DOGS")]
        assert [(hit.semantic, hit.lexical) for hit in hits] == [(None, hit.score) for hit in hits]
        assert opened.search(["cat", "nothing"], mode="lexical")[1] == []
        assert opened.search("the", mode="lexical") == []
    index.update([5], ["no animals"], vectors=np.ones((1, 2)))
    assert [hit.id for hit in index.search("dogs")] == [1]


def test_matched_words_are_those_with_a_term_of_the_query():
    analyzer = Analyzer("en")
    text = "Dying skies, lying DOGS and the tidings of 42 dogs; Yachts yield, the early news!"
    for query in ("die sky lie", "dog tidings 42", "yacht yields", "early earli news", "none of these", ""):
        terms = set(analyzer.terms(query))
        expected = [word for word in dict.fromkeys(analyzer.words(text)) if analyzer.term(word) in terms]
        assert list(analyzer.matched(text, terms)) == expected
    assert analyzer.matched("Dying skies", set(analyzer.terms("die sky"))) == ("Dying", "skies")
