# SPDX-License-Identifier: Apache-2.0
"""The monotonic clock, readable from compiled code."""

from __future__ import annotations

import time

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["nanoseconds"]


@intrinsic
def nanoseconds(typing):
    """As :func:`time.monotonic_ns`, from the C library's ``clock_gettime``; some 20 ns a call."""

    def generate(context, builder, signature, arguments):
        moment_type = ir.ArrayType(ir.IntType(64), 2)
        moment = cgutils.alloca_once(builder, moment_type)
        int32 = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(int32, [int32, moment_type.as_pointer()]), "clock_gettime"
        )
        builder.call(function, [ir.Constant(int32, time.CLOCK_MONOTONIC), moment])
        seconds = builder.extract_value(builder.load(moment), 0)
        rest = builder.extract_value(builder.load(moment), 1)
        return builder.add(builder.mul(seconds, ir.Constant(ir.IntType(64), 10**9)), rest)

    return types.int64(), generate
