# SPDX-License-Identifier: Apache-2.0
"""Compiled loops that the threads share with which torch computes.

Behind each of its operations, torch's threads stay awake for a while and wait for the next one. Threads of our own
would want the same cores at just that time, and were slower than none. So a loop is handed to torch's own threads,
those of the OpenMP library that it was loaded with; where there is none that we know, the caller runs it alone. So
does a process that was forked, in which these threads are not.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from aegnn_core.machine_code import uncounted

__all__ = ["ALONE", "Team", "in_shares", "torch_team"]

#: Shares of a loop per thread: more of them even out what takes longer, and cost a microsecond at most.
_SHARES = 4


class Team(NamedTuple):
    """Where ``GOMP_parallel`` lies, 0 if there is none, and the number of threads."""

    start: int
    threads: int


#: The caller.
ALONE = Team(0, 1)


@lru_cache(1)
def _openmp() -> int:
    """The address of the function with which the OpenMP that torch uses begins a parallel region."""
    beside = os.path.join(os.path.dirname(torch.__file__), "lib", "libtorch_cpu.so")
    # A system's own torch may lie elsewhere; its OpenMP is then the system's, which is in the process already.
    libraries = {"libtorch_cpu.so": 0, beside: 0, "libgomp.so.1": getattr(os, "RTLD_NOLOAD", 0)}
    for library, mode in libraries.items():
        try:
            function = ctypes.CDLL(library, mode).GOMP_parallel
        except (OSError, AttributeError):
            continue
        return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0


def torch_team() -> Team:
    """As many of torch's threads as ``torch.get_num_threads()`` says; the caller alone in a process that was forked."""
    return ALONE if _was_forked else Team(_openmp(), torch.get_num_threads())


_was_forked = False


def _note_fork() -> None:
    global _was_forked
    _was_forked = True


if hasattr(os, "register_at_fork"):  # not where processes cannot fork
    os.register_at_fork(after_in_child=_note_fork)


@intrinsic
def in_shares(typing, team, first, last, least, body, arguments):
    """Call ``body(begin, end, *arguments)`` for parts of ``first … last - 1``, each once, in any of the team's threads.

    Args:
        team: a :class:`Team`. Where it has one thread, or too little to do, there is a single part.
        first, last: of the loop.
        least: steps of the loop that are worth a part of their own.
        body: a kernel that raises nothing and whose parts do not disturb each other.
        arguments: a tuple of numbers and arrays.
    """
    call = body.get_call_type(typing, (types.int64, types.int64, *arguments.types), {})

    def generate(context, builder, signature, values):
        compiled = body.dispatcher.get_compile_result(call)
        context.active_code_library.add_linking_library(compiled.library)
        word, kind = ir.IntType(64), values[5].type
        job = ir.LiteralStructType([word, word, word, kind])

        start, threads = (builder.extract_value(values[0], n) for n in range(2))
        numbers = [context.cast(builder, values[n], signature.args[n], types.int64) for n in (1, 2, 3)]
        size = builder.sub(numbers[1], numbers[0])
        is_shared = builder.and_(
            builder.and_(builder.icmp_signed("!=", start, word(0)), builder.icmp_signed(">", threads, word(1))),
            builder.icmp_signed(">=", size, builder.mul(numbers[2], word(2))),
        )
        even = builder.add(builder.sdiv(size, builder.mul(threads, word(_SHARES))), word(1))
        larger = builder.select(builder.icmp_signed(">", even, numbers[2]), even, numbers[2])
        step = builder.select(is_shared, larger, builder.add(size, word(1)))

        place = cgutils.alloca_once(builder, job)
        for n, value in enumerate((numbers[0], numbers[1], step, values[5])):
            builder.store(value, builder.gep(place, [ir.IntType(32)(0), ir.IntType(32)(n)]))
        run = _follower(context, builder.module, job, compiled, call)
        data = builder.bitcast(place, run.args[0].type)
        with builder.if_else(is_shared) as (shared, alone):
            with shared:
                number, flags = builder.trunc(threads, ir.IntType(32)), ir.IntType(32)(0)
                parallel = ir.FunctionType(ir.VoidType(), [run.type, data.type, number.type, flags.type])
                builder.call(builder.inttoptr(start, parallel.as_pointer()), [run, data, number, flags])
            with alone:
                builder.call(run, [data])
        return context.get_dummy_value()

    return types.void(team, first, last, least, body, arguments), generate


def _follower(context: Any, module: ir.Module, job: ir.Type, compiled: Any, call: Any) -> ir.Function:
    """The function that each thread runs, given where the job lies: it takes parts until none is left."""
    index = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
    function = ir.Function(module, kind, module.get_unique_name("share"))
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    take, work, done = (function.append_basic_block(name) for name in ("take", "work", "done"))
    place = builder.bitcast(function.args[0], job.as_pointer())
    fields = [builder.gep(place, [index(0), index(n)]) for n in range(4)]
    last, step, given = (builder.load(field) for field in fields[1:])
    arguments = [uncounted(builder, builder.extract_value(given, n), kind) for n, kind in enumerate(call.args[2:])]
    builder.branch(take)
    builder.position_at_end(take)
    begin = builder.atomic_rmw("add", fields[0], step, "monotonic")
    builder.cbranch(builder.icmp_signed("<", begin, last), work, done)
    builder.position_at_end(work)
    behind = builder.add(begin, step)
    end = builder.select(builder.icmp_signed("<", behind, last), behind, last)
    declared = context.declare_function(module, compiled.fndesc)
    context.call_conv.call_function(builder, declared, call.return_type, call.args, [begin, end, *arguments])
    builder.branch(take)
    builder.position_at_end(done)
    builder.ret_void()
    return function
