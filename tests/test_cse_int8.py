"""The int8 tables of CSE: sums are whole numbers, correct, and close to those of float32."""

import itertools

import numpy as np
import pytest

from sentenc import CSE, CSEConfig
from sentenc.checkpoint import read_checkpoint
from sentenc.encoders.cse.tables import INT16_BIAS, fold_tables
from sentenc.tokenization.tokenizer import Tokenizer
from tests.support.models import make_cse, wordpiece_spec

SENTENCE = "a man is playing the guitar in the park and she plays an instrument by the market"
# Texts with no token, with fewer tokens than a window, with one window, and with more windows than the 32
# whose sum is computed in 16 bits.
LENGTHS = (0, 1, 2, 3, 31, 32, 33, 34, 35, 64, 66, 67, 150)
TEXTS = [" ".join(itertools.islice(itertools.cycle(SENTENCE.split()), n)) for n in LENGTHS]
# A power of two: every product with it, and every sum below, is exact in float32.
STEP = 2.0**-7


def taps_model(
    taps: dict[int, np.ndarray], biases: dict[int, np.ndarray], *, unit: np.ndarray | float = STEP, **shape
) -> CSE:
    """A model with chosen tables: integers (h, V, k) of up to 127 and biases in steps, all times ``unit``."""
    tokenizer = Tokenizer(wordpiece_spec())
    v, k = tokenizer.vocab_size, next(iter(taps.values())).shape[2]
    config = CSEConfig(
        vocab_size=v,
        embedding_dim=v,
        widths=tuple(taps),
        num_filters=k,
        combine="concat",
        word_path=False,
        max_tokens=200,
        **shape,
    )
    weights = {"embeddings": np.eye(v, dtype=np.float32)}
    for h in taps:
        # The row of [PAD], which occurs in no text, sets the step of every filter to the unit.
        taps[h][0, 0] = 127
        weights[f"filters.{h}"] = (taps[h] * unit).astype(np.float32)
        weights[f"biases.{h}"] = (biases[h] * unit).astype(np.float32)
    return CSE(config, weights, tokenizer, tables="int8")


def random_model(widths: tuple[int, ...], k: int = 21, largest: float = 300, **options) -> tuple:
    rng = np.random.default_rng(1)
    v = Tokenizer(wordpiece_spec()).vocab_size
    taps = {h: rng.integers(-127, 128, (h, v, k)) for h in widths}
    # Quarters of a step change when they are rounded. Halves are left out because roundings of them differ.
    biases = {h: np.floor(rng.uniform(-largest, largest, k)) + rng.choice([0.25, 0.75], k) for h in widths}
    return taps, biases, taps_model(taps, biases, **options)


def in_whole_numbers(
    encoder: CSE,
    taps: dict[int, np.ndarray],
    biases: dict[int, np.ndarray],
    text: str,
    *,
    rounds: bool = True,
) -> np.ndarray:
    """The features of a text in steps: sums over windows of phi(taps + bias), before they are scaled."""
    config = encoder.config
    ids, _, _ = encoder.tokenizer.encode([text])
    sums = []
    for h in config.widths:
        windows = len(ids) if config.windows == "padded" else max(1, len(ids) - h + 1)
        total = np.zeros(config.num_filters)
        for i in range(windows if len(ids) else 0):
            parts = [taps[h][j, ids[i + j]] for j in range(h) if i + j < len(ids)]
            # Whole windows of up to three tokens have their biases rounded.
            whole = rounds and h <= 3 and len(parts) == h
            z = sum(parts) + (np.rint(biases[h]) if whole else biases[h])
            total += np.maximum(z, 0) if config.phi == "relu" else z
        sums.append(total)
    return np.stack(sums)


def expected_features(encoder: CSE, taps: dict, biases: dict, text: str, **options) -> np.ndarray:
    config = encoder.config
    count = len(encoder.tokenizer.encode([text])[0])
    sums = (in_whole_numbers(encoder, taps, biases, text, **options) * STEP).astype(np.float32)
    if config.pooling == "mean":
        for row, h in zip(sums, config.widths, strict=True):
            windows = count if config.windows == "padded" else max(1, count - h + 1)
            row *= np.float32(1) / np.float32(max(1, windows))
    return sums.ravel()


def assert_exact(encoder: CSE, taps: dict, biases: dict, **options) -> None:
    for text, vector in zip(TEXTS, encoder.encode(TEXTS), strict=True):
        np.testing.assert_array_equal(vector, expected_features(encoder, taps, biases, text, **options))


@pytest.mark.parametrize("widths", [(1, 2, 3), (2, 3), (1,), (3, 4)])
@pytest.mark.parametrize("phi", ["relu", "identity"])
@pytest.mark.parametrize("pooling", ["mean", "sum"])
@pytest.mark.parametrize("windows", ["valid", "padded"])
def test_sums_are_exact_integers(widths, phi, pooling, windows):
    taps, biases, encoder = random_model(widths, phi=phi, pooling=pooling, windows=windows)
    assert_exact(encoder, taps, biases)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("phi", ["relu", "identity"])
