"""Corpora whose files are addresses of fsspec: streamed, and equal to those of local files."""

import gzip
import io
import json
import sys
from itertools import islice

import pytest

from sentenc.errors import CorpusError, MissingExtraError
from sentenc.training.config.pretraining import parse_run
from sentenc.training.data.batching import batches
from sentenc.training.data.corpus import Corpus, Source
from tests.support.corpora import in_order, written

pytest.importorskip("fsspec")
from tests.support.remote import block_files

TEXTS = [f"text {i} of the corpus, crème" for i in range(3000)]


def parquet(texts):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    pq.write_table(pa.table({"text": texts, "n": list(range(len(texts)))}), file, row_group_size=200)
    return file.getvalue()


def plain(texts):
    return "".join(f"{text}\n" for text in texts).encode()


def jsonl(texts):
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


WRITERS = {
    "txt": plain,
    "txt.gz": lambda texts: gzip.compress(plain(texts)),
    "jsonl": jsonl,
    "parquet": parquet,
}


def corpus(files, **options):
    return Corpus([Source(files=files, form="sentences")], **{"shuffle_buffer": 100, **options})


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_address_has_the_examples_of_the_local_file(tmp_path, suffix):
    halves = {f"{i}.{suffix}": WRITERS[suffix](TEXTS[i::2]) for i in range(2)}
    for name, content in halves.items():
        written(tmp_path, name, content)
    local = corpus([str(tmp_path / f"*.{suffix}")])
    with block_files({f"bucket/{name}": content for name, content in halves.items()}):
        remote = corpus([f"blocks://bucket/*.{suffix}"])
        for epoch in range(2):
            assert list(remote.epoch(3, epoch)) == list(local.epoch(3, epoch))
        assert remote.estimate() == local.estimate()
        assert remote.report()[0].name == f"blocks://bucket/*.{suffix}"
        # A resumed stream continues at the same batch.
        stream = islice(batches(remote, 16, seed=3), 200)
        assert list(stream)[150:] == list(islice(batches(remote, 16, seed=3, start=150), 50))


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "parquet"])
def test_a_file_is_streamed_and_not_read_ahead_whole(suffix):
    content = WRITERS[suffix]([f"{i} {text}" for i in range(10) for text in TEXTS])
    with block_files({f"bucket/a.{suffix}": content}) as system:
        corpus([f"blocks://bucket/a.{suffix}"]).fingerprint()
        assert system.n_sent == 0, "the version of the file is enough for a fingerprint"
        few = islice(corpus([f"blocks://bucket/a.{suffix}"], shuffle_buffer=1).epoch(0, 0), 20)
        assert len(list(few)) == 20
        assert 0 < system.n_sent < len(content) // 2


def test_the_fingerprint_changes_with_the_file():
    with block_files({"b/a.txt": b"x\n", "b/c.txt": b"y\n"}) as system:
        first = corpus(["blocks://b/a.txt"]).fingerprint()
        assert first == corpus(["blocks://b/a.txt"]).fingerprint()
        assert first != corpus(["blocks://b/c.txt"]).fingerprint()
        system.files["b/a.txt"] = b"z\n"
        assert first != corpus(["blocks://b/a.txt"]).fingerprint()


def test_many_files_are_estimated_from_a_few():
    files = {f"b/{i:03}.jsonl": jsonl(TEXTS[:100]) for i in range(64)}
    with block_files(files) as system:
        assert abs(corpus(["blocks://b/*.jsonl"]).estimate() - 6400) < 640
        assert system.n_sent <= 16 * len(files["b/000.jsonl"])


def test_sources_mix_local_and_remote_files(tmp_path):
    path = written(tmp_path, "a.txt", plain(TEXTS[:10]))
    with block_files({"b/c.txt": plain(TEXTS[10:20])}):
        texts = [text for (text,) in corpus([path, "blocks://b/c.txt"]).epoch(0, 0)]
        assert sorted(texts) == sorted(TEXTS[:20])


def test_errors_name_the_address(monkeypatch):
    with block_files({"b/a.jsonl": jsonl(TEXTS), "b/c.parquet": b"nothing"}) as system:
        for name, fact in (("blocks://b/none.txt", "no such file"), ("blocks://b/*.csv", "no file matches"),
                           ("blocks://b", "is a folder")):  # fmt: skip
            with pytest.raises(CorpusError, match=fact):
                corpus([name])
        with pytest.raises(CorpusError, match=r"blocks://b/c\.parquet: not a Parquet file"):
            in_order("blocks://b/c.parquet")
        system.broken_at = 20_000
        with pytest.raises(
            CorpusError, match=r"blocks://b/a\.jsonl, after line \d+: .*the connection was closed"
        ):
            in_order("blocks://b/a.jsonl")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtraError, match=r"s3://bucket/a\.txt.*sentenc\[remote\]"):
        corpus(["s3://bucket/a.txt"])


def test_an_address_in_a_run_file_does_not_start_at_its_folder(tmp_path):
    files = ["s3://bucket/a.txt", "hf://datasets/owner/name/a.txt", "b.txt", "hf:owner/name"]
    table = {
        "output": "model",
        "student": {"init": "random"},
        "corpora": {"text": {"sources": [{"files": [name], "form": "sentences"} for name in files]}},
        "losses": [{"kind": "simcse", "corpus": "text", "batch_size": 2}],
        "training": {"steps": 1},
    }
    run = parse_run(table, tmp_path)
    assert [source.files[0] for source in run.corpora["text"].sources] == [
        *files[:2], str(tmp_path / "b.txt"), files[3],
    ]  # fmt: skip
