import pytest

from sentenc.errors import DataError
from sentenc.evaluation.protocols.classification import KFold
from sentenc.evaluation.readers import read_columns
from sentenc.evaluation.senteval_tasks import GROUPS, TASKS, select_tasks
from sentenc.evaluation.tasks import Part, Task, file_checksum, published_checksums


def test_groups_are_the_literatures():
    assert GROUPS["transfer"] == ("MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC")
    assert GROUPS["sts"] == ("STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R")
    assert len(GROUPS["probing"]) == 10
    assert {name for names in GROUPS.values() for name in names} <= set(TASKS)


def test_names_may_be_written_in_any_way():
    assert [task.name for task in select_tasks(["stsb", "SICK_E", "sst-2", "stsb-dev"])] == [
        "STS-B",
        "SICK-E",
        "SST2",
        "STS-B-dev",
    ]


def test_a_task_selected_twice_comes_once():
    assert [task.name for task in select_tasks(["SICK-R", "sts"])] == ["SICK-R", *GROUPS["sts"][:-1]]


def test_an_error_about_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'SNLI'.*transfer.*MR, CR"):
        select_tasks("SNLI")
    with pytest.raises(ValueError, match="tasks is empty"):
        select_tasks([])


def test_default_text_is_raw_for_cosine_only():
    assert TASKS["STS12"].text_variant(None) == "raw"
    assert TASKS["MR"].text_variant(None) == "senteval"
    assert TASKS["STS12"].text_variant(False) == "senteval"
    assert TASKS["MR"].text_variant(True) == "raw"
    # Nobody has the phrases of SST before tokenization.
    assert TASKS["SST2"].text_variant(True) == "senteval"


def test_every_file_of_the_table_has_a_checksum_but_the_probing_ones():
    files = {
        file for task in TASKS.values() for variant in ("senteval", "raw") for file in task.files(variant)
    }
    assert {file for file in files if not file.startswith("probing/")} == set(published_checksums())


def test_made_up_files_are_read_and_their_differences_reported(made_up):
    task = TASKS["MR"]
    parts = task.read(made_up, "senteval")
    assert len(parts["all"]) == 120
    assert parts["all"].targets.tolist() == [1] * 60 + [0] * 60
    size, *checksums = task.mismatches("senteval", parts, dict.fromkeys(task.files("senteval"), "0"))
    assert size.endswith("rt-polarity.neg: 120 examples, expected 10662")
    assert [message.split(":")[0] for message in checksums] == list(task.files("senteval"))


def test_published_checksums_are_no_mismatch():
    assert (
        TASKS["TREC"].mismatches(
            "senteval", {"train": range(5452), "test": range(500)}, published_checksums()
        )
        == []
    )


def test_a_task_must_have_the_parts_of_its_protocol():
    with pytest.raises(ValueError, match=r"mine.*train, dev.*train, test.*k-fold"):
        Task(
            name="mine",
            protocol=KFold(),
            senteval=dict.fromkeys(("train", "dev"), Part(read_columns, ("a.csv",))),
        )


def test_a_missing_file_is_an_error_that_names_it(made_up):
    (made_up / "downstream/MR/rt-polarity.neg").unlink()
    with pytest.raises(DataError, match=r"rt-polarity\.neg: no such file"):
        TASKS["MR"].read(made_up, "senteval")


def test_an_empty_file_is_an_error(made_up):
    (made_up / "downstream/SST/binary/sentiment-dev").write_text("")
    with pytest.raises(DataError, match=r"sentiment-dev: no examples for the part 'dev' of SST2"):
        TASKS["SST2"].read(made_up, "senteval")


