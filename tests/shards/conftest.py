"""Files of every format, and a tiny model."""

import json
import os

import numpy as np
import pytest

from sentenc.shards import encoding
from tests.support.models import make_cse

pytest.importorskip("pyarrow")


@pytest.fixture(scope="session")
def encoder():
    return make_cse("int8")


@pytest.fixture(scope="session")
def model(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("shards") / "model"
    encoder.save(folder)
    return str(folder)


@pytest.fixture
def inputs(tmp_path):
    """Three files of Parquet in a folder, with ids, null texts and a column of lists."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        write_parquet(folder / f"part-{number}.parquet", number, 40)
    return folder


def write_parquet(path, number, rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [None if row % 7 == 3 else f"word {number} dog {row}" for row in range(rows)]
    ids = [f"{number}-{row}" for row in range(rows)]
    pq.write_table(pa.table({"id": ids, "text": texts, "tags": [["a", "b"]] * rows}), path)


def write_json(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def vectors_of(table, name="embedding"):
    return np.array(
        [row or [0.0] * table.schema.field(name).type.list_size for row in table[name].to_pylist()]
    )


def files_in(folder):
    return sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))


def hidden_in(folder):
    return sorted(entry.name for entry in os.scandir(folder) if entry.name.startswith("."))


@pytest.fixture
def encoded(monkeypatch):
    """The names of the sources that are opened."""
    names = []
    original = encoding.open_tables

    def opened(path, *args, **options):
        names.append(os.path.basename(path))
        return original(path, *args, **options)

    monkeypatch.setattr(encoding, "open_tables", opened)
    return names
