"""The folders of a run: what is refused before the training, what is kept, and one run for each of them."""

import gc
import re
import weakref

import numpy as np
import pytest

from sentenc.errors import CacheError, CheckpointError, CorpusError
from sentenc.io.locks import FileLock
from sentenc.training.config.pretraining import parse_run
from sentenc.training.engine.distributed import single_process
from sentenc.training.engine.trainer import Trainer
from sentenc.training.recipes import pretraining, pretraining_data
from sentenc.training.recipes.folders import open_work_folder
from sentenc.training.recipes.pretraining import pretrain
from sentenc.training.teachers.lazy import LazyTeacher
from tests.support.models import make_cse
from tests.support.training import sentences


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a teacher and two corpora."""
    make_cse(embedding_dim=16).save(tmp_path / "teacher")
    for number, name in enumerate(("first", "second")):
        (tmp_path / f"{name}.txt").write_text("\n".join(sentences(number, 120)))
    monkeypatch.setattr(pretraining, "draw_curves", lambda _log, _folder: None)
    return tmp_path


def settings(folder, **changes):
    table = {
        "output": "model",
        "student": {
            "init": "random",
            "tokenizer": "teacher",
            "config": {"embedding_dim": 12, "num_filters": 4},
        },
        "teacher": {"models": ["teacher"]},
        "corpora": {
            name: {"sources": [{"files": [f"{name}.txt"], "form": "sentences"}]}
            for name in ("first", "second")
        },
        "losses": [
            {"kind": "embedding_distillation", "corpus": "first", "batch_size": 16},
            # A second space would need a second map.
            {"kind": "embedding_distillation", "corpus": "second", "batch_size": 16, "space": "principal"},
        ],
        "training": {"steps": 6, "warmup": 1, "device": "cpu"},
    }
    return parse_run(table | changes, folder)


def run(folder, *, resume=True, **changes):
    return pretrain(settings(folder, **changes), resume=resume, show_progress_bar=False, command="test")


def test_an_output_with_other_files_is_refused_before_the_training(folder, monkeypatch):
    (folder / "model").mkdir()
    (folder / "model/thesis.txt").write_text("years of work")
    monkeypatch.setattr(Trainer, "run", lambda _self: pytest.fail("trained"))
    monkeypatch.setattr(pretraining, "build_data", lambda _config: pytest.fail("read the corpora"))
    with pytest.raises(CheckpointError, match="model"):
        run(folder)
    assert (folder / "model/thesis.txt").read_text() == "years of work"


def test_a_fresh_start_with_a_mistake_keeps_the_state(folder):
    run(folder)
    state = (folder / "work/state.pt").read_bytes()
    wrong = {"first": {"sources": [{"files": ["frist.txt"], "form": "sentences"}]}}
    with pytest.raises(CorpusError, match=r"frist\.txt"):
        run(folder, resume=False, corpora=settings(folder).table["corpora"] | wrong)
    student = settings(folder).table["student"] | {"tokenizer": "taecher"}
    with pytest.raises(FileNotFoundError, match="taecher"):
        run(folder, resume=False, student=student)
    assert (folder / "work/state.pt").read_bytes() == state
    run(folder, resume=False, seed=8)
    assert (folder / "work/state.pt").read_bytes() != state


def test_a_work_folder_has_one_run_at_a_time(folder):
    work = folder / "work"
    work.mkdir()
    with open_work_folder(work, single_process("cpu")):
        with pytest.raises(ValueError, match=rf"{re.escape(str(work))} is in use by another run, expected"):
            run(folder)
        assert not (work / "log.jsonl").exists()
    # A run that fails leaves no lock, and neither does one that ends.
    with pytest.raises(CorpusError):
        run(
            folder,
            corpora={
                name: {"sources": [{"files": ["no.txt"], "form": "sentences"}]}
                for name in ("first", "second")
            },
        )
    run(folder)
    FileLock(work / ".sentenc.lock").release()


def test_all_corpora_share_the_time_limit_of_the_teacher(folder, monkeypatch):
    clock, limits = [0.0], []

    def fill(embeddings, teacher, texts, max_minutes, _bar):
        limits.append(max_minutes)
        clock[0] += 60 * 2
        embeddings.add(list(texts), teacher.encode(list(texts)))

    monkeypatch.setattr(pretraining_data, "fill_teacher_cache", fill)
    monkeypatch.setattr(pretraining_data, "monotonic", lambda: clock[0])
    run(folder, teacher={"models": ["teacher"], "max_minutes": 10})
    # The first corpus has left three of its five minutes to the second one.
    assert limits == [5.0, 8.0]


@pytest.mark.parametrize("is_joint", [False, True], ids=["one teacher", "joint teachers"])
def test_a_run_resumes_on_its_embeddings_while_others_add_some(folder, monkeypatch, is_joint):
    models = [{"model": "teacher", "weight": 1.0}] if is_joint else ["teacher"]
    shared = {"models": models, "cache": "shared"}

    def pretrained(name, n_texts, **changes):
        corpora = {}
        for corpus in ("first", "second"):
            texts = (folder / f"{corpus}.txt").read_text().splitlines()[:n_texts]
            (folder / f"{corpus}-{n_texts}.txt").write_text("\n".join(texts))
            files = [f"{corpus}-{n_texts}.txt"]
            corpora[corpus] = {"sources": [{"files": files, "form": "sentences"}]}
        return run(
            folder, output=name, work=f"work-{name}", **{"corpora": corpora, "teacher": shared} | changes
        )

    pretrained("filling", 40)
    part = {"teacher": shared | {"max_minutes": 0}}
    whole = (pretrained("whole", 120, **part) / "model.safetensors").read_bytes()
    run_training = Trainer.run

    def stop(trainer):
        run_training(trainer, stop_at=3)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrained("parts", 120, **part)
    shards = len(list((folder / "shared").rglob("vectors-*")))
    pretrained("other", 120)
    assert len(list((folder / "shared").rglob("vectors-*"))) > shards
    assert (pretrained("parts", 120, **part) / "model.safetensors").read_bytes() == whole
    (folder / "work-parts/teacher-shards.json").write_text("[")
    with pytest.raises(CacheError, match=r"teacher-shards\.json is damaged"):
        pretrained("parts", 120, **part)


def test_the_teacher_is_released_before_the_training(folder, monkeypatch):
    loaded = []
    original = pretraining_data.load_teacher

    def load(*arguments, **options):
        teacher = original(*arguments, **options)
        loaded.append(weakref.ref(teacher))
        return teacher

    def train(trainer):
        gc.collect()
        assert len(loaded) == 1
        assert loaded[0]() is None
        return run_training(trainer)

    run_training = Trainer.run
    monkeypatch.setattr(pretraining_data, "load_teacher", load)
    monkeypatch.setattr(Trainer, "run", train)
    run(folder, student={"init": "teacher", "config": {"embedding_dim": 12, "num_filters": 4}})
    assert len(loaded) == 1


def test_a_lazy_teacher_is_loaded_once_until_it_is_released():
    loaded = []
    lazy = LazyTeacher(lambda: loaded.append(make_cse()) or loaded[-1])
    assert lazy() is lazy()
    lazy.release()
    assert np.array_equal(lazy().encode("a dog"), loaded[0].encode("a dog"))
    assert len(loaded) == 2
