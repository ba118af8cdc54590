"""Writes a BERT sentence encoder (Devlin et al., NAACL 2019) as an ONNX model, from its weights."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sentenc.encoders.bert.config import DISTANCE_GROUPS, DISTANCES, LINEAR, TOKEN_TYPES, BertConfig, Compute
from sentenc.encoders.bert.onnx_writer import OnnxGraph
from sentenc.encoders.bert.quantization import quantized_matrix
from sentenc.encoders.weights import Weights, dense_weight

# Gelu is a standard operator since version 20.
_OPSET = 20
_CONTRIBUTED = "com.microsoft"
_FLOAT = 1  # TensorProto.DataType
# The number added to the attention scores of padding: far below any score, and finite, so that no row is NaN.
_PADDING = -1e9

# The scale of the logarithm of distances in an MPNet: the group after the last one would begin here.
_FARTHEST = 128

# Without VNNI, x86 adds two products of an unsigned and a signed byte in 16 bits with saturation. Steps from
# -64 to 64 avoid it: 2 * 255 * 64 = 32,640 < 2**15.
_MAX_STEP = 64
# Signed activations have steps from -127 to 127 around 128.
_SIGNED_ZERO, _SIGNED_STEPS = 128, 127
# Gelu is never below -0.17, so most of its steps are for values above zero.
_GELU_ZERO, _GELU_LOWEST = 16, 0.17
_MIN_SCALE = 1e-30


class _Operand(NamedTuple):
    """Rows (T, columns) that matrices are multiplied by: in float32, or in steps around ``zero``."""

    rows: str
    scale: str = ""  # (T, 1), the step of each row; empty for rows in float32
    zero: int = 0


def bert_graph(config: BertConfig, weights: Weights, *, compute: Compute = "float32") -> bytes:
    """Writes the model that computes sentence vectors.

    Inputs are ``input_ids`` (B, L) int64 and ``attention_mask`` (B, L) int64, 1 for tokens and 0 for the
    padding after them. The output is ``sentence_embedding`` (B, hidden_size) float32. The vector of a row
    without tokens is zero. L is at most ``config.max_position_embeddings``.

    With ``compute="int8"``, the inputs of every dense layer are quantized per token, so that the vector of a
    text depends on the text alone. Attention stays in float32.

    Args:
        config: The model's shape.
        weights: Every weight of ``config.shapes()``, float16, float32, or int8 with ``<name>.scale``.
        compute: The type in which dense layers are multiplied: ``"float32"`` or ``"int8"``.

    Returns:
        A serialized ONNX model of standard operators, and for ``"int8"`` also of ``com.microsoft`` operators.

    Raises:
        ValueError: A weight is missing or misshapen, or ``compute`` is unknown.
    """
    if compute not in ("float32", "int8"):
        raise ValueError(f"compute is {compute!r}, expected 'float32' or 'int8'")
    for name, shape in config.shapes().items():
        actual = weights[name].shape if name in weights else None
        if actual != shape:
            raise ValueError(f"{name} has shape {actual}, expected {shape}")
        if weights[name].dtype == np.int8 and f"{name}.scale" not in weights:
            raise ValueError(f"{name} is int8, expected {name}.scale together with it")
    return _Writer(config, weights, compute).written()


def distance_groups(distances: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns the group of distances that shares a bias in an MPNet: that of T5 (Raffel et al., JMLR 2020).

    Half of the groups are for tokens after the reading one. Of each half, the first half has one distance per
    group, and the others have longer distances by their logarithm. The last one has all from 91 on.

    Args:
        distances: Positions of the token that is read, minus those of the one that reads it.
    """
    half = DISTANCE_GROUPS // 2
    exact = half // 2
    size = np.abs(distances)
    steps = np.log(np.maximum(size, exact) / exact) / math.log(_FARTHEST / exact) * (half - exact)
    groups = np.where(size < exact, size, np.minimum(exact + steps.astype(np.int64), half - 1))
    return np.where(distances > 0, half, 0) + groups


