# SPDX-License-Identifier: Apache-2.0
"""Compiled functions, and when those that are cached on disk are compiled again.

Numba caches a compiled function until its file changes. What it calls from other files is compiled into it, and would
stay in the cache when those files change. So every function that the package compiles is a :func:`kernel`: they are all
compiled again when any file with a kernel changes, or the version of the package or of Numba. Numba itself makes sure
that code made for one processor does not run on another.

Several processes may compile at once, and may be killed while they do. So every entry on disk states which code and
which signature it is of, and is never taken for another.

One thread of a process compiles at a time, or reads what is on disk, and the others wait. In a process that is forked
meanwhile they would wait for good, as that thread is not there: so a fork waits, too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, overload

import numba
from llvmlite import ir
from numba import types
from numba.core.caching import IndexDataCacheFile
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic

__all__ = ["borrowed", "entry", "inlined", "kernel", "kernel_sources", "uncounted"]

_PACKAGE = Path(__file__).parent
#: A file is one with kernels if it has either of these in it: what kernels take from other files has to be there too.
_MARKS = (b"numba", b"aegnn_core.machine_code")

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: What pickle raises for a type that is no longer where it was.
_GONE = ImportError, AttributeError


@overload
def kernel(function: Callable[_P, _R], /) -> Callable[_P, _R]: ...


@overload
def kernel(**options: Any) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]: ...


def kernel(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Decorator ``@kernel`` or ``@kernel(error_model="numpy")``: compile without the interpreter's lock, keep on disk.

    Args:
        function: takes numbers and arrays. Of other files of the package, it may use what stands in a file with
            kernels: functions, types and constants.
        options: of ``numba.njit``.
    """
    if function is None:
        return lambda decorated: kernel(decorated, **options)
    compiled: Any = numba.njit(cache=True, nogil=True, **options)(function)
    if compiled is not function:  # it is under NUMBA_DISABLE_JIT
        cache = compiled._cache
        cache._cache_file = _KernelFile(cache._cache_path, cache._impl.filename_base, _stamp())
    return compiled


@overload
def inlined(function: Callable[_P, _R], /) -> Callable[_P, _R]: ...


@overload
def inlined(**options: Any) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]: ...


def inlined(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """As :func:`kernel`, for what kernels call per event, edge or block: it becomes a part of each that calls it.

    An array is seven arguments to compiled code. A call with some of them writes so many numbers down and reads them
    again, which takes tens of nanoseconds, where LLVM does not see for itself that this is worth avoiding.
    """
    decorate = kernel(forceinline=True, **options)
    return decorate if function is None else decorate(function)


def entry(kernel: Callable[..., _R], *arguments: Any) -> Callable[..., _R]:
    """A kernel for arguments of these types alone, compiled or loaded.

    A call saves the look at the arguments' types, a fifth of a microsecond; so nothing checks what it is called with.

    Args:
        kernel: made by :func:`kernel`.
        arguments: values of the types that it will be called with.
    """
    if not isinstance(kernel, Dispatcher):  # it is under NUMBA_DISABLE_JIT
        return kernel
    kinds = tuple(numba.typeof(argument) for argument in arguments)
    kernel.compile(kinds)
    compiled: Callable[..., _R] = kernel.get_overload(kinds)
    return compiled


def uncounted(builder: ir.IRBuilder, value: ir.Value, kind: types.Type) -> ir.Value:
    """A value of compiled code without what counts the users of the arrays in it."""
    if isinstance(kind, types.Array):
        for field in range(2):  # the memory's own record of its users, and the Python object
            value = builder.insert_value(value, value.type.elements[field](None), field)
    elif isinstance(kind, types.BaseTuple):
        for n, part in enumerate(kind.types):
            value = builder.insert_value(value, uncounted(builder, builder.extract_value(value, n), part), n)
    return value


@intrinsic  # type: ignore[untyped-decorator]
def borrowed(typing: Any, value: Any) -> Any:
    """The array, or tuple of arrays, without what counts its users; the kernel's caller keeps it alive.

    A row that is cut out of an array is one user more, and so is a field of a tuple: an atomic addition each, of some
    nanoseconds, and far more where threads share the array.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return uncounted(builder, arguments[0], value)

    return value(value), generate


class _KernelFile(IndexDataCacheFile):  # type: ignore[misc]  # Numba has no types
    """Where the code of one kernel is kept: an index that names a data file for each signature.

    Numba writes the index first and reuses the names of data files. So the data of a name may be older than the index,
    or of another signature that another process has compiled at the same time.
    """

    def save(self, key: Any, data: Any) -> None:
        super().save(key, (self._source_stamp, key, data))

    def _load_index(self) -> dict[Any, str]:
        """The names of data files; none if the index is of other code, even if it names types that are gone."""
        try:
            found: dict[Any, str] = super()._load_index()
        except _GONE:
            return {}
        return found

    def load(self, key: Any) -> Any:
        try:
            found = super().load(key)
        except _GONE:
            return None
        if found is None:
            return None
        *made_of, data = found
        return data if made_of == [self._source_stamp, key] else None


def kernel_sources() -> list[Path]:
    """All files of the package with kernels in them."""
    return [file for file in sorted(_PACKAGE.rglob("*.py")) if any(mark in file.read_bytes() for mark in _MARKS)]


@lru_cache(1)
def _stamp() -> str:
    """What all compiled code was made from."""
    digest = hashlib.sha256(f"{numba.__version__} {_package_version()}\n".encode())
    for file in kernel_sources():
        content = file.read_bytes()
        digest.update(f"{file.relative_to(_PACKAGE)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _package_version() -> str:
    try:
        return version("aegnn_ros")
    except PackageNotFoundError:  # run from its sources
        return "none"


if hasattr(os, "register_at_fork"):  # not where processes cannot fork
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )
