# SPDX-License-Identifier: Apache-2.0
"""Words of 64 bits that threads of compiled code share: reads and writes that others see in order, and ways to wait.

What a thread has written before it releases a word is there for whoever acquires that word afterwards. ``words`` is
always an int64 array; the caller sees to the bounds.
"""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "add",
    "exchange",
    "load_acquire",
    "pause",
    "replace",
    "semaphore_post",
    "semaphore_wait",
    "store_release",
    "yield_processor",
]

#: What a processor has for threads that read the same word again and again: LLVM's name and arguments.
_PAUSES = {"x86_64": ("llvm.x86.sse2.pause", ()), "aarch64": ("llvm.aarch64.hint", (1,))}


def _address(
    context: Any, builder: ir.IRBuilder, array_type: Any, array: ir.Value, index_type: Any, index: ir.Value
) -> ir.Value:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [context.cast(builder, index, index_type, types.intp)])


@intrinsic
def load_acquire(typing, words, index):
    """``words[index]``, and with it all that was written before it was released."""

    def generate(context, builder, signature, arguments):
        address = _address(context, builder, words, arguments[0], signature.args[1], arguments[1])
        return builder.load_atomic(address, "acquire", 8)

    return types.int64(words, index), generate


@intrinsic
def store_release(typing, words, index, value):
    """``words[index] = value``, behind all that was written before."""

    def generate(context, builder, signature, arguments):
        address = _address(context, builder, words, arguments[0], signature.args[1], arguments[1])
        builder.store_atomic(context.cast(builder, arguments[2], value, types.int64), address, "release", 8)
        return context.get_dummy_value()

    return types.void(words, index, value), generate


def _read_and_write(operation: str) -> Any:
    """An intrinsic that changes a word in one step, in one order for all threads, and returns what it was."""

    @intrinsic
    def make(typing, words, index, value):
        def generate(context, builder, signature, arguments):
            address = _address(context, builder, words, arguments[0], signature.args[1], arguments[1])
            value_ = context.cast(builder, arguments[2], value, types.int64)
            return builder.atomic_rmw(operation, address, value_, "seq_cst")

        return types.int64(words, index, value), generate

    return make


exchange = _read_and_write("xchg")
add = _read_and_write("add")


@intrinsic
def replace(typing, words, index, expected, value):
    """``words[index] = value`` if it was ``expected``, in one step; whether it was."""

    def generate(context, builder, signature, arguments):
        address = _address(context, builder, words, arguments[0], signature.args[1], arguments[1])
        old, new = (context.cast(builder, arguments[n], signature.args[n], types.int64) for n in (2, 3))
        return builder.extract_value(builder.cmpxchg(address, old, new, "acq_rel", "acquire"), 1)

    return types.boolean(words, index, expected, value), generate


@intrinsic
def pause(typing):
    """Tell the processor that this thread waits for another."""

    def generate(context, builder, signature, arguments):
        for processor, (name, values) in _PAUSES.items():
            if builder.module.triple.startswith(processor):
                kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)] * len(values))
                function = cgutils.get_or_insert_function(builder.module, kind, name)
                builder.call(function, [ir.IntType(32)(value) for value in values])
        return context.get_dummy_value()

    return types.void(), generate


def _call(builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> ir.Value:
    """Call a function of the C library that returns an int."""
    kind = ir.FunctionType(ir.IntType(32), [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


@intrinsic
def yield_processor(typing):
    """Let another thread run here, if one wants to."""

    def generate(context, builder, signature, arguments):
        _call(builder, "sched_yield")
        return context.get_dummy_value()

    return types.void(), generate


#: Where the C library keeps the number of a thread's last error.
_ERROR_NUMBER = "__error" if sys.platform == "darwin" else "__errno_location"


def _on_semaphore(function: str) -> Any:
    """An intrinsic that calls a function of the C library for the semaphore (``sem_t``) that begins at a word.

    It returns 0, or else the number of the error; that is EINTR if a signal came instead.
    """

    @intrinsic
    def make(typing, words, index):
        def generate(context, builder, signature, arguments):
            address = _address(context, builder, words, arguments[0], signature.args[1], arguments[1])
            failed = _call(builder, function, builder.bitcast(address, ir.IntType(8).as_pointer()))
            number = ir.IntType(32)
            result = cgutils.alloca_once_value(builder, number(0))
            with builder.if_then(builder.icmp_signed("!=", failed, number(0)), likely=False):
                kind = ir.FunctionType(number.as_pointer(), [])
                where = builder.call(cgutils.get_or_insert_function(builder.module, kind, _ERROR_NUMBER), [])
                builder.store(builder.load(where), result)
            return builder.load(result)

        return types.int32(words, index), generate

    return make


semaphore_wait = _on_semaphore("sem_wait")
semaphore_post = _on_semaphore("sem_post")