def test_the_largest_taps_and_biases_do_not_overflow(sign, phi):
    v = Tokenizer(wordpiece_spec()).vocab_size
    taps = {h: np.full((h, v, 3), sign * 127) for h in (1, 2, 3)}
    # 511.25 is the largest bias in quarters that fits into 16 bits after rounding.
    biases = {h: sign * np.array([INT16_BIAS, INT16_BIAS + 0.25, 0.75]) for h in (1, 2, 3)}
    encoder = taps_model(taps, biases, phi=phi, pooling="sum")
    assert_exact(encoder, taps, biases)
    longest = in_whole_numbers(encoder, taps, biases, TEXTS[-1])[2]
    if phi == "identity" or sign > 0:
        assert longest.tolist() == [sign * 148 * (381 + 511)] * 2 + [sign * 148 * 382]
    # The bound fits into 16 bits, and twice the bound would not.
    assert 32 * (3 * 127 + INT16_BIAS) < 2**15 <= 32 * (3 * 127 + 2 * INT16_BIAS)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("phi", ["relu", "identity"])
def test_one_bias_too_large_leaves_the_sums_in_float32(sign, phi):
    taps, biases, _ = random_model((1, 2, 3))
    biases[2][4] = sign * (INT16_BIAS + 0.75)
    encoder = taps_model(taps, biases, phi=phi, pooling="sum")
    assert_exact(encoder, taps, biases, rounds=False)
    biases[2][4] = sign * 4_000.25
    assert_exact(taps_model(taps, biases, phi=phi, pooling="sum"), taps, biases, rounds=False)


def test_a_filter_without_weights_keeps_its_bias():
    # Its quantization step is tiny, and its bias is a huge multiple of it.
    taps, biases, _ = random_model((2, 3))
    encoder = taps_model(taps, biases, pooling="mean")
    weights = {name: encoder.weight(name) for name in encoder.config.shapes()}
    weights["filters.2"][:, :, 5] = 0
    weights["biases.2"][5] = 0.5
    vectors = CSE(encoder.config, weights, encoder.tokenizer).encode(TEXTS[1:])
    np.testing.assert_array_equal(vectors[:, 5], np.full(len(vectors), 0.5, np.float32))


def test_other_pooling_rounds_no_bias():
    taps, biases, encoder = random_model((1, 2), pooling="max")
    ids, _, _ = encoder.tokenizer.encode([TEXTS[-1]])
    pairs = taps[2][0, ids[:-1]] + taps[2][1, ids[1:]]
    expected = [np.maximum(z + biases[h], 0).max(0) * STEP for h, z in ((1, taps[1][0, ids]), (2, pairs))]
    np.testing.assert_array_equal(encoder.encode(TEXTS[-1]), np.concatenate(expected).astype(np.float32))


def test_quantization_steps_scale_the_sums():
    steps = np.random.default_rng(2).uniform(1e-4, 1e-1, 21)
    taps, biases, encoder = random_model((1, 2, 3), unit=steps, pooling="sum")
    weights = {name: encoder.weight(name) for name in encoder.config.shapes()}
    scales = fold_tables(encoder.config, weights, "int8")[1].scales.reshape(3, -1)
    np.testing.assert_allclose(scales, np.stack([steps] * 3), rtol=1e-6)
    for text, vector in zip(TEXTS, encoder.encode(TEXTS), strict=True):
        count = len(encoder.tokenizer.encode([text])[0])
        if count < 3:
            continue
        expected = scales * in_whole_numbers(encoder, taps, biases, text).astype(np.float32)
        if count <= 32:  # one rounding, of the one product
            np.testing.assert_array_equal(vector, expected.ravel())
        np.testing.assert_allclose(vector, expected.ravel(), rtol=1e-6)


@pytest.mark.parametrize("phi", ["relu", "identity"])
def test_features_are_within_rounding_of_float32(phi):
    shape = {"combine": "concat", "word_path": False, "widths": (1, 2, 3), "phi": phi, "max_tokens": 200}
    exact, whole = make_cse("float32", **shape), make_cse("int8", **shape)
    weights = {name: exact.weight(name) for name in exact.config.shapes()}
    scales = fold_tables(exact.config, weights, "int8")[1].scales.reshape(3, -1)
    # A mean of windows is off by half a step for each tap and for the bias; phi makes nothing larger.
    most = (scales * (np.array([[1], [2], [3]]) + 1) / 2).ravel()
    difference = np.abs(exact.encode(TEXTS) - whole.encode(TEXTS))
    assert (difference <= 1.0001 * most).all()
    assert difference.max() > 0.1 * most.max()


def test_stored_int8_rows_are_used_as_they_are(tmp_path):
    shape = {"widths": (), "average_dim": 7}
    small = make_cse("int8", **shape).compressed()
    weights = {name: small.weight(name) for name in small.config.shapes()}
    exact = CSE(small.config, weights, small.tokenizer, tables="float32")
    np.testing.assert_allclose(small.encode(TEXTS[:8]), exact.encode(TEXTS[:8]), rtol=0, atol=1e-6)
    # Rows that use less than 8 bits are included; another rounding would change them.
    small.save(tmp_path / "model")
    stored = read_checkpoint(tmp_path / "model").tensors
    rows = {name: stored[name] // 3 for name in ("embeddings", "average")}
    third, exact_third = (
        CSE(small.config, stored | rows, small.tokenizer, tables=tables) for tables in ("int8", "float32")
    )
    np.testing.assert_allclose(third.encode(TEXTS[:8]), exact_third.encode(TEXTS[:8]), rtol=0, atol=1e-6)
    # Rows that are not stored in int8 are rounded, by at most half of their step.
    original = make_cse("float32", **shape)
    difference = np.abs(small.weight("average") - original.weight("average"))
    assert (difference <= 0.5001 * np.abs(original.weight("average")).max(1, keepdims=True) / 127).all()
    assert small.compressed().fingerprint() == small.fingerprint()
