import pytest

from tests.support.models import make_cse, make_sentence_transformer

pytest.importorskip("sentence_transformers")
pytest.importorskip("torch")

from sentenc.training.recipes import pretraining as run_module
from tests.training.joint.runs import lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    (folder / "parts").mkdir()
    make_sentence_transformer(folder / "parts").save(str(folder / "bert"))
    make_cse(embedding_dim=16).save(folder / "cse")
    for seed, name in enumerate(("sentences", "queries", "passages")):
        (folder / f"{name}.txt").write_text("\n".join(lines(seed, 120)))
    return folder


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch):
    monkeypatch.setattr(run_module, "draw_curves", lambda _log, _folder: None)
