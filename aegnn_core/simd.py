# SPDX-License-Identifier: Apache-2.0
"""SIMD vectors for Numba kernels: a register of several floats as a value, with loads, stores and multiply-adds.

Numba's automatic vectorisation does not find the shape that small matrix kernels need (several accumulators held in
registers while a loop runs over something else), and the compiler switches that make it do so are global. Here LLVM's
own vector type is made a Numba type, so that a kernel says what it means, on any CPU: LLVM splits a vector that is
wider than the machine's registers.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

__all__ = ["Vector", "broadcast", "load", "multiply_add", "store"]


class Vector(types.Type):
    """``lanes`` floats of one type."""

    def __init__(self, dtype: types.Float, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        element = ir.FloatType() if fe_type.dtype == types.float32 else ir.DoubleType()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.lanes))


def _address(context, builder, array_type, array, index, vector):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _splat(builder, scalar, vector):
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None))


def _elementwise(builder, name, vector, *values):
    """Call LLVM's function ``name`` on vectors."""
    bits = 32 if isinstance(vector.element, ir.FloatType) else 64
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector] * len(values)), f"llvm.{name}.v{vector.count}f{bits}"
    )
    return builder.call(function, values)


@intrinsic
def load(typing, array, index, like):
    """As many floats from ``array[index]`` on as the vector ``like`` has. The caller sees to the bounds."""

    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(like)
        index = context.cast(builder, arguments[1], signature.args[1], types.intp)
        address = _address(context, builder, signature.args[0], arguments[0], index, vector)
        return builder.load(address, align=array.dtype.bitwidth // 8)

    return like(array, index, like), generate


@intrinsic
def store(typing, array, index, value):
    """``array[index : index + lanes] = value``."""

    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(value)
        index = context.cast(builder, arguments[1], signature.args[1], types.intp)
        address = _address(context, builder, signature.args[0], arguments[0], index, vector)
        builder.store(arguments[2], address, align=value.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, index, value), generate


@intrinsic(prefer_literal=True)
def broadcast(typing, scalar, lanes):
    """``scalar`` in every one of ``lanes``, a constant."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    result = Vector(scalar, lanes.literal_value)

    def generate(context, builder, signature, arguments):
        return _splat(builder, arguments[0], context.get_value_type(result))

    return result(scalar, lanes), generate


@intrinsic
def multiply_add(typing, scalar, values, addend):
    """``scalar · values + addend``, fused where the machine can; ``scalar`` may be a vector, too."""
    is_vector = isinstance(scalar, Vector)

    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(addend)
        factor = arguments[0] if is_vector else _splat(builder, arguments[0], vector)
        return _elementwise(builder, "fmuladd", vector, factor, arguments[1], arguments[2])

    return addend(scalar if is_vector else addend.dtype, values, addend), generate
