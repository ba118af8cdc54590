"""Statistics of a corpus: one cached pass returns the same numbers and texts as separate passes."""

from itertools import islice

import numpy as np
import pytest

from sentenc.errors import CacheError
from sentenc.training.data.corpus import Corpus, Source
from sentenc.training.data.statistics import StatisticsRequest, corpus_statistics


class CountingCorpus(Corpus):
    """A corpus that counts how often its epochs are begun."""

    passes = 0

    def epoch(self, seed, epoch):
        self.passes += 1
        return super().epoch(seed, epoch)


@pytest.fixture
def corpus(tmp_path):
    lines = [f"text number {i % 9000}\tother text {i % 9000}" for i in range(10_000)]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines), encoding="utf-8")
    source = Source(files=(str(tmp_path / "pairs.tsv"),), form="pairs")
    return CountingCorpus([source], shuffle_buffer=1000)


def is_even(examples):
    return np.array([int(first.split()[-1]) % 2 == 0 for first, _ in examples])


def test_one_pass_gives_what_separate_passes_give(corpus, tmp_path):
    request = StatisticsRequest(n_texts=5001, n_used_texts=2500, count=True)
    statistics = corpus_statistics(corpus, 3, tmp_path / "cache", request, example_filter=is_even)
    assert corpus.passes == 1
    examples = list(corpus.epoch(3, 0))
    texts = [text for example in examples for text in example]
    used = [first for first, second in examples if int(first.split()[-1]) % 2 == 0]
    assert list(statistics.texts()) == texts[:5001]
    assert list(statistics.texts(7)) == texts[:7]
    assert statistics.n_used == len(used) == 4500
    # Whole blocks of 4,096 examples are used, so that there are at least as many texts as requested.
    assert statistics.used_texts == used[: len(statistics.used_texts)]
    assert 2500 <= len(statistics.used_texts) < 2500 + 4096
    (report,) = statistics.reports
    assert (report.read, report.kept, report.duplicates) == (10_000, 9000, 1000)


def test_the_statistics_are_computed_once(corpus, tmp_path):
    request = StatisticsRequest(n_texts=100, n_used_texts=10, count=True)
    first = corpus_statistics(corpus, 3, tmp_path / "cache", request)
    second = corpus_statistics(corpus, 3, tmp_path / "cache", request)
    assert corpus.passes == 1
    assert second == first
    assert list(second.texts()) == list(first.texts())
    assert first.n_used == 9000


@pytest.mark.parametrize("change", ["seed", "request", "filter", "corpus"])
def test_other_statistics_are_computed_again(corpus, tmp_path, change):
    request = StatisticsRequest(n_texts=100)
    folder = tmp_path / "cache"
    corpus_statistics(corpus, 3, folder, request)
    if change == "corpus":
        with open(tmp_path / "pairs.tsv", "a", encoding="utf-8") as file:
            file.write("\none more\tpair of texts")
        corpus = CountingCorpus(corpus.sources, shuffle_buffer=1000)
        corpus.passes = 1
    seed = 4 if change == "seed" else 3
    request = StatisticsRequest(n_texts=101) if change == "request" else request
    filter_identity = "5 embeddings" if change == "filter" else ""
    statistics = corpus_statistics(corpus, seed, folder, request, filter_identity=filter_identity)
    assert corpus.passes == 2
    expected = [text for example in corpus.epoch(seed, 0) for text in example]
    assert list(statistics.texts()) == expected[: request.n_texts]


def test_the_pass_ends_when_the_samples_are_full(corpus, tmp_path):
    statistics = corpus_statistics(corpus, 3, tmp_path / "cache", StatisticsRequest(n_texts=10))
    assert statistics.n_used is None
    assert len(list(statistics.texts())) == 10
    assert statistics.reports[0].read < 10_000


def test_odd_texts_survive_the_cache(tmp_path):
    odd = ["a line\u2028separator", 'a "quoted" \\ text', "naïve 日本", "a lone \ud800 surrogate"]

    class Texts:
        def epoch(self, seed, epoch):
            return iter([(text,) for text in odd])

        def fingerprint(self):
            return "odd"

        def report(self):
            return ()

    statistics = corpus_statistics(
        Texts(), 1, tmp_path / "cache", StatisticsRequest(n_texts=9, n_used_texts=9)
    )
    again = corpus_statistics(Texts(), 1, tmp_path / "cache", StatisticsRequest(n_texts=9, n_used_texts=9))
    assert list(again.texts()) == list(islice(statistics.texts(), 9)) == odd
    assert again.used_texts == odd


def test_a_damaged_cache_is_named(corpus, tmp_path):
    request = StatisticsRequest(n_texts=10)
    corpus_statistics(corpus, 3, tmp_path / "cache", request)
    (tmp_path / "cache" / "statistics.json").write_text("{", encoding="utf-8")
    with pytest.raises(CacheError, match=r"statistics\.json is damaged"):
        corpus_statistics(corpus, 3, tmp_path / "cache", request)
