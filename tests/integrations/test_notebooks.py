"""The notebooks of the examples run from their first to their last cell."""

import json
from pathlib import Path

import numpy as np
import pytest

import sentenc

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("chromadb")
pytest.importorskip("langchain_core")

import nbformat
from nbclient import NotebookClient
from safetensors.numpy import save_file

NOTEBOOKS = Path(__file__).parents[2] / "examples" / "notebooks"


def potion_shaped(folder: Path) -> None:
    """Writes the words of cse-en as a model of model2vec with the shape of the potion models."""
    encoder = sentenc.load("cse-en")
    rows = encoder.weight("embeddings") * np.exp(encoder.weight("token_weights"))[:, None]
    folder.mkdir()
    save_file({"embeddings": rows.astype(np.float32)}, folder / "model.safetensors")
    (folder / "tokenizer.json").write_text(encoder.tokenizer.spec, encoding="utf-8")
    settings = {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": True}
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    potion_shaped(tmp_path / "potion")
    monkeypatch.setenv("SENTENC_NOTEBOOK_MODEL", str(tmp_path / "potion"))
    monkeypatch.setenv("PYTHONPATH", str(Path(sentenc.__file__).parents[1]))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    printed = [
        "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    assert printed[0] == "StaticEncoder 256 components\n"
    assert all(printed)
    cosines = [float(line.split()[0]) for line in printed[1].splitlines()]
    assert cosines[0] == max(cosines)
    assert printed[2].splitlines()[1] == "delivery"
    assert printed[5].startswith("4960 sentences; ")
