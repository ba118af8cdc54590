"""Int8 matrices in 4 bits: rounded with little loss, packed without any, and refused when damaged."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import sentenc
from sentenc import CheckpointError
from sentenc.io.int4 import GROUP, packed, rounded_to_int4, unpacked
from tests.support.models import make_bert, make_cse
from tests.test_checkpoint import reseal

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1, 32), (3, 64), (2500, 96)])
def test_rounded_values_are_packed_without_loss(shape):
    matrix = RNG.standard_normal(shape).astype(np.float32)
    rounded, scales = rounded_to_int4(matrix)
    stored = packed({"rows": rounded, "rows.scale": scales})
    assert {name: value.nbytes for name, value in stored.items()} == {
        "rows.int4": matrix.size // 2, "rows.factors": matrix.size // GROUP, "rows.scale": 4 * len(matrix),
    }  # fmt: skip
    restored = unpacked(stored)
    assert restored.keys() == {"rows", "rows.scale"}
    assert restored["rows"].dtype == np.int8
    np.testing.assert_array_equal(restored["rows"], rounded)


def test_the_loss_of_rounding_is_that_of_four_bits_a_group():
    matrix = RNG.standard_normal((500, 384)).astype(np.float32)
    # Columns of other sizes: a scale for a whole row would lose nearly all of the small ones.
    matrix[:, 32:64] *= 0.1
    rounded, scales = rounded_to_int4(matrix)
    error = rounded * scales[:, None] - matrix
    for columns in (slice(0, 32), slice(64, None)):
        assert np.sqrt(np.mean(error[:, columns] ** 2)) < 0.1 * np.sqrt(np.mean(matrix[:, columns] ** 2))
    assert np.sqrt(np.mean(error[:, 32:64] ** 2)) < 0.15 * np.sqrt(np.mean(matrix[:, 32:64] ** 2))


@pytest.mark.parametrize(
    "values",
    [np.zeros((2, 32)), np.zeros((0, 32)), np.zeros((2, 0)), np.full((2, 32), -3.5), np.eye(32) * 1e-30],
)
def test_extreme_rows_are_kept(values):
    rounded, scales = rounded_to_int4(values.astype(np.float32))
    np.testing.assert_allclose(rounded * scales[:, None], values, rtol=1e-6)
    np.testing.assert_array_equal(unpacked(packed({"m": rounded}))["m"], rounded)


def test_other_tensors_stay_as_they_are():
    tensors = {
        "fine": RNG.integers(-127, 128, (4, 64)).astype(np.int8),
        "narrow": np.ones((4, 31), np.int8),
        "empty": np.zeros((0, 32), np.int8),
        "float": np.ones((4, 32), np.float32),
        "vector": np.ones(32, np.int8),
        "smallest": np.full((1, 32), -128, np.int8),
    }
    stored = packed(tensors)
    assert stored.keys() == tensors.keys()
    for name, value in unpacked(stored).items():
        np.testing.assert_array_equal(value, tensors[name])
        assert value.dtype == tensors[name].dtype


def test_columns_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="has 30 columns, expected a multiple of 32"):
        rounded_to_int4(np.ones((2, 30), np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("m.factors"), "m.factors is missing"),
        (lambda t: t.update({"m.factors": t["m.factors"][:1]}), r"m.factors is uint8 of shape \(1, 2\)"),
        (lambda t: t.update({"m.factors": t["m.factors"] * 0}), "m.factors has zeros"),
        (lambda t: t.update({"m": np.zeros((4, 64), np.int8)}), "both m and m.int4"),
        (
            lambda t: t.update({"m.factors": t["m.factors"] + 100}),
            "has values up to .*, expected at most 127",
        ),
        (lambda t: t.update({"m.int4": t["m.int4"].astype(np.int8)}), "m.int4 is int8"),
        (lambda t: t.update({"m.int4": t["m.int4"][:, :5]}), "m.int4 is uint8 of shape"),
    ],
)
def test_damaged_parts_are_named(change, message):
    stored = packed({"m": rounded_to_int4(RNG.standard_normal((4, 64)))[0]})
    change(stored)
    with pytest.raises(ValueError, match=message):
        unpacked(stored)


TEXTS = ["the dog bit the man", "a cat", ""]


@pytest.mark.parametrize("kind", ["bert", "cse"])
def test_a_model_in_four_bits_is_half_as_large_and_loads_as_it_was(tmp_path, kind):
    if kind == "bert":
        model = make_bert(hidden_size=64, intermediate_size=64)
        small, save = model.compressed(bits=4), "save_compact"
    else:
        model = make_cse("int8", embedding_dim=64, widths=())
        small, save = model.compressed(bits=4), "save"
    getattr(small, save)(tmp_path / "small")
    getattr(model.compressed(), save)(tmp_path / "large")
    sizes = [(tmp_path / n / "model.safetensors").stat().st_size for n in ("small", "large")]
    assert sizes[0] < 0.75 * sizes[1]
    loaded = sentenc.load(tmp_path / "small")
    assert loaded.fingerprint() == small.fingerprint() != model.fingerprint()
    np.testing.assert_array_equal(loaded.encode(TEXTS), small.encode(TEXTS))
    near = loaded.similarity(loaded.encode(TEXTS[:2]), model.encode(TEXTS[:2]))
    assert np.diag(near).min() > 0.95
    assert loaded.compressed(bits=4).fingerprint() == loaded.compressed().fingerprint() == small.fingerprint()
    # Saved again, it stays small and the same.
    getattr(loaded, save)(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").stat().st_size == sizes[0]
    assert sentenc.load(tmp_path / "again").fingerprint() == small.fingerprint()


@pytest.mark.parametrize(
    "model", [make_bert(hidden_size=48), make_cse("int8", average_dim=48)], ids=["bert", "cse"]
)
def test_matrices_that_do_not_fit_keep_eight_bits(model):
    assert model.compressed(bits=4).fingerprint() == model.compressed().fingerprint() != model.fingerprint()


@pytest.mark.parametrize("model", [make_bert(), make_cse()], ids=["bert", "cse"])
def test_other_numbers_of_bits_are_refused(model):
    with pytest.raises(ValueError, match="bits is 3, expected 8 or 4"):
        model.compressed(bits=3)


def test_damaged_four_bit_weights_of_a_folder_are_refused(tmp_path):
    make_cse("int8", embedding_dim=64, widths=()).compressed(bits=4).save(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    tensors = load_file(path)
    del tensors["embeddings.factors"]
    save_file(tensors, path)
    reseal(tmp_path / "model", "model.safetensors")
    with pytest.raises(CheckpointError, match=r"has damaged weights: embeddings\.factors is missing"):
        sentenc.load(tmp_path / "model")
