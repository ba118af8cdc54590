"""Writes ONNX models node by node in the protobuf wire format, without the ``onnx`` package or torch.

It supports what a graph with fixed weights needs. Field numbers are those of onnx.proto (ONNX IR 9).
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# TensorProto.DataType
_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10}
_IR_VERSION = 9
_VARINT, _BYTES, _FLOAT = 0, 2, 5

Attribute = int | float | str | Sequence[int]
Shape = Sequence[int | str]


class OnnxGraph:
    """A graph under construction. Methods that add something return its name.

    Args:
        opset: The version of the standard operators.
        domains: The versions of other operator domains in use, by name.
    """

    def __init__(self, opset: int, domains: Mapping[str, int] | None = None) -> None:
        self._opsets = {"": opset, **(domains or {})}
        self._nodes: list[bytes] = []
        self._initializers: dict[str, bytes] = {}
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []

    def input(self, name: str, dtype: str, shape: Shape) -> str:
        """Declares an input. A dimension that is a str is variable; equal names are equal sizes."""
        self._inputs.append(_value_info(name, dtype, shape))
        return name

    def output(self, name: str, dtype: str, shape: Shape) -> None:
        """Declares that the result of a node is an output."""
        self._outputs.append(_value_info(name, dtype, shape))

    def constant(self, value: npt.ArrayLike, dtype: str | None = None, *, name: str | None = None) -> str:
        """Adds a constant tensor.

        Raises:
            ValueError: The name is used already, or ONNX has no such dtype.
        """
        array = np.asarray(value, dtype)
        name = name or f"constant_{len(self._initializers)}"
        if name in self._initializers:
            raise ValueError(f"name is {name!r}, which is already a constant, expected another name")
        self._initializers[name] = _tensor(name, array)
        return name

    def node(
        self, op_type: str, *inputs: str, name: str | None = None, domain: str = "", **attributes: Attribute
    ) -> str:
        """Adds an operation with one result and returns its name. An input ``""`` is left out."""
        return self.nodes(
            op_type, *inputs, outputs=[name or self._fresh(op_type)], domain=domain, **attributes
        )[0]

    def nodes(
        self, op_type: str, *inputs: str, outputs: int | list[str], domain: str = "", **attributes: Attribute
    ) -> list[str]:
        """Adds an operation with several results, passed as names or as their number.

        Raises:
            ValueError: The domain is not among ``domains``.
        """
        if domain not in self._opsets:
            raise ValueError(f"domain is {domain!r}, expected one of {sorted(self._opsets)}")
        if isinstance(outputs, int):
            outputs = [f"{self._fresh(op_type)}_{i}" for i in range(outputs)]
        self._nodes.append(
            b"".join(
                [
                    *(_text(1, value) for value in inputs),
                    *(_text(2, value) for value in outputs),
                    _text(3, outputs[0]),
                    _text(4, op_type),
                    *(_bytes(5, _attribute(key, value)) for key, value in attributes.items()),
                    _text(7, domain) if domain else b"",
                ]
            )
        )
        return outputs

    def serialized(self) -> bytes:
        """Returns the serialized model."""
        graph = _join(1, self._nodes) + _text(2, "sentenc") + _join(5, self._initializers.values())
        graph += _join(11, self._inputs) + _join(12, self._outputs)
        opsets = [_text(1, domain) + _integer(2, version) for domain, version in self._opsets.items()]
        return _integer(1, _IR_VERSION) + _text(2, "sentenc") + _bytes(7, graph) + _join(8, opsets)

    def _fresh(self, op_type: str) -> str:
        return f"{op_type.lower()}_{len(self._nodes)}"


def _attribute(name: str, value: Attribute) -> bytes:
    head = _text(1, name)
    if isinstance(value, str):
        return head + _text(4, value) + _integer(20, 3)
    if isinstance(value, float):
        return head + _key(2, _FLOAT) + struct.pack("<f", value) + _integer(20, 1)
    if isinstance(value, int):
        return head + _integer(3, value) + _integer(20, 2)
    return head + b"".join(_integer(8, item) for item in value) + _integer(20, 7)


def _tensor(name: str, array: npt.NDArray[Any]) -> bytes:
    if array.dtype.name not in _TYPES:
        raise ValueError(f"{name} has dtype {array.dtype}, expected one of {sorted(_TYPES)}")
    little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    dims = b"".join(_integer(1, size) for size in array.shape)
    return dims + _integer(2, _TYPES[array.dtype.name]) + _text(8, name) + _bytes(9, little_endian.tobytes())


def _value_info(name: str, dtype: str, shape: Shape) -> bytes:
    dims = [_text(2, size) if isinstance(size, str) else _integer(1, size) for size in shape]
    tensor = _integer(1, _TYPES[dtype]) + _bytes(2, _join(1, dims))
    return _text(1, name) + _bytes(2, _bytes(1, tensor))


def _join(field: int, messages: Iterable[bytes]) -> bytes:
    return b"".join(_bytes(field, message) for message in messages)


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, _BYTES) + _varint(len(value)) + value


def _integer(field: int, value: int) -> bytes:
    return _key(field, _VARINT) + _varint(value)


def _key(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF  # negative numbers take ten bytes, in two's complement
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
