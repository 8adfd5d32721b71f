"""Many arrays handed to compiled code at the price of one.

Numba unpacks every array of a call anew, which for some forty of them takes longer than computing one event. Here their
addresses are written down once, and compiled code makes arrays of them again where that costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["array_at", "handles"]


def handles(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Address and length of every array, ``[arrays, 2]``. The caller keeps the arrays alive, and in place."""
    pairs = []
    for array in arrays:
        if not array.flags.c_contiguous:
            raise ValueError(f"handles: arrays must be contiguous, found strides {array.strides}")
        pairs.append((array.ctypes.data, array.size))
    return np.array(pairs, np.int64).reshape(-1, 2)


@intrinsic
def array_at(typing, table, row, dtype):
    """The one-dimensional array in a row of ``table``, the result of :func:`handles`.

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
        first = builder.mul(row, context.get_constant(types.intp, 2))
        address = builder.load(builder.gep(entries, [first]))
        length = builder.load(builder.gep(entries, [builder.add(first, context.get_constant(types.intp, 1))]))
        array = context.make_array(array_type)(context, builder)
        element = context.get_data_type(element_type)
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

    return array_type(table, row, dtype), generate
