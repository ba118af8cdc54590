"""Corpora: filters, deduplication, order, mixing, limits, memory and fingerprints."""

import gzip
import lzma
import tracemalloc
from collections import Counter
from itertools import islice

import pytest

from sentenc.errors import CorpusError
from sentenc.training.data import sources as source_files
from sentenc.training.data.corpus import Corpus, Source
from sentenc.training.data.deduplication import DedupSet
from tests.support.corpora import in_order, written

TEXTS = ['He said "no".', "crème \u2028 東京", "one, two"]
PACKERS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def test_an_empty_corpus_is_refused_with_the_reason(tmp_path):
    with pytest.raises(CorpusError, match=r"the corpus is empty: .*a\.txt has 0 lines"):
        in_order(written(tmp_path, "a.txt", "\n \n"))
    with pytest.raises(
        CorpusError, match=r"2 lines \(0 malformed\) with 2 examples, 1 too short, 1 too long"
    ):
        in_order(written(tmp_path, "b.txt", "a\na b c d\n"), options={"min_words": 2, "max_words": 3})
    # A corpus may have an empty source if another has examples.
    sources = [Source(files=(str(tmp_path / name),), form="sentences") for name in ("a.txt", "b.txt")]
    assert sorted(Corpus(sources).epoch(0, 0)) == [("a",), ("a b c d",)]