class _Writer:
    """Adds the parts of a BERT to a graph, in the order of computation.

    For a short text, the number of operators costs about as much time as their arithmetic, so there are few.

    Hidden states are (T, d) with T = B * L. Only attention and pooling distinguish sentences.
    """

    def __init__(self, config: BertConfig, weights: Weights, compute: Compute) -> None:
        self.config, self.weights, self.compute = config, weights, compute
        self.graph = OnnxGraph(_OPSET, {_CONTRIBUTED: 1} if compute == "int8" else None)
        self.width = self.integers(config.hidden_size)
        self.head_size = config.hidden_size // config.num_attention_heads

    def written(self) -> bytes:
        graph, config = self.graph, self.config
        ids = graph.input("input_ids", "int64", ["batch", "length"])
        mask = graph.input("attention_mask", "int64", ["batch", "length"])
        tokens = graph.node("Cast", mask, to=_FLOAT)
        padding = graph.node("Mul", graph.node("Sub", self.number(1), tokens), self.number(_PADDING))
        padding = graph.node("Unsqueeze", padding, self.integers(1, 2))
        shape = graph.node("Shape", ids)
        heads = graph.node("Concat", shape, self.integers(config.num_attention_heads, self.head_size), axis=0)
        if self.compute == "int8":
            self.zeros = self.zeros_of_rows(ids)
        states = self.embeddings(ids)
        if config.is_mpnet:
            padding = graph.node("Add", padding, self.biases(ids))
        for layer in range(config.num_hidden_layers):
            states = self.layer(f"encoder.layer.{layer}", states, padding, heads)
        states = graph.node("Reshape", states, graph.node("Concat", shape, self.width, axis=0))
        self.pooled(states, tokens)
        graph.output("sentence_embedding", "float32", ["batch", config.hidden_size])
        return graph.serialized()

    def zeros_of_rows(self, ids: str) -> dict[int, str]:
        # The zeros (T,) that QuantizeLinear needs are the same in all layers, so they are made once.
        graph = self.graph
        rows = graph.node("Shape", graph.node("Reshape", ids, self.integers(-1)))
        return {
            zero: graph.node("Expand", graph.constant([zero], "uint8"), rows)
            for zero in (_SIGNED_ZERO, self.activation_zero())
        }

    def embeddings(self, ids: str) -> str:
        graph, name = self.graph, "embeddings.word_embeddings.weight"
        # Only the rows that are looked up are converted to float32.
        stored = self.weights[name]
        words = graph.node("Gather", graph.constant(stored), ids)
        if stored.dtype != np.float32:
            words = graph.node("Cast", words, to=_FLOAT)
        if stored.dtype == np.int8:
            scale = graph.constant(self.weights[f"{name}.scale"][:, None], "float32")
            words = graph.node("Mul", words, graph.node("Gather", scale, ids))
        table = self.dense("embeddings.position_embeddings.weight")
        if not self.config.is_mpnet:
            # All tokens are of the first type, whose embedding is added to all positions.
            table = table + self.dense(TOKEN_TYPES)[:1]
        length = graph.node("Shape", ids, start=1, end=2)
        zero = self.integers(0)
        positions = graph.node("Slice", graph.constant(table), zero, length, zero)
        states = graph.node(
            "Reshape", graph.node("Add", words, positions), self.rows_of(self.config.hidden_size)
        )
        return self.layer_norm("embeddings.LayerNorm", states)

    def biases(self, ids: str) -> str:
        """Adds what an MPNet adds to the attention scores of a distance: (1, heads, L, L)."""
        graph, last = self.graph, self.config.max_position_embeddings - 1
        groups = distance_groups(np.arange(-last, last + 1))
        table = graph.constant(self.dense(DISTANCES)[groups].T)
        length = graph.node("Squeeze", graph.node("Shape", ids, start=1, end=2))
        positions = graph.node("Range", graph.constant(0, "int64"), length, graph.constant(1, "int64"))
        distances = graph.node(
            "Sub",
            graph.node("Unsqueeze", graph.node("Add", positions, self.integers(last)), self.integers(0)),
            graph.node("Unsqueeze", positions, self.integers(1)),
        )
        return graph.node("Unsqueeze", graph.node("Gather", table, distances, axis=1), self.integers(0))

    def layer(self, name: str, states: str, padding: str, heads: str) -> str:
        graph = self.graph
        mixed = self.attention(f"{name}.attention.self", states, padding, heads)
        # The probabilities of a token have the sum 1. So the bias of the values is added after the mixing, as
        # part of the bias of the next dense layer.
        value, output = f"{name}.attention.self.value", f"{name}.attention.output.dense"
        bias = self.dense(f"{output}.weight") @ self.dense(f"{value}.bias") + self.dense(f"{output}.bias")
        mixed = self.linear(output, self.operand(mixed), bias=bias)
        states = self.layer_norm(f"{name}.attention.output.LayerNorm", graph.node("Add", mixed, states))
        bias = self.dense(f"{name}.intermediate.dense.bias")
        wide = self.linear(f"{name}.intermediate.dense", self.operand(states), bias=bias)
        activation = "Gelu" if self.config.hidden_act == "gelu" else "Relu"
        operand = self.operand(graph.node(activation, wide), activation)
        narrow = self.linear(f"{name}.output.dense", operand, bias=self.dense(f"{name}.output.dense.bias"))
        return self.layer_norm(f"{name}.output.LayerNorm", graph.node("Add", narrow, states))

    def attention(self, name: str, states: str, padding: str, heads: str) -> str:
        graph, operand = self.graph, self.operand(states)
        # The weights of the queries include the division of the scores by sqrt(head size).
        factor = 1 / math.sqrt(self.head_size)
        # The bias of the keys adds the same number to all scores of a token, so the softmax does not change.
        parts = {
            "query": self.linear(
                f"{name}.query",
                operand,
                factor=factor,
                bias=self.dense(f"{name}.query.bias") * np.float32(factor),
            ),
            "key": self.linear(f"{name}.key", operand),
            "value": self.linear(f"{name}.value", operand),
        }
        query, key, value = (
            graph.node(
                "Transpose",
                graph.node("Reshape", rows, heads),
                perm=[0, 2, 3, 1] if part == "key" else [0, 2, 1, 3],
            )
            for part, rows in parts.items()
        )
        scores = graph.node("Add", graph.node("MatMul", query, key), padding)
        mixed = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), value)
        mixed = graph.node("Transpose", mixed, perm=[0, 2, 1, 3])
        return graph.node("Reshape", mixed, self.rows_of(self.config.hidden_size))

    def operand(self, states: str, activation: str = "") -> _Operand:
        """Prepares hidden states (T, columns), the output of ``activation``, for dense layers."""
        if self.compute == "float32":
            return _Operand(states)
        graph = self.graph
        zero = self.activation_zero() if activation else _SIGNED_ZERO
        steps = 255 - zero if activation else _SIGNED_STEPS
        size = states if activation else graph.node("Abs", states)
        largest = graph.node("ReduceMax", size, self.integers(-1), keepdims=0)
        least = _GELU_LOWEST / _GELU_ZERO if activation == "Gelu" else _MIN_SCALE
        scale = graph.node("Max", graph.node("Mul", largest, self.number(1 / steps)), self.number(least))
        rows = graph.node("QuantizeLinear", states, scale, self.zeros[zero], axis=0)
        return _Operand(rows, graph.node("Unsqueeze", scale, self.integers(1)), zero)

    def activation_zero(self) -> int:
        return _GELU_ZERO if self.config.hidden_act == "gelu" else 0

    def linear(
        self,
        name: str,
        operand: _Operand,
        *,
        factor: float = 1.0,
        bias: npt.NDArray[np.float32] | None = None,
    ) -> str:
        """Adds the product with a matrix and ``factor``, and a bias if any: (T, columns) to (T, rows)."""
        product = self.product(name, operand, self.dense(f"{name}.weight") * np.float32(factor))
        return product if bias is None else self.graph.node("Add", product, self.graph.constant(bias))

    def product(self, name: str, operand: _Operand, matrix: npt.NDArray[np.float32]) -> str:
        graph = self.graph
        if not operand.scale:
            return graph.node("MatMul", operand.rows, graph.constant(matrix.T))
        steps, scale = quantized_matrix(matrix, name, _MAX_STEP)
        product = graph.node(
            "MatMulIntegerToFloat", operand.rows, graph.constant(steps.T), self.number(1), graph.constant(scale),
            graph.constant(operand.zero, "uint8"), graph.constant(0, "int8"), domain=_CONTRIBUTED,
        )  # fmt: skip
        return graph.node("Mul", product, operand.scale)

    def pooled(self, states: str, tokens: str) -> str:
        graph, one = self.graph, self.integers(1)
        if self.config.pooling == "cls":
            # The mask of [CLS] (B, 1) makes the vector of a row without tokens zero.
            first = graph.node("Gather", states, graph.constant(0, "int64"), axis=1)
            pooled = graph.node("Mul", first, graph.node("Slice", tokens, self.integers(0), one, one))
        else:
            pooled = graph.node(
                "Squeeze", graph.node("MatMul", graph.node("Unsqueeze", tokens, one), states), one
            )
        if self.config.normalize:
            # The sum has the direction of the mean. The zero vector stays zero.
            pooled = graph.node("LpNormalization", pooled, axis=1, p=2)
        elif self.config.pooling == "mean":
            count = graph.node("ReduceSum", tokens, one, keepdims=1)
            pooled = graph.node("Div", pooled, graph.node("Max", count, self.number(1)))
        if self.config.linear:
            pooled = graph.node("MatMul", pooled, graph.constant(self.dense(LINEAR).T))
        return graph.node("Identity", pooled, name="sentence_embedding")

    def layer_norm(self, name: str, states: str) -> str:
        scale, bias = (self.graph.constant(self.dense(f"{name}.{part}")) for part in ("weight", "bias"))
        epsilon = float(self.config.layer_norm_eps)
        return self.graph.node("LayerNormalization", states, scale, bias, axis=-1, epsilon=epsilon)

    def dense(self, name: str) -> npt.NDArray[np.float32]:
        return dense_weight(self.weights, name)

    def number(self, value: float) -> str:
        return self.graph.constant(value, "float32")

    def integers(self, *values: int) -> str:
        return self.graph.constant(values, "int64")

    def rows_of(self, columns: int) -> str:
        return self.integers(-1, columns)
