"""A prefetch instruction for numba: fetches memory into the cache before it is needed."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

# The size of a cache line in bytes.
LINE = 64


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def prefetch(typing_context: Any, array: Any, row: Any, byte: Any) -> Any:
    """Starts to fetch the cache line at ``byte`` of row ``row`` of an array, without any other effect.

    Called from compiled code: ``prefetch(rows, token, 64)``. It never faults, for any address.
    """
    signature = types.void(array, row, byte)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, row, byte = arguments
        made = context.make_array(signature.args[0])(context, builder, value)
        word, flag, pointer = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer()
        wide = builder.sext(row, word) if row.type.width < word.width else row
        offset = builder.add(builder.mul(wide, builder.extract_value(made.strides, 0)), byte)
        address = builder.gep(builder.bitcast(made.data, pointer), [offset])
        shape = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
        # Arguments: for reading, with high locality, into the data cache.
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], shape)
        builder.call(function, [address, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return signature, generate
