# SPDX-License-Identifier: Apache-2.0
"""SIMD vectors for Numba kernels: a register of several floats as a value, with loads, stores and multiply-adds.

Numba's automatic vectorisation does not find the shape that small matrix kernels need (several accumulators held in
registers while a loop runs over something else), and the compiler switches that make it do so are global. Here LLVM's
own vector type is made a Numba type, so that a kernel says what it means, on any CPU: LLVM splits a vector that is
wider than the machine's registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

__all__ = [
    "REGISTER_BITS",
    "Vector",
    "broadcast",
    "filled",
    "load",
    "maximum",
    "minimum",
    "multiply_add",
    "multiply_rows",
    "power_of_two",
    "prefetch",
    "prefetch_early",
    "register_of",
    "round_down",
    "store",
]

#: Bits of the widest register of today's machines.
REGISTER_BITS = 512


class Vector(types.Type):  # type: ignore[misc]  # Numba has no types
    """``lanes`` floats of one type."""

    def __init__(self, dtype: types.Float, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        element = ir.FloatType() if fe_type.dtype == types.float32 else ir.DoubleType()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.lanes))


def _address(
    context: Any, builder: ir.IRBuilder, array_type: Any, array: ir.Value, index: ir.Value, vector: ir.VectorType
) -> ir.Value:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _splat(builder: ir.IRBuilder, scalar: ir.Value, vector: ir.VectorType) -> ir.Value:
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None))


def _elementwise(builder: ir.IRBuilder, name: str, vector: ir.VectorType, *values: ir.Value) -> ir.Value:
    """Call LLVM's function ``name`` on vectors."""
    bits = 32 if isinstance(vector.element, ir.FloatType) else 64
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector] * len(values)), f"llvm.{name}.v{vector.count}f{bits}"
    )
    return builder.call(function, values)


#: Into which caches something is brought: all of them, or all but the nearest.
_ALL_CACHES, _FROM_THE_SECOND = 3, 2


def _begin_to_bring(builder: ir.IRBuilder, pointer: ir.Value, caches: int = _ALL_CACHES) -> None:
    """Begin to bring what a pointer points at into caches."""
    integer = ir.IntType(32)
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), integer, integer, integer]),
        "llvm.prefetch.p0",
    )
    # For reading, data.
    address = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    builder.call(function, [address, integer(0), integer(caches), integer(1)])


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
def filled(typing, scalar, like):
    """``scalar`` in every lane that the vector ``like`` has."""

    def generate(context, builder, signature, arguments):
        return _splat(builder, arguments[0], context.get_value_type(like))

    return like(like.dtype, like), generate


@intrinsic
def multiply_add(typing, scalar, values, addend):
    """``scalar · values + addend``, fused where the machine can; ``scalar`` may be a vector, too."""
    is_vector = isinstance(scalar, Vector)

    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(addend)
        factor = arguments[0] if is_vector else _splat(builder, arguments[0], vector)
        return _elementwise(builder, "fmuladd", vector, factor, arguments[1], arguments[2])

    return addend(scalar if is_vector else addend.dtype, values, addend), generate


