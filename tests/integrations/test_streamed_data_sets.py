"""Streamed data sets by the library ``datasets``, from local files."""

import json
from itertools import islice

import pytest

datasets = pytest.importorskip("datasets")
import pyarrow as pa  # noqa: E402 (a dependency of datasets)
import pyarrow.parquet as pq  # noqa: E402

from sentenc.errors import CorpusError  # noqa: E402
from sentenc.training.data.batching import batches  # noqa: E402
from sentenc.training.data.corpus import Corpus, Source  # noqa: E402

TEXTS = [f"text {i} of the data set, crème" for i in range(3000)]


def parquet(path, texts):
    table = pa.table({"text": texts, "n": list(range(len(texts)))})
    pq.write_table(table, path.with_suffix(".parquet"), row_group_size=100)


def jsonl(path, texts):
    lines = (json.dumps({"n": i, "text": text}) for i, text in enumerate(texts))
    path.with_suffix(".jsonl").write_text("\n".join(lines))


@pytest.fixture(params=[parquet, jsonl], ids=["parquet", "jsonl"])
def folder(request, tmp_path, monkeypatch):
    """A folder with a data set of three files, and an empty cache of the library."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for i in range(3):
        path = tmp_path / "data" / f"part-{i}"
        path.parent.mkdir(exist_ok=True)
        request.param(path, TEXTS[1000 * i : 1000 * (i + 1)])
    return tmp_path / "data"


def corpus(folder, *, buffer=100, **options):
    source = Source(files=[f"hf:{folder}"], form="sentences", streaming=True, **options)
    return Corpus([source], shuffle_buffer=buffer)


def test_epochs_are_shuffled_and_repeatable(folder):
    stream = corpus(folder)
    first, second = (list(stream.epoch(1, epoch)) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == sorted((text,) for text in TEXTS)
    assert first != second
    assert first == list(corpus(folder).epoch(1, 0))
    assert stream.fingerprint() == corpus(folder).fingerprint()
    # A part is a file.
    assert len({text for (text,) in first[:300]} & set(TEXTS[:1000])) in (0, 300)


def test_nothing_is_copied_to_disk(folder):
    list(corpus(folder).epoch(0, 0))
    assert not list((folder.parent / "cache").rglob("*.arrow"))


def test_a_resumed_stream_continues_at_its_batch(folder):
    whole = list(islice(batches(corpus(folder), 16, seed=3), 300))
    assert {epoch for epoch, _ in whole} == {0, 1}
    assert list(islice(batches(corpus(folder), 16, seed=3, start=100), 200)) == whole[100:]
    assert list(islice(batches(corpus(folder), 16, seed=3, epoch=1, start=50), 60)) == whole[187 + 50 :][:60]


def test_only_the_beginning_is_read_for_the_first_examples(folder):
    # The end of the last file is damaged.
    last = sorted(folder.iterdir())[-1]
    if last.suffix == ".jsonl":
        last.write_bytes(last.read_bytes() + b'\n{"text": ')
    else:
        # The header of the last group of rows.
        content = bytearray(last.read_bytes())
        column = pq.read_metadata(last).row_group(9).column(0)
        content[column.dictionary_page_offset or column.data_page_offset] ^= 0xFF
        last.write_bytes(content)
    examples = corpus(folder, buffer=1, limit=3000).epoch(0, 0)
    assert [text for (text,) in islice(examples, 1900)] == TEXTS[:1900]
    with pytest.raises(CorpusError, match=r"split train, shard 3 of 3, after row \d+"):
        list(examples)


def test_errors_name_the_data_set(folder):
    with pytest.raises(CorpusError, match=rf"{folder}, split train has no column 'body', .*'text'"):
        corpus(folder, fields=("body",))
    with pytest.raises(CorpusError, match=rf"{folder}, split test: .*test"):
        corpus(folder, split="test")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_damaged_file_is_an_error_of_the_corpus(tmp_path, monkeypatch, streaming):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "part.jsonl").write_text('{"text": "a dog"}\n{"text": \n')
    source = Source(files=[f"hf:{tmp_path / 'data'}"], form="sentences", streaming=streaming)
    with pytest.raises(CorpusError, match="data"):
        list(Corpus([source]).epoch(0, 0))
