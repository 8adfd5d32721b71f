# SPDX-License-Identifier: Apache-2.0
"""Many arrays handed to compiled code at the price of one.

Numba unpacks every array of a call anew, which for some forty of them takes longer than computing one event. Here their
addresses are written down once, and compiled code makes arrays of them again where that costs nothing.

The arrays are the fields of named tuples, which say what their elements are::

    class Nodes(NamedTuple):
        pixel: Annotated[np.ndarray, np.int32]
        features: Annotated[np.ndarray, KIND]

A table of arrays is made of instances by :func:`array_table`, and read in the same order by :func:`parts_at`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, get_args, get_type_hints

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["KIND", "address_of", "addresses", "array_at", "array_table", "first_rows", "parts_at"]

#: Stands for the floats of the kernels, float32 or float64.
KIND = np.floating


def elements_of(kind: type, dtype: Any) -> dict[str, np.dtype]:
    """What the elements of the arrays of a named tuple are, by field; ``dtype`` in place of :data:`KIND`."""
    elements = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if len(get_args(hint)) != 2:
            raise TypeError(
                f"field {name} of {kind.__name__} does not say what its elements are: Annotated[np.ndarray, …]"
            )
        declared = get_args(hint)[1]
        elements[name] = np.dtype(dtype if declared is KIND else declared)
    return elements


def first_rows(kinds: Sequence[Any]) -> list[int]:
    """The rows of a table at which the fields of each of some named tuples begin."""
    return list(accumulate((len(kind._fields) for kind in kinds[:-1]), initial=0))


def array_table(parts: Sequence[Any], kinds: Sequence[Any], dtype: Any) -> np.ndarray:
    """Address and length of every array of some named tuples, ``[arrays, 2]``. The caller keeps the arrays in place.

    Args:
        parts: instances of ``kinds``, in that order.
        kinds: as the compiled code reads them.
        dtype: in place of :data:`KIND`.

    Raises:
        TypeError: a part is of another kind, or an array has other elements than its field says.
        ValueError: an array is not contiguous.
    """
    arrays: list[np.ndarray] = []
    for part, kind in zip(parts, kinds, strict=True):
        if type(part) is not kind:
            raise TypeError(f"array_table: expected {kind.__name__}, found {type(part).__name__}")
        for (name, expected), array in zip(elements_of(kind, dtype).items(), part, strict=True):
            if array.dtype != expected:
                raise TypeError(f"array_table: {kind.__name__}.{name} must be {expected}, found {array.dtype}")
            arrays.append(array)
    return addresses(arrays)


def addresses(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Address and length of every array, ``[arrays, 2]``. The caller keeps the arrays alive, and in place."""
    pairs = []
    for array in arrays:
        if not array.flags.c_contiguous:
            raise ValueError(f"array_table: arrays must be contiguous, found strides {array.strides}")
        pairs.append((array.ctypes.data, array.size))
    return np.array(pairs, np.int64).reshape(-1, 2)


def _read_array(context: Any, builder: ir.IRBuilder, entries: ir.Value, row: ir.Value, array_type: types.Array) -> Any:
    """Code for the array in a row of a table whose data begin at ``entries``."""
    first = builder.mul(row, context.get_constant(types.intp, 2))
    address = builder.load(builder.gep(entries, [first]))
    length = builder.load(builder.gep(entries, [builder.add(first, context.get_constant(types.intp, 1))]))
    array = context.make_array(array_type)(context, builder)
    element = context.get_data_type(array_type.dtype)
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(element))
    context.populate_array(
        array,
        data=builder.inttoptr(address, element.as_pointer()),
        shape=cgutils.pack_array(builder, [length]),
        strides=cgutils.pack_array(builder, [itemsize]),
        itemsize=itemsize,
        meminfo=None,
    )
    return array._getvalue()


@intrinsic
def address_of(typing, array):
    """Where the data of an array begin."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(array)(context, builder, arguments[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.int64))

    return types.int64(array), generate


@intrinsic
def array_at(typing, table, row, dtype):
    """The one-dimensional array in a row of ``table``, the result of :func:`addresses`.

    ``dtype`` of its elements: a NumPy or Numba type, or a number of that type.
    """
    if isinstance(dtype, types.TypeRef):
        element_type = dtype.instance_type
    else:
        element_type = dtype.dtype if isinstance(dtype, types.NumberClass) else dtype
    array_type = types.Array(element_type, 1, "C")

    def generate(context, builder, signature, arguments):
        entries = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        row = context.cast(builder, arguments[1], signature.args[1], types.intp)
        return _read_array(context, builder, entries, row, array_type)

    return array_type(table, row, dtype), generate


@intrinsic
def parts_at(typing, table, row, parts, kind):
    """The named tuple of arrays that begins in a row of ``table``, the result of :func:`array_table`.

    ``parts`` is its class, ``kind`` a float of the kernels' type.
    """
    described = parts.instance_class
    elements = elements_of(described, np.dtype(str(kind)))
    array_types = [types.Array(from_dtype(element), 1, "C") for element in elements.values()]
    result = types.BaseTuple.from_types(array_types, described)

    def generate(context, builder, signature, arguments):
        entries = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        row = context.cast(builder, arguments[1], signature.args[1], types.intp)
        arrays = [
            _read_array(context, builder, entries, builder.add(row, context.get_constant(types.intp, n)), array_type)
            for n, array_type in enumerate(array_types)
        ]
        return context.make_tuple(builder, result, arrays)

    return result(table, row, parts, kind), generate