class TestFromFile:
    def test_labels_alone_are_cross_validated(self, tmp_path):
        path = tmp_path / "mine.csv"
        path.write_text("text,label\na,yes\nb,no\n")
        task = Task.from_file(path)
        assert (task.name, task.protocol.name, task.classes) == ("mine", "nested-k-fold", ("no", "yes"))
        parts = task.read("anywhere", task.text_variant(None))
        assert parts["all"].targets.tolist() == [1, 0]
        assert task.mismatches("own", parts, {str(path): "0"}) == []

    def test_files_decide_the_protocol(self, tmp_path):
        for name in ("train", "dev", "test"):
            (tmp_path / f"{name}.tsv").write_text("text\tlabel\na\t1\nb\t0\n")
        train, dev, test = (tmp_path / f"{name}.tsv" for name in ("train", "dev", "test"))
        assert Task.from_file(train, test=test).protocol.name == "k-fold"
        assert Task.from_file(train, dev=dev, test=test, name="x").protocol.name == "split"
        with pytest.raises(ValueError, match="dev requires test"):
            Task.from_file(train, dev=dev)

    def test_scores_are_correlated(self, tmp_path):
        path = tmp_path / "pairs.tsv"
        path.write_text("text1\ttext2\tscore\na\tb\t1\n")
        assert Task.from_file(path).protocol.name == "cosine"
        assert select_tasks(str(path))[0].name == "pairs"
        with pytest.raises(ValueError, match="dev and test"):
            Task.from_file(path, test=path)

    def test_labels_unknown_to_the_training_file_are_errors(self, tmp_path):
        (tmp_path / "a.csv").write_text("text,label\na,1\nb,0\n")
        (tmp_path / "b.csv").write_text("text,label\na,2\n")
        task = Task.from_file(tmp_path / "a.csv", test=tmp_path / "b.csv")
        with pytest.raises(DataError, match=r"b\.csv, line 2: label is '2', expected one of '0', '1'"):
            task.read(".", "own")

    @pytest.mark.parametrize("kind", [None, "clustering"])
    def test_an_empty_label_is_no_class(self, tmp_path, kind):
        (tmp_path / "a.csv").write_text("text,label\na,1\nb, \nc,0\n")
        with pytest.raises(DataError, match=r"a\.csv, line 3: label is empty"):
            Task.from_file(tmp_path / "a.csv", kind=kind)

    def test_two_files_of_one_name_are_refused(self, tmp_path):
        paths = []
        for folder in ("x", "y"):
            (tmp_path / folder).mkdir()
            paths.append(tmp_path / folder / "a.csv")
            paths[-1].write_text("text,label\na,1\nb,0\n")
        with pytest.raises(ValueError, match=r"two different tasks .*'a'"):
            select_tasks([str(path) for path in paths])

    def test_a_file_with_the_name_of_a_built_in_task_is_refused(self, tmp_path):
        # Its score would be shown as that of the built-in task, and replace it in a results file.
        path = tmp_path / "SST2.csv"
        path.write_text("text,label\na,1\nb,0\n")
        with pytest.raises(ValueError, match=r"SST2\.csv is named 'SST2'.* rename"):
            select_tasks(str(path))
        assert select_tasks(Task.from_file(path, name="mine"))[0].name == "mine"


@pytest.mark.parametrize("name", [name for name in TASKS if name not in GROUPS["probing"]])
@pytest.mark.parametrize("raw", [False, True])
def test_real_files_have_the_published_counts_and_checksums(real_data, name, raw):
    task = TASKS[name]
    variant = task.text_variant(raw)
    parts = task.read(real_data, variant)
    checksums = {file: file_checksum(real_data / file) for file in task.files(variant)}
    assert task.mismatches(variant, parts, checksums) == []
    assert all(len(part) for part in parts.values())


def test_real_files_keep_their_oddities(real_data):
    read = {name: TASKS[name].read(real_data, "senteval") for name in ("CR", "MPQA", "STS14", "SICK-E")}
    assert sum(text == "" for text in read["CR"]["all"].texts) == 4
    assert sum(text == "" for text in read["MPQA"]["all"].texts) == 3
    assert sum(len(part) for part in read["STS14"].values()) == 3750
    # The test file has CRLF ends: a label must not keep half of one.
    assert set(read["SICK-E"]["test"].targets.tolist()) == {0, 1, 2}
