# SPDX-License-Identifier: Apache-2.0
"""Opens HDF5 files, each in a process that may crash; run as a script, which needs nothing of the package.

It reads paths from its standard input, each behind its length, and writes for each how that process has ended: 0, or
the signal that has ended it, negative. When its input ends, so does it.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  registers compression filters

#: What takes longer [s of computing] will never end.
_MOST_CPU_S = 5
#: Smaller data sets are read whole, of larger ones the first element, which unpacks the first chunk.
_SMALL_BYTES = 1 << 16
#: Of how many objects and chunks a file may have to be looked at, at most.
_MOST = 1000


def _look_at(file: h5py.File) -> None:
    """Touch what a reader may touch."""
    seen = 0

    def visit(_: str, found: Any) -> bool | None:
        nonlocal seen
        seen += 1
        for look in (_attributes, _chunks, _values):
            try:
                look(found)
            except Exception:  # the reader will meet it, too, and say so
                continue
        return True if seen >= _MOST else None

    visit("", file)
    file.visititems(visit)


def _attributes(found: Any) -> None:
    for name in found.attrs:
        found.attrs[name]


def _chunks(found: Any) -> None:
    if isinstance(found, h5py.Dataset) and found.chunks is not None:
        for number in range(min(found.id.get_num_chunks(), _MOST)):
            found.id.get_chunk_info(number)


def _values(found: Any) -> None:
    if isinstance(found, h5py.Dataset):
        small = found.size * found.dtype.itemsize <= _SMALL_BYTES
        found[() if small else (slice(1),) * found.ndim]


def _try(path: bytes) -> None:
    """Open a file, and end the process."""
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (_MOST_CPU_S, _MOST_CPU_S))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with h5py.File(path, "r") as file:
            _look_at(file)
    finally:
        os._exit(0)  # whatever h5py has raised, the reader will meet


def main() -> None:
    """Serve until the input ends."""
    while length := sys.stdin.buffer.read(4):
        path = sys.stdin.buffer.read(*struct.unpack("<I", length))
        process = os.fork()
        if process == 0:
            _try(path)
        _, status = os.waitpid(process, 0)
        sys.stdout.buffer.write(struct.pack("<i", os.waitstatus_to_exitcode(status)))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