def test_settings_are_checked(tmp_path):
    path = written(tmp_path, "a.tsv", "x\ty\n")
    good = {"files": (path,), "form": "sentences"}
    for change, error, message in [
        ({"files": path}, TypeError, "files is '.*', expected a list of strings"),
        ({"files": ()}, ValueError, "files is empty"),
        (
            {"form": "words"},
            ValueError,
            "form is 'words', expected one of sentences, ordered, pairs, triplets",
        ),
        ({"weight": 0.0}, ValueError, "weight is 0.0, expected a positive number"),
        ({"limit": 0}, ValueError, "limit is 0, expected at least 1"),
        ({"fields": ("a", "b")}, ValueError, r"fields is \['a', 'b'\], expected 1 different for sentences"),
        ({"fields": ("a", "a"), "form": "pairs"}, ValueError, "expected 2 different for pairs"),
        ({"files": ("hf:x", path)}, ValueError, "expected a data set .* to be alone"),
    ]:
        with pytest.raises(error, match=message):
            Source(**{**good, **change})
    assert Source(**{**good, "files": [path]}).files == (path,)
    sentences, pairs = Source(**good), Source(files=(path,), form="pairs")
    for sources, options, message in [
        ([], {}, "sources is empty"),
        ([sentences], {"min_words": 0}, "expected 1 <= min_words <= max_words"),
        ([sentences], {"min_words": 5, "max_words": 4}, "min_words is 5 and max_words 4"),
        ([sentences], {"shuffle_buffer": 0}, "shuffle_buffer is 0"),
        ([sentences], {"max_malformed": 1.5}, "max_malformed is 1.5"),
        ([sentences, pairs], {}, r"sentences has 1, pairs has 2"),
        ([sentences, Source(**good, weight=1.0)], {}, r"sources\.0 .* has no weight, and 1 of 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            Corpus(sources, **options)
    assert Corpus([pairs, Source(files=(path,), form="ordered")]).columns == 2
    for seed, epoch in [(-1, 0), (0, -1)]:
        with pytest.raises(ValueError, match=r"seed is .* epoch is .* expected at least 0"):
            Corpus([sentences]).epoch(seed, epoch)


def test_words_are_counted_in_every_text(tmp_path):
    path = written(tmp_path, "a.tsv", "a b\tc d e\na\tb c\na b\tc d e f\n\tx\n")
    corpus, examples = in_order(path, "pairs", options={"min_words": 2, "max_words": 3})
    assert examples == [("a b", "c d e")]
    (report,) = corpus.report()
    assert (report.read, report.too_short, report.too_long) == (4, 2, 1)


def test_neighbors_within_documents(tmp_path):
    first = written(tmp_path, "1.txt", "a\nb\nc\n\n \nd\ne\n")
    second = written(tmp_path, "2.txt", b"f\ng\n\xff\nh\ni\n\nj\n")
    corpus, examples = in_order([first, second], "ordered", limit=99, options={"max_malformed": 0.2})
    assert examples == [(x, y) for x, y in ("ab", "bc", "de", "fg", "hi")]
    assert corpus.report()[0].malformed == 1
    # The neighbors of a text that is filtered out do not become a pair.
    path = written(
        tmp_path, "3.jsonl", "".join(f'{{"text": "{t}"}}\n' for t in ("a", "b", "c c", "d", "", "e", "f"))
    )
    assert in_order(path, "ordered", options={"max_words": 1})[1] == [("a", "b"), ("e", "f")]


def test_duplicates_within_and_across_sources(tmp_path):
    first = written(tmp_path, "a.txt", "x\ny\nx \nz\n")
    second = written(tmp_path, "b.txt", "z\nx\nw\n")
    sources = [Source(files=(path,), form="sentences") for path in (first, second)]
    corpus = Corpus(sources)
    for epoch in range(3):
        assert sorted(corpus.epoch(0, epoch)) == [("w",), ("x",), ("y",), ("z",)]
        assert sum(report.duplicates for report in corpus.report()) == 3
        assert sum(report.kept for report in corpus.report()) == 4
    both = Corpus(sources, deduplicate=False)
    assert Counter(text for (text,) in both.epoch(0, 0)) == Counter("xyxzzxw")
    # Pairs differ if they are divided at another word or have another order.
    path = written(tmp_path, "p.tsv", "a b\tc\na\tb c\nc\ta b\na b\tc\n")
    assert in_order(path, "pairs")[1] == [("a b", "c"), ("a", "b c"), ("c", "a b")]


def test_seen_keys_agree_with_a_set_while_they_grow():
    keys, expected = DedupSet(), set()
    for i in range(30_000):
        texts = (str(i * i % 20_011),)
        assert keys.add(texts) == (texts not in expected)
        expected.add(texts)
    assert len(keys) == len(expected) == 10_006
    assert keys.add(("a\0", "b"))
    assert keys.add(("a", "\0b"))


def test_the_order_depends_on_seed_and_epoch(tmp_path):
    paths = [written(tmp_path, f"{i}.txt", "".join(f"{i} {j}\n" for j in range(200))) for i in range(4)]
    sources = [
        Source(files=paths[:2], form="sentences"),
        Source(files=paths[2:], form="sentences", repeat=True),
    ]
    corpus, again = (Corpus(sources, shuffle_buffer=50) for _ in range(2))
    examples = list(corpus.epoch(5, 2))
    assert examples == list(again.epoch(5, 2))
    assert examples != list(corpus.epoch(5, 3))
    assert examples != list(corpus.epoch(6, 2))
    assert {text for (text,) in examples} == {f"{i} {j}" for i in range(4) for j in range(200)}
    # Two epochs of one corpus may be read at the same time.
    a, b = corpus.epoch(5, 2), corpus.epoch(5, 2)
    assert [x for pair in zip(a, b, strict=True) for x in pair][::2] == examples


def test_files_change_their_order_from_epoch_to_epoch(tmp_path):
    paths = [written(tmp_path, f"{i}.txt", f"{i}\n") for i in range(6)]
    corpus = Corpus([Source(files=(str(tmp_path / "*.txt"),), form="sentences")], shuffle_buffer=1)
    orders = {tuple(corpus.epoch(0, epoch)) for epoch in range(10)}
    assert len(orders) > 5
    fixed = Corpus([Source(files=paths[::-1], form="sentences", limit=4)], shuffle_buffer=1)
    assert {tuple(text for (text,) in fixed.epoch(0, epoch)) for epoch in range(10)} == {tuple("5432")}


def test_the_buffer_shuffles(tmp_path):
    n, size = 20_000, 500
    path = written(tmp_path, "a.txt", "".join(f"{i}\n" for i in range(n)))
    corpus = Corpus([Source(files=(path,), form="sentences")], shuffle_buffer=size)
    order = [int(text) for (text,) in corpus.epoch(0, 0)]
    assert sorted(order) == list(range(n))
    # The example returned at time t was read by t + size, and waits size draws on average.
    delays = [place - i for place, i in enumerate(order)]
    assert min(delays) >= -size
    middle = [d for d, i in zip(delays, order, strict=True) if i < n // 2]
    assert abs(sum(middle) / len(middle)) < 20
    assert max(delays) > 3 * size


def test_sources_mix_by_weight(tmp_path):
    paths = [written(tmp_path, f"{name}.txt", "".join(f"{name} {i}\n" for i in range(9000))) for name in "ab"]
    sources = [Source(files=(p,), form="sentences", weight=w) for p, w in zip(paths, (3.0, 1.0), strict=True)]
    names = [text[0] for (text,) in Corpus(sources, shuffle_buffer=1).epoch(0, 0)]
    # A share of 3/4 in 8,000 draws has a standard deviation of 0.005.
    assert abs(names[:8000].count("a") / 8000 - 0.75) < 0.02
    assert (names.count("a"), names.count("b")) == (9000, 9000)
    assert set(names[13_000:]) == {"b"}


def test_without_weights_sources_run_out_about_together(tmp_path):
    # The lines have different lengths, and one file is compressed. Neither characters nor bytes predict the
    # number of examples.
    short = "".join(f"a {i}\n" for i in range(20_000))
    long = "".join(f"b {i} {'and so on ' * 20}\n" for i in range(4000))
    paths = [written(tmp_path, "a.txt", short), written(tmp_path, "b.txt.gz", gzip.compress(long.encode()))]
    corpus = Corpus([Source(files=(p,), form="sentences") for p in paths], shuffle_buffer=1)
    names = [text[0] for (text,) in corpus.epoch(0, 0)]
    assert min(map(len, (names, "x" * 24_000))) == 24_000
    last = {name: len(names) - names[::-1].index(name) for name in "ab"}
    assert min(last.values()) > 0.85 * 24_000
    assert abs(corpus.estimate() - 24_000) < 3000


def test_a_small_source_repeats_until_the_others_have_run_out(tmp_path):
    small = written(tmp_path, "a.txt", "a1\na2\nshared\na1\na3 a3\n")
    large = written(tmp_path, "b.txt", "shared\n" + "".join(f"b{i}\n" for i in range(200)))
    sources = [
        Source(files=(small,), form="sentences", weight=1.0, repeat=True),
        Source(files=(large,), form="sentences", weight=1.0),
    ]
    corpus = Corpus(sources, max_words=1)
    counts = Counter(text for (text,) in corpus.epoch(0, 0))
    assert all(counts[f"b{i}"] == 1 for i in range(200))
    assert set(counts) == {"a1", "a2", "shared"} | {f"b{i}" for i in range(200)}
    # Later passes leave out the same duplicates and filtered texts as the first.
    assert counts["a1"] > 20
    assert abs(counts["a1"] - counts["a2"]) <= 1
    small_report, large_report = corpus.report()
    assert (small_report.read, small_report.too_long, large_report.passes) == (5, 1, 1)
    assert small_report.passes == max(counts["a1"], counts["a2"])
    # A source is read once if it is alone or if none of its examples pass the filters.
    assert sorted(Corpus(sources[:1], max_words=1).epoch(0, 0)) == [("a1",), ("a2",), ("shared",)]
    nothing = Source(files=(written(tmp_path, "c.txt", "c c\n"),), form="sentences", weight=9.0, repeat=True)
    assert len(list(Corpus([sources[1], nothing], max_words=1).epoch(0, 0))) == 201


def test_limit_counts_the_examples_that_pass_the_filters(tmp_path):
    path = written(tmp_path, "a.txt", "a a\nb\nb\nc\nd\n")
    corpus, examples = in_order(path, limit=2, options={"max_words": 1})
    assert examples == [("b",), ("c",)]
    assert corpus.report()[0].read == 4
    other = written(tmp_path, "b.txt", "".join(f"x{i}\n" for i in range(100)))
    sources = [
        Source(files=(path,), form="sentences", limit=2, repeat=True, weight=1.0),
        Source(files=(other,), form="sentences", weight=1.0),
    ]
    counts = Counter(text for (text,) in Corpus(sources).epoch(0, 0))
    assert counts["a a"] > 10
    assert counts["c"] == counts["d"] == 0


def test_memory_is_bounded_and_files_are_read_lazily(tmp_path):
    # 60 MB of text in a file of 60 kB whose end is missing.
    line = b"one and the same line again and again, which needs memory\n"
    packed = gzip.compress(line * 1_000_000)
    path = written(tmp_path, "a.txt.gz", packed[: len(packed) // 2])
    corpus = Corpus([Source(files=(path,), form="sentences")], deduplicate=False, shuffle_buffer=100)
    tracemalloc.start()
    try:
        assert sum(1 for _ in islice(corpus.epoch(0, 0), 20_000)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_an_overlong_line_is_not_kept_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(source_files, "_MOST_BYTES_PER_LINE", 1000)
    path = written(tmp_path, "a.txt.gz", gzip.compress(b"x" * 20_000_000 + b"\nlast\n"))
    tracemalloc.start()
    try:
        assert in_order(path, options={"max_malformed": 0.5})[1] == [("last",)]
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_fingerprint(tmp_path):
    def made(name="a.txt", content="a b\nc d\n", folder="one", source=None, **options):
        (tmp_path / folder).mkdir(exist_ok=True)
        path = written(tmp_path / folder, name, content)
        fields = {"files": (path,), "form": "sentences", **(source or {})}
        return Corpus([Source(**fields)], **options).fingerprint()

    first = made()
    assert len(first) == 64
    assert first == made() == made(folder="two") == made(max_malformed=0.5)
    big = "x\n" * 2_000_000
    others = [
        made(content="a b\nc e\n"),
        made(content="a b\nc d\n\n"),
        made(name="b.txt"),
        made(source={"form": "ordered"}),
        made(source={"limit": 3}),
        made(source={"repeat": True}),
        made(source={"weight": 2.0}),
        made(min_words=2),
        made(max_words=9),
        made(deduplicate=False),
        made(shuffle_buffer=3),
        made(content=big),
        made(content=big[:-2] + "y\n"),
        made(content="y\n" + big[2:]),
    ]
    assert len({first, *others}) == len(others) + 1
