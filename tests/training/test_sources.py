"""Corpus sources: file formats, malformed and damaged files, and data sets of Hugging Face."""

import csv
import gzip
import io
import json
import lzma
import sys
import types

import pytest

from sentenc.errors import CorpusError, MissingExtraError, SentencError
from sentenc.training.data.corpus import Corpus, Source
from tests.support.corpora import in_order, written

TEXTS = ['He said "no".', "crème \u2028 東京", "one, two"]
PACKERS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def as_csv(rows, header):
    lines = io.StringIO()
    csv.writer(lines).writerows([header, *rows])
    return lines.getvalue().encode()


def as_jsonl(rows, header):
    return "".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows).encode()


def as_tsv(rows, header):
    return "".join("\t".join(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("form", ["sentences", "pairs", "triplets"])
@pytest.mark.parametrize(("suffix", "write"), [(".csv", as_csv), (".jsonl", as_jsonl), (".tsv", as_tsv)])
def test_tables_of_every_form_and_compression(tmp_path, packed, form, suffix, write):
    n = {"sentences": 1, "pairs": 2, "triplets": 3}[form]
    header = ["text"] if n == 1 else [f"text{i + 1}" for i in range(n)]
    rows = [tuple(f"{text} {i}" for i in range(n)) for text in TEXTS]
    path = written(tmp_path, f"a{suffix}{packed}", PACKERS[packed](write(rows, header)))
    corpus, examples = in_order(path, form)
    assert examples == rows
    assert corpus.columns == n
    (report,) = corpus.report()
    assert (report.lines, report.read, report.kept, report.malformed) == (3, 3, 3, 0)


@pytest.mark.parametrize("packed", PACKERS)
def test_plain_text(tmp_path, packed):
    content = b"\xef\xbb\xbfone\r\n\r\n  two\t2 \n" + "crème \u2028 東京".encode()
    _, examples = in_order(written(tmp_path, f"a.txt{packed}", PACKERS[packed](content)))
    assert examples == [("one",), ("two\t2",), ("crème \u2028 東京",)]
    _, examples = in_order(written(tmp_path, f"a.en{packed}", PACKERS[packed](content)))
    assert examples[0] == ("one",)


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [{"a": t, "n": i, "b": f"{t} b" if i != 1 else None} for i, t in enumerate(TEXTS)]
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    corpus, examples = in_order(path, "pairs", fields=("b", "a"), options={"max_malformed": 0.4})
    assert examples == [(f"{TEXTS[i]} b", TEXTS[i]) for i in (0, 2)]
    assert corpus.report()[0].first_malformed == [f"{path}:2: b is NoneType, expected a string"]
    assert corpus.estimate() == 3
    with pytest.raises(CorpusError, match=r"a\.parquet has no column 'text', only 'a', 'n', 'b'"):
        in_order(path)
    with pytest.raises(CorpusError, match="not a Parquet file"):
        in_order(written(tmp_path, "b.parquet", "nothing"))


def test_named_fields_and_quoted_line_ends(tmp_path):
    path = written(tmp_path, "a.csv", 'id,q,a\n1,"x\ny",z\n2,"say ""no""","p, q"\n')
    assert in_order(path, "pairs", fields=("a", "q"))[1] == [("z", "x\ny"), ("p, q", 'say "no"')]
    path = written(tmp_path, "a.jsonl", '{"n": 1, "q": "x"}\n\n{"q": "y"}\n')
    assert in_order(path, fields=("q",))[1] == [("x",), ("y",)]
    # A TSV has a header only if fields are named. Sentences are its first column.
    path = written(tmp_path, "a.tsv", "score\ts1\ts2\n1.0\tx\ty\n")
    assert in_order(path, "pairs", fields=("s1", "s2"))[1] == [("x", "y")]
    assert in_order(path)[1] == [("score",), ("1.0",)]


MALFORMED = [
    ("a.txt", b"caf\xe9", "not UTF-8: byte 0xe9 in column 4", "sentences"),
    ("a.txt", b"x" * (1 << 20) + b"yz", "the line has more than 1048576 bytes", "sentences"),
    ("a.jsonl", b"{", "not JSON: Expecting property name", "sentences"),
    ("a.jsonl", b'"text"', "the JSON value is a string, expected an object", "sentences"),
    ("a.jsonl", b'{"txt": "x", "n": 1}', "no field 'text', only 'txt', 'n'", "sentences"),
    ("a.jsonl", b'{"text": ["x"]}', "text is list, expected a string", "sentences"),
    ("a.jsonl", b'{"text": null}', "text is NoneType, expected a string", "sentences"),
    ("a.jsonl", b'{"text": "a \\ud800 b"}', "text is not UTF-8", "sentences"),
    ("a.jsonl", b'{"text": "caf\xe9"}', "not UTF-8: byte 0xe9", "sentences"),
    ("a.tsv", b"one", "number of columns is 1, expected 2", "pairs"),
    ("a.tsv", b"one\ttwo\tthree", "number of columns is 3, expected 2", "pairs"),
    ("a.tsv", b"one\ttwo", "number of columns is 2, expected 3", "triplets"),
    ("a.tsv", b"one\ttwo\t ", "column 3 is empty", "triplets"),
    ("a.csv", b"one,two,three", "number of columns is 3, expected 2", "pairs"),
    ("a.csv", b'one,"two"x', "bad CSV: ',' expected after '\"'", "pairs"),
    ("a.csv", b"one,caf\xe9", "not UTF-8: byte 0xe9", "pairs"),
    ("a.csv", b"one," + b"x" * (1 << 20), "the line has more than 1048576 bytes", "pairs"),
]


GOOD = {
    (".txt", "sentences"): ("", "good {i}\n"),
    (".jsonl", "sentences"): ("", '{{"text": "good {i}"}}\n'),
    (".tsv", "pairs"): ("", "good {i}\tx\n"),
    (".tsv", "triplets"): ("", "good {i}\tx\ty\n"),
    (".csv", "pairs"): ("text1,text2\n", "good {i},x\n"),
}


@pytest.mark.parametrize(("name", "line", "why", "form"), MALFORMED)
def test_malformed_lines_are_skipped_and_counted(tmp_path, name, line, why, form):
    header, good = GOOD[name[1:], form]
    before = "".join(good.format(i=i) for i in range(3)).encode()
    after = "".join(good.format(i=i) for i in range(3, 6)).encode()
    path = written(tmp_path, name, header.encode() + before + line + b"\n" + after)
    corpus, examples = in_order(path, form, options={"max_malformed": 0.2})
    assert [example[0] for example in examples] == [f"good {i}" for i in range(6)]
    (report,) = corpus.report()
    assert (report.lines, report.read, report.malformed) == (7, 6, 1)
    number = 4 + len(header.splitlines())
    assert report.first_malformed[0].startswith(f"{path}:{number}: {why}")
    with pytest.raises(CorpusError, match=rf"1 of 7 lines are malformed \(14\.3%\).*{name}:{number}: "):
        in_order(path, form, options={"max_malformed": 0.14})


def test_too_many_malformed_lines_stop_the_reading_after_a_thousand(tmp_path):
    # One line in 50 is malformed, and the end of the file is damaged.
    rest = b"x" * 200
    lines = [b'{"text": "%d %s"}\n' % (i, rest) if i % 50 else b"{}\n" for i in range(1, 4001)]
    packed = gzip.compress(b"".join(lines))
    path = written(tmp_path, "a.jsonl.gz", packed[:-4])
    with pytest.raises(CorpusError, match=r"20 of 1000 lines are malformed \(2\.0%\)") as error:
        in_order(path)
    assert isinstance(error.value, SentencError)
    assert isinstance(error.value, ValueError)
    with pytest.raises(CorpusError, match=r"a\.jsonl\.gz, after line 3\d\d\d: "):
        in_order(path, options={"max_malformed": 0.05})


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_damaged_files(tmp_path, suffix):
    packed = bytearray(PACKERS[suffix]("\n".join(f"line {i * 7919}" for i in range(20000)).encode()))
    cut = written(tmp_path, f"cut.txt{suffix}", bytes(packed[: len(packed) // 2]))
    with pytest.raises(CorpusError, match=rf"cut\.txt{suffix}, after line \d+: "):
        in_order(cut)


def test_files_that_cannot_be_used(tmp_path):
    text = written(tmp_path, "a.txt", "x\n")
    for files, form, fields, message in [
        ([str(tmp_path / "no.txt")], "sentences", (), "no.txt: no such file"),
        ([str(tmp_path / "*.csv")], "sentences", (), r"\*\.csv: no file matches"),
        ([str(tmp_path)], "sentences", (), "is a folder, expected a file or a glob"),
        ([text], "pairs", (), "plain text.*pairs need 2 columns"),
        ([text], "sentences", ("body",), "is plain text, which has no field 'body'"),
        ([written(tmp_path, "a.json", "[]")], "sentences", (), "is JSON, expected JSON lines"),
    ]:
        with pytest.raises(CorpusError, match=message):
            Corpus([Source(files=files, form=form, fields=fields)])
    with pytest.raises(CorpusError, match=r"b\.csv has no column 'text', only 'a', 'b'"):
        in_order(written(tmp_path, "b.csv", "a,b\n1,2\n"))
    with pytest.raises(CorpusError, match=r"c\.csv has the column 'text' more than once"):
        in_order(written(tmp_path, "c.csv", "text,text\n1,2\n"))


class Table:
    """The part of the interface of a Hugging Face data set that is used."""

    def __init__(self, columns):
        self.columns = columns
        self.column_names = list(columns)

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, rows):
        return {name: values[rows] for name, values in self.columns.items()}

    def select_columns(self, names):
        return Table({name: self.columns[name] for name in names})


class Stream:
    """The part of the interface of a streamed data set that is used. Each list of rows is a shard."""

    def __init__(self, shards, names=None, split=None, is_broken=False):
        self.shards, self.names, self.is_broken = shards, names, is_broken
        self.column_names = names if split is None else None
        self.num_shards = len(shards)
        self.info = types.SimpleNamespace(splits={} if split is None else split)

    def _with(self, shards=None, names=None):
        stream = Stream(shards or self.shards, names or self.names, self.info.splits, self.is_broken)
        return stream

    def __iter__(self):
        return iter([dict.fromkeys(self.names, "x")])

    def select_columns(self, names):
        return self._with(names=names)

    def with_format(self, format):
        assert format == "arrow"
        return self

    def shard(self, num_shards, index):
        assert num_shards == self.num_shards
        return self._with(shards=[self.shards[index]])

    def iter(self, batch_size):
        pa = pytest.importorskip("pyarrow")
        for shard in self.shards:
            for start in range(0, len(shard), batch_size):
                if self.is_broken and start:
                    raise TimeoutError("the Hub does not answer")
                yield pa.table({name: shard[start : start + batch_size] for name in self.names})


@pytest.fixture
def hub(monkeypatch):
    """Replaces the package ``datasets``; returns the list of the data sets that were loaded."""
    requested = []
    rows = {"text": [f"row {i}" for i in range(3000)], "n": list(range(3000)), "other": ["x", None] * 1500}

    def load_dataset(name, configuration, *, split, streaming=False, revision=None):
        requested.append((name, configuration, split, *([revision] if revision else [])))
        if name == "missing":
            raise FileNotFoundError("not on the Hub")
        if streaming:
            shards = [rows["text"][start : start + 1200] for start in range(0, 3000, 1200)]
            sizes = {"train": types.SimpleNamespace(num_examples=3000)} if name == "sized" else {}
            return Stream(shards, ["text"], sizes, is_broken=name == "broken")
        return Table(rows)

    def load_from_disk(folder):
        requested.append(folder)
        return module.DatasetDict(train=Table(rows))

    module = types.ModuleType("datasets")
    module.DatasetDict = type("DatasetDict", (dict,), {})
    module.load_dataset, module.load_from_disk = load_dataset, load_from_disk
    module.exceptions = types.SimpleNamespace(DatasetsError=type("DatasetsError", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "datasets", module)
    return requested


def test_data_sets(hub, tmp_path):
    corpus, examples = in_order("hf:someone/texts", split="validation")
    assert examples == [(f"row {i}",) for i in range(3000)]
    assert hub == [("someone/texts", None, "validation")]
    assert corpus.estimate() == 3000
    assert in_order("hf:someone/texts:en", limit=2)[1] == [("row 0",), ("row 1",)]
    assert hub[-1] == ("someone/texts", "en", "train")
    corpus, examples = in_order("hf:a", "pairs", fields=("text", "other"), options={"max_malformed": 0.5})
    assert (examples[1], len(examples)) == (("row 2", "x"), 1500)
    assert (
        corpus.report()[0].first_malformed[0] == "hf:a, split train:2: other is NoneType, expected a string"
    )
    assert corpus.fingerprint() != in_order("hf:a")[0].fingerprint() == in_order("hf:b")[0].fingerprint()
    with pytest.raises(CorpusError, match=r"hf:a, split train.*'text1'.*'text', 'n'"):
        in_order("hf:a", "pairs")
    with pytest.raises(CorpusError, match="hf:missing, split train: not on the Hub"):
        in_order("hf:missing")


def test_saved_data_sets(hub, tmp_path):
    written(tmp_path, "dataset_dict.json", "{}")
    assert len(in_order(f"hf:{tmp_path}")[1]) == 3000
    assert hub == [str(tmp_path)]
    with pytest.raises(CorpusError, match="has no split 'test', only 'train'"):
        in_order(f"hf:{tmp_path}", split="test")


def test_streamed_data_sets(hub):
    corpus, examples = in_order("hf:a/texts:en", streaming=True, revision="v1")
    assert hub == [("a/texts", "en", "train", "v1")]
    assert sorted(examples) == sorted((f"row {i}",) for i in range(3000))
    assert corpus.report()[0].lines == 3000
    # The shards are read one after another, in another order in each epoch.
    orders = {tuple(text for (text,) in corpus.epoch(0, epoch) if text in ("row 0", "row 1200", "row 2400"))
              for epoch in range(20)}  # fmt: skip
    assert len(orders) == 6
    assert list(corpus.epoch(0, 7)) == list(in_order("hf:a/texts:en", streaming=True)[0].epoch(0, 7))
    assert in_order("hf:a", streaming=True, limit=2)[1] == [("row 0",), ("row 1",)]
    # Reading it as a stream is another corpus, and a data set that is not streamed keeps its fingerprint.
    assert corpus.fingerprint() != in_order("hf:a")[0].fingerprint()
    assert corpus.estimate() is None
    assert in_order("hf:sized", streaming=True)[0].estimate() == 3000
    with pytest.raises(CorpusError, match=r"hf:a, split train.*'other'.*'text'"):
        in_order("hf:a", fields=("other",), streaming=True)
    with pytest.raises(CorpusError, match=r"hf:broken.*shard 1 of 3, after row 1024: TimeoutError: the Hub"):
        in_order("hf:broken", streaming=True, limit=2000)


def test_streams_of_unknown_size_need_weights(hub):
    stream = Source(files=["hf:a"], form="sentences", streaming=True)
    with pytest.raises(CorpusError, match="hf:a does not state its size: set a weight"):
        next(Corpus([stream, stream]).epoch(0, 0))
    weighted = Source(files=["hf:a"], form="sentences", streaming=True, weight=1.0)
    assert len(list(Corpus([weighted, weighted]).epoch(0, 0))) == 3000
    limited = Source(files=["hf:a"], form="sentences", streaming=True, limit=10)
    corpus = Corpus([limited, Source(files=["hf:sized"], form="sentences", streaming=True)])
    assert corpus.estimate() == 3010


def test_options_of_data_sets_are_refused_for_files(tmp_path, hub):
    path = written(tmp_path, "a.txt", "x")
    for option in ({"streaming": True}, {"revision": "main"}):
        with pytest.raises(ValueError, match=rf"{next(iter(option))} is .*a\.txt.*belongs to a data set"):
            Source(files=[path], form="sentences", **option)
        written(tmp_path, "saved/state.json", "{}")
        with pytest.raises(CorpusError, match=rf"save_to_disk.*remove {next(iter(option))}"):
            in_order(f"hf:{tmp_path}/saved", **option)


def test_data_sets_need_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match="needs the package 'datasets'"):
        in_order("hf:a")
