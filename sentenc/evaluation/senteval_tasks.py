"""The table of SentEval's tasks: name, protocol, files, encoding and sizes.

The checksums of the files are in ``SHA256SUMS``.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from sentenc.evaluation.beir import CORPUS, is_beir_folder
from sentenc.evaluation.protocols.classification import FixedSplit, KFold, NestedKFold
from sentenc.evaluation.protocols.relatedness import SupervisedRelatedness
from sentenc.evaluation.protocols.similarity import CosineSimilarity
from sentenc.evaluation.readers import (
    Reader,
    read_label_space_text,
    read_mrpc,
    read_one_file_per_class,
    read_probing,
    read_sick_entailment,
    read_sick_relatedness,
    read_sts_benchmark,
    read_sts_input_and_gold,
    read_text_tab_label,
    read_trec,
)
from sentenc.evaluation.tasks import FILE_KINDS, Part, Task
from sentenc.io.formats import file_format


def _one_file_per_class(
    name: str, folder: str, raw: str, files: tuple[str, str], size: int, raw_encoding: str
) -> Task:
    return Task(
        name=name,
        protocol=NestedKFold(),
        classes=("0", "1"),
        senteval={
            "all": Part(
                read_one_file_per_class,
                tuple(f"downstream/{folder}/{file}" for file in files),
                size,
                "latin-1",
            )
        },
        raw={
            "all": Part(read_one_file_per_class, tuple(f"{raw}/{file}" for file in files), size, raw_encoding)
        },
    )


def _split(
    read: Reader, folder: str, files: Sequence[str], sizes: Sequence[int], encoding: str = "utf-8"
) -> dict[str, Part]:
    names = ("train", "dev", "test") if len(files) == 3 else ("train", "test")
    return {
        name: Part(read, (f"{folder}/{file}",), size, encoding)
        for name, file, size in zip(names, files, sizes, strict=True)
    }


def _sts_year(year: int, sets: Mapping[str, int]) -> Task:
    def parts(folder: str) -> dict[str, Part]:
        return {
            name: Part(
                read_sts_input_and_gold,
                (f"{folder}/STS.input.{name}.txt", f"{folder}/STS.gs.{name}.txt"),
                size,
            )
            for name, size in sets.items()
        }

    senteval, raw = parts(f"downstream/STS/STS{year}-en-test"), parts(f"sts_raw/STS{year}")
    return Task(name=f"STS{year}", protocol=CosineSimilarity(), senteval=senteval, raw=raw)


def _probing(name: str, file: str) -> Task:
    sizes = {"tr": 100_000, "va": 10_000, "te": 10_000}
    parts = {
        part: Part(partial(read_probing, part=key), (f"probing/{file}.txt",), sizes[key])
        for part, key in (("train", "tr"), ("dev", "va"), ("test", "te"))
    }
    return Task(name=name, protocol=FixedSplit(is_linear=name == "WordContent"), senteval=parts)


_SST = ("sentiment-train", "sentiment-dev", "sentiment-test")
_SST_RAW = ("stsa.binary.train", "stsa.binary.dev", "stsa.binary.test")
_SICK = ("SICK_train.txt", "SICK_trial.txt", "SICK_test_annotated.txt")
_STSB = ("sts-train.csv", "sts-dev.csv", "sts-test.csv")
_MRPC = ("msr_paraphrase_train.txt", "msr_paraphrase_test.txt")
_SICK_SIZES, _STSB_SIZES, _MRPC_SIZES = (4_500, 500, 4_927), (5_749, 1_500, 1_379), (4_076, 1_725)
_ENTAILMENT = ("CONTRADICTION", "NEUTRAL", "ENTAILMENT")

_sick_r = _split(read_sick_relatedness, "downstream/SICK", _SICK, _SICK_SIZES)
_sick_r_raw = _split(read_sick_relatedness, "sick_raw", _SICK, _SICK_SIZES)
_stsb = _split(read_sts_benchmark, "downstream/STS/STSBenchmark", _STSB, _STSB_SIZES)
_stsb_raw = _split(read_sts_benchmark, "stsbenchmark_raw", _STSB, _STSB_SIZES)

_TABLE = (
    _one_file_per_class("MR", "MR", "binary_raw", ("rt-polarity.pos", "rt-polarity.neg"), 10_662, "cp1252"),
    _one_file_per_class("CR", "CR", "binary_raw", ("custrev.pos", "custrev.neg"), 3_775, "latin-1"),
    # SentEval labels the objective sentences as positive.
    _one_file_per_class(
        "SUBJ", "SUBJ", "binary_raw", ("subj.objective", "subj.subjective"), 10_000, "cp1252"
    ),
    _one_file_per_class("MPQA", "MPQA", "binary_raw", ("mpqa.pos", "mpqa.neg"), 10_606, "latin-1"),
    Task(
        name="SST2",
        protocol=FixedSplit(),
        classes=("0", "1"),
        senteval=_split(read_text_tab_label, "downstream/SST/binary", _SST, (67_349, 872, 1_821)),
    ),
    Task(
        name="TREC",
        protocol=KFold(),
        classes=("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"),
        senteval=_split(
            read_trec, "downstream/TREC", ("train_5500.label", "TREC_10.label"), (5_452, 500), "latin-1"
        ),
        raw=_split(read_trec, "binary_raw", ("TREC.train", "TREC.test"), (5_452, 500), "latin-1"),
    ),
    Task(
        name="MRPC",
        protocol=KFold(),
        classes=("0", "1"),
        senteval=_split(read_mrpc, "downstream/MRPC", _MRPC, _MRPC_SIZES),
        raw=_split(read_mrpc, "mrpc_raw", _MRPC, _MRPC_SIZES),
    ),
    Task(
        name="SST5",
        protocol=FixedSplit(),
        classes=("0", "1", "2", "3", "4"),
        senteval=_split(read_label_space_text, "downstream/SST/fine", _SST, (8_544, 1_101, 2_210)),
    ),
    Task(
        name="SST2-sentence",
        protocol=FixedSplit(),
        classes=("0", "1"),
        senteval=_split(read_text_tab_label, "downstream/SST/binary_sentence", _SST, (6_920, 872, 1_821)),
        raw=_split(read_label_space_text, "sst2_sentence_raw", _SST_RAW, (6_920, 872, 1_821)),
    ),
    Task(
        name="SICK-E",
        protocol=FixedSplit(),
        classes=_ENTAILMENT,
        senteval=_split(read_sick_entailment, "downstream/SICK", _SICK, _SICK_SIZES),
        raw=_split(read_sick_entailment, "sick_raw", _SICK, _SICK_SIZES),
    ),
    Task(name="SICK-R-supervised", protocol=SupervisedRelatedness(), senteval=_sick_r, raw=_sick_r_raw),
    # SentEval fits the scores 0 to 5 of STS-B with the five classes 1 to 5, as do the published results.
    Task(name="STS-B-supervised", protocol=SupervisedRelatedness(), senteval=_stsb, raw=_stsb_raw),
    _sts_year(
        12,
        {"MSRpar": 750, "MSRvid": 750, "SMTeuroparl": 459, "surprise.OnWN": 750, "surprise.SMTnews": 399},
    ),
    _sts_year(13, {"FNWN": 189, "headlines": 750, "OnWN": 561}),
    _sts_year(
        14,
        {
            "deft-forum": 450,
            "deft-news": 300,
            "headlines": 750,
            "images": 750,
            "OnWN": 750,
            "tweet-news": 750,
        },
    ),
    _sts_year(
        15,
        {"answers-forums": 375, "answers-students": 750, "belief": 375, "headlines": 750, "images": 750},
    ),
    _sts_year(
        16,
        {
            "answer-answer": 254,
            "headlines": 249,
            "plagiarism": 230,
            "postediting": 244,
            "question-question": 209,
        },
    ),
    Task(
        name="STS-B",
        protocol=CosineSimilarity(),
        senteval={"test": _stsb["test"]},
        raw={"test": _stsb_raw["test"]},
    ),
    Task(
        name="SICK-R",
        protocol=CosineSimilarity(),
        senteval={"test": _sick_r["test"]},
        raw={"test": _sick_r_raw["test"]},
    ),
    Task(
        name="STS-B-dev",
        protocol=CosineSimilarity(),
        senteval={"dev": _stsb["dev"]},
        raw={"dev": _stsb_raw["dev"]},
    ),
    _probing("Length", "sentence_length"),
    _probing("WordContent", "word_content"),
    _probing("Depth", "tree_depth"),
    _probing("TopConstituents", "top_constituents"),
    _probing("BigramShift", "bigram_shift"),
    _probing("Tense", "past_present"),
    _probing("SubjNumber", "subj_number"),
    _probing("ObjNumber", "obj_number"),
    _probing("OddManOut", "odd_man_out"),
    _probing("CoordinationInversion", "coordination_inversion"),
)

TASKS: Mapping[str, Task] = {task.name: task for task in _TABLE}
TRANSFER = ("MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC")
STS = ("STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R")
GROUPS: Mapping[str, tuple[str, ...]] = {
    "transfer": TRANSFER,
    "sts": STS,
    "all": (*TRANSFER, "SST5", "SICK-E", "SICK-R-supervised", "STS-B-supervised", *STS),
    "probing": tuple(task.name for task in _TABLE[-10:]),
}


def select_tasks(tasks: "str | Task | Sequence[str | Task]") -> list[Task]:
    """Resolves names, groups and paths to tasks, each task once and in the given order.

    Args:
        tasks: A group ("transfer", "sts", "all", "probing"), the name of a task, a path, a :class:`Task`, or
            a sequence of these. Case and hyphens of names do not matter: "stsb" is "STS-B". A path is a CSV,
            TSV or JSONL file, optionally after ``clustering:`` or ``pair-classification:``, or a folder in
            BEIR's layout, optionally with a split after it: ``scifact:train``.

    Raises:
        DataError: A file is missing or malformed.
        ValueError: A name is unknown (the message lists all names), no task is selected, two different
            tasks have the same name, or a path has the name of a built-in task.
    """
    selected: dict[str, Task] = {}
    for item in [tasks] if isinstance(tasks, str | Task) else tasks:
        for task in [item] if isinstance(item, Task) else _named(item):
            if selected.setdefault(task.name, task) != task:
                raise ValueError(f"two different tasks are named {task.name!r}: rename one of them")
    if not selected:
        raise ValueError("tasks is empty, expected at least one task")
    return list(selected.values())


def _named(name: str) -> list[Task]:
    by_key = {_key(task_name): task for task_name, task in TASKS.items()}
    if name.lower() in GROUPS:
        return [TASKS[task_name] for task_name in GROUPS[name.lower()]]
    if _key(name) in by_key:
        return [by_key[_key(name)]]
    task = _own_task(name)
    if task is not None:
        if task.name in TASKS:
            raise ValueError(
                f"the task of {name} is named {task.name!r}, which is a built-in task: rename the file or folder"
            )
        return [task]
    choices = ", ".join([*GROUPS, *TASKS])
    raise ValueError(
        f"task is {name!r}, expected a .csv, .tsv, .jsonl or .parquet file, a folder with {CORPUS} or one of: {choices}"
    )


def _own_task(name: str) -> Task | None:
    """Returns the task of a user's own file or folder; None if the name is not that of one."""
    for kind in FILE_KINDS:
        if name.startswith(f"{kind}:"):
            return Task.from_file(name.removeprefix(f"{kind}:"), kind=kind)
    if is_beir_folder(Path(name)):
        return Task.from_beir(name)
    folder, colon, split = name.rpartition(":")
    if colon and is_beir_folder(Path(folder)):
        return Task.from_beir(folder, split)
    return Task.from_file(name) if file_format(name) != "text" else None


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