@intrinsic
def register_of(typing, array):
    """A whole register of zeros, of the kind of an array's elements."""
    result = Vector(array.dtype, REGISTER_BITS // array.dtype.bitwidth)

    def generate(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(result), None)

    return result(array), generate


@intrinsic
def maximum(typing, a, b):
    """The larger of each pair; ``b`` where either is not a number."""

    def generate(context, builder, signature, arguments):
        larger = builder.fcmp_ordered(">", arguments[0], arguments[1])
        return builder.select(larger, arguments[0], arguments[1])

    return a(a, a), generate


@intrinsic
def minimum(typing, a, b):
    """The smaller of each pair; ``b`` where either is not a number."""

    def generate(context, builder, signature, arguments):
        smaller = builder.fcmp_ordered("<", arguments[0], arguments[1])
        return builder.select(smaller, arguments[0], arguments[1])

    return a(a, a), generate


@intrinsic
def round_down(typing, values):
    """The largest whole number that is not larger, of each."""

    def generate(context, builder, signature, arguments):
        return _elementwise(builder, "floor", context.get_value_type(values), arguments[0])

    return values(values), generate


@intrinsic
def power_of_two(typing, exponents):
    """2 to each exponent: whole numbers from -126 to 127, in float32."""
    if exponents.dtype != types.float32:
        return None

    def generate(context, builder, signature, arguments):
        whole = ir.VectorType(ir.IntType(32), exponents.lanes)
        biased = builder.add(builder.fptosi(arguments[0], whole), ir.Constant(whole, [127] * exponents.lanes))
        bits = builder.shl(biased, ir.Constant(whole, [23] * exponents.lanes))
        return builder.bitcast(bits, context.get_value_type(exponents))

    return exponents(exponents), generate


def _prefetch(caches: int, context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    index = context.cast(builder, arguments[1], signature.args[1], types.intp)
    _begin_to_bring(builder, builder.gep(data, [index]), caches)
    return context.get_dummy_value()


@intrinsic
def prefetch(typing, array, index):
    """Begin to bring ``array[index]`` into the nearest cache; does nothing for an index that is out of bounds."""
    return types.void(array, index), partial(_prefetch, _ALL_CACHES)


@intrinsic
def prefetch_early(typing, array, index):
    """As :func:`prefetch`, but into the second cache only, for what is read some hundred ns later or more.

    Far more of these can be under way at a time, for they do not hold the few places in which the nearest cache waits.
    """
    return types.void(array, index), partial(_prefetch, _FROM_THE_SECOND)


@intrinsic(prefer_literal=True)
def multiply_rows(
    typing, out, out_at, source, source_at, first, parts, step, weight, weight_at, bias_at, rows, outputs, soon,
    soon_step, pixels, vectors,
):  # fmt: skip
    """A small matrix product of rows that lie anywhere: the innermost loops of a convolution.

    For each of ``pixels`` numbers k from ``first`` on, ``out[out_at[k] + c] = weight[bias_at + c] + Σ_s Σ_r
    source[source_at[k] + s · step + r] · weight[weight_at + (s · rows + r) · outputs + c]``, s below ``parts``, r below
    ``rows``, c below as many lanes as ``vectors`` registers have. ``pixels`` and ``vectors`` are constants: all these
    sums stay in registers. Meanwhile, ``weight[soon + (s · rows + r) · soon_step]`` are brought into the cache. Two
    numbers may stand for the same row, which is then written twice. The caller sees to the bounds.
    """
    if not isinstance(pixels, types.IntegerLiteral) or not isinstance(vectors, types.IntegerLiteral):
        return None
    many, wide = pixels.literal_value, vectors.literal_value
    like = Vector(out.dtype, REGISTER_BITS // out.dtype.bitwidth)
    names = ("out", "out_at", "source", "source_at", "first", "parts", "step", "weight", "weight_at", "bias_at",
             "rows", "outputs", "soon", "soon_step")  # fmt: skip
    word = ir.IntType(64)

    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(like)
        align = out.dtype.bitwidth // 8
        values = {}
        for name, kind, value in zip(names, signature.args, arguments, strict=False):
            if isinstance(kind, types.Array):
                values[name] = context.make_array(kind)(context, builder, value).data
            else:
                values[name] = context.cast(builder, value, kind, types.intp)

        def rows_of(array: ir.Value, places: ir.Value) -> Iterator[ir.Value]:
            for k in range(many):
                place = builder.load(builder.gep(places, [builder.add(values["first"], word(k))]))
                yield builder.gep(array, [place])

        def register(row: ir.Value, v: int) -> ir.Value:
            return builder.bitcast(builder.gep(row, [word(v * vector.count)]), vector.as_pointer())

        sources = list(rows_of(values["source"], values["source_at"]))
        targets = [register(row, v) for row in rows_of(values["out"], values["out_at"]) for v in range(wide)]
        bias = builder.gep(values["weight"], [values["bias_at"]])
        begun = [builder.load(register(bias, v), align=align) for v in range(wide)]
        sums = [cgutils.alloca_once_value(builder, value) for _ in range(many) for value in begun]
        first_weight = builder.gep(values["weight"], [values["weight_at"]])
        soon = builder.gep(values["weight"], [values["soon"]])
        with cgutils.for_range(builder, values["parts"], intp=word) as part:
            numbered = before = builder.mul(part.index, values["rows"])
            moved = [builder.gep(row, [builder.mul(part.index, values["step"])]) for row in sources]
            with cgutils.for_range(builder, values["rows"], intp=word) as loop:
                weight_row = builder.mul(builder.add(before, loop.index), values["outputs"])
                weights = builder.gep(first_weight, [weight_row])
                loaded = [builder.load(register(weights, v), align=align) for v in range(wide)]
                place = builder.mul(builder.add(numbered, loop.index), values["soon_step"])
                _begin_to_bring(builder, builder.gep(soon, [place]))
                for k, row in enumerate(moved):
                    factor = _splat(builder, builder.load(builder.gep(row, [loop.index])), vector)
                    for v in range(wide):
                        total = sums[k * wide + v]
                        value = _elementwise(builder, "fmuladd", vector, factor, loaded[v], builder.load(total))
                        builder.store(value, total)
        for target, total in zip(targets, sums, strict=True):
            builder.store(builder.load(total), target, align=align)
        return context.get_dummy_value()

    kinds = (
        out,
        out_at,
        source,
        source_at,
        first,
        parts,
        step,
        weight,
        weight_at,
        bias_at,
        rows,
        outputs,
        soon,
        soon_step,
        pixels,
        vectors,
    )
    return types.void(*kinds), generate
