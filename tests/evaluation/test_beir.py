import json

import pytest

from sentenc.errors import DataError
from sentenc.evaluation.beir import judgments_file, read_documents, read_judgments, read_queries
from sentenc.evaluation.senteval_tasks import select_tasks
from sentenc.evaluation.tasks import Task


def beir_folder(folder, documents, queries, **judgments):
    """Writes a folder in BEIR's layout; judgments are lists of (query, document, grade) by split."""
    (folder / "qrels").mkdir(parents=True)
    for name, rows in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, rows in judgments.items():
        lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in rows)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


DOCUMENTS = [
    {"_id": "d1", "title": "Tea", "text": "is a drink.", "metadata": {"url": "x"}},
    {"_id": "d2", "title": "", "text": "Coffee."},
    {"_id": "d3", "title": None, "text": ""},
    {"_id": 4, "text": " Milk "},
]
QUERIES = [{"_id": "q1", "text": "hot drink "}, {"_id": "q2", "text": ""}, {"_id": "q3", "text": "unjudged"}]
JUDGMENTS = [("q2", "d1", 2), ("q1", "d2", 1), ("q1", "d3", 0), ("q1", "d2", 1)]


@pytest.fixture
def folder(tmp_path):
    return beir_folder(tmp_path / "drinks", DOCUMENTS, QUERIES, test=JUDGMENTS, train=JUDGMENTS[:1])


def test_a_document_is_its_title_and_text_and_may_be_empty(folder):
    documents = read_documents([folder / "corpus.jsonl"], "utf-8", ())
    assert documents.ids == ("d1", "d2", "d3", "4")
    assert documents.texts == ["Tea is a drink.", "Coffee.", "", "Milk"]


def test_only_judged_queries_are_read_and_a_repeated_judgment_counts_once(folder):
    queries = read_queries([folder / "queries.jsonl", folder / "qrels/test.tsv"], "utf-8", ())
    assert queries.ids == ("q2", "q1")
    assert queries.texts == ["", "hot drink"]
    assert queries.grades == ({"d1": 2}, {"d2": 1, "d3": 0})


def test_judgments_without_a_header_lose_no_line(tmp_path):
    (tmp_path / "a.tsv").write_text("q\td\t1\r\n\nq\te\t-1\r\n")
    assert read_judgments(tmp_path / "a.tsv") == {"q": {"d": 1, "e": -1}}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("corpus.jsonl", '{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}', r"line 2: _id 'a' is in a"),
        ("corpus.jsonl", '{"_id": "a", "text": "x"}\n{"text": "y"}', "line 2: _id is None, expected a str"),
        ("corpus.jsonl", '{"_id": "a"}', "line 1: text is None, expected a string"),
        ("corpus.jsonl", '{"_id": "a", "title": 3, "text": "x"}', "line 1: title is 3, expected a string"),
        ("corpus.jsonl", '{"_id": "a", "text"', "line 1"),
        ("corpus.jsonl", "", "no examples for the part 'corpus'"),
        ("queries.jsonl", '{"_id": "q1", "text": 5}', "line 1: text is 5, expected a string"),
        ("queries.jsonl", '{"_id": "q1", "text": "x"}', r"judged query 'q2' is not in .*queries\.jsonl"),
        ("qrels/test.tsv", "q1\td1\n", "line 1: 2 tab-separated columns, expected query-id"),
        ("qrels/test.tsv", "q1\td1\t1\nq1\td2\t0.5\n", r"line 2: score is '0\.5', expected a whole number"),
        ("qrels/test.tsv", "q1\td1\t1.0\nq1\td2\t1\n", r"line 1: score is '1\.0', expected a whole number"),
        ("qrels/test.tsv", "q1\td1\t\nq1\td2\t1\n", "line 1: score is '', expected a whole number"),
        (
            "qrels/test.tsv",
            "q1\td1\t1\nq1\td1\t2\n",
            "line 2: score of document 'd1' for query 'q1' is 2, but",
        ),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n", "no examples for the part 'queries'"),
    ],
)
def test_malformed_files_are_errors_with_the_place(folder, file, content, message):
    (folder / file).write_text(content)
    with pytest.raises(DataError, match=message):
        Task.from_beir(folder).read(".", "own")


@pytest.mark.parametrize("file", ["corpus.jsonl", "queries.jsonl"])
def test_a_missing_file_is_an_error_that_names_it(folder, file):
    (folder / file).unlink()
    with pytest.raises(DataError, match=rf"{file}: no such file"):
        Task.from_beir(folder).read(".", "own")


class TestSplits:
    def test_the_split_is_test_then_dev_then_the_only_one(self, tmp_path):
        for name in ("train", "dev", "test"):
            folder = beir_folder(tmp_path / name, DOCUMENTS, QUERIES, **{name: JUDGMENTS})
            assert judgments_file(folder).stem == name
        (tmp_path / "dev/qrels/train.tsv").touch()
        assert judgments_file(tmp_path / "dev").stem == "dev"
        (tmp_path / "dev/qrels/test.tsv").touch()
        assert judgments_file(tmp_path / "dev").stem == "test"

    def test_an_unknown_or_unclear_split_lists_the_splits(self, folder, tmp_path):
        with pytest.raises(DataError, match="split is 'dev', expected one of test, train"):
            judgments_file(folder, "dev")
        (folder / "qrels/test.tsv").rename(folder / "qrels/other.tsv")
        with pytest.raises(DataError, match="split is not given, expected one of other, train"):
            judgments_file(folder)
        with pytest.raises(DataError, match=r"expected qrels/SPLIT\.tsv"):
            judgments_file(tmp_path)

    def test_a_folder_is_a_task_and_its_split_may_be_chosen(self, folder):
        default, train = select_tasks([str(folder), f"{folder}:train"])
        assert (default.name, train.name) == ("drinks", "drinks-train")
        assert default.protocol.name == "search"
        assert default.text_variant(None) == "own"
        assert len(default.read(".", "own")["queries"]) == 2
        assert train.read(".", "own")["queries"].ids == ("q2",)

    def test_another_folder_is_no_task(self, tmp_path):
        with pytest.raises(ValueError, match=r"a folder with corpus\.jsonl or one of"):
            select_tasks(str(tmp_path))
