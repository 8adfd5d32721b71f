# SPDX-License-Identifier: Apache-2.0
"""Where a run keeps its log, its checkpoints and its settings: a numbered folder below ``AEGNN_LOG_DIR``."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml
from lightning.pytorch.utilities import rank_zero_only

from aegnn_core.training.settings import TrainSettings, declared
from aegnn_core.whole_files import whole_file

__all__ = [
    "BEST",
    "LAST",
    "check_same_run",
    "find_run",
    "is_first_process",
    "kept_from_others",
    "new_run",
    "read_run",
    "removed_if_unused",
    "write_settings",
]

#: Names of the checkpoints in a run's folder.
LAST, BEST = "last.ckpt", "best.ckpt"

_SETTINGS = "settings.yaml"
#: Which a process locks as long as it trains. Its loaders do not inherit a lock of POSIX, and file systems of a network
#: have them.
_LOCK = "lock"
_VERSION = re.compile(r"version_(\d+)")


def new_run(name: str) -> Path:
    """Make the folder of the next run of that name, which no other process gets, also if it asks at the same time."""
    number = max((number for number, _ in _versions(name)), default=-1) + 1
    while True:
        run = _log_dir() / name / f"version_{number}"
        try:
            if is_first_process():  # the others have its folder, which they are told
                run.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return run


@contextmanager
def removed_if_unused(run: Path) -> Iterator[None]:
    """Remove the folder of a run that has not begun within."""
    try:
        yield
    finally:
        if is_first_process() and not (run / _SETTINGS).exists():
            (run / _LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # something else is in it
                run.rmdir()


@contextmanager
def kept_from_others(run: Path) -> Iterator[None]:
    """Only one process may be within for a folder, which is made; the others that belong to it do not count.

    Raises:
        ValueError: another is.
    """
    if not is_first_process():
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    with (run / _LOCK).open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise ValueError(f"another process trains in {run}, expected a run that nobody goes on with") from error
        yield


def find_run(name: str) -> Path:
    """The folder of the last run of that name.

    Raises:
        ValueError: there is no run of that name.
    """
    versions = _versions(name)
    if not versions:
        raise ValueError(f"no run to resume: found no folder {_log_dir() / name / 'version_*'} with {_SETTINGS}")
    return max(versions)[1]


def is_first_process() -> bool:
    """Whether this is the process that writes, of those that train together."""
    return bool(rank_zero_only(lambda: True, default=False)())


def write_settings(run: Path, settings: TrainSettings) -> None:
    """Keep a run's settings in its folder, which is made."""
    with whole_file(run / _SETTINGS) as file:
        file.write(str(settings).encode())


def read_run(run: Path) -> TrainSettings:
    """The settings that a run was begun with.

    Raises:
        ValueError: ``run`` is not the folder of a run.
    """
    try:
        return TrainSettings.from_dict(yaml.safe_load((run / _SETTINGS).read_text("utf8")))
    except (OSError, yaml.YAMLError, TypeError) as error:
        raise ValueError(f"{run} is not the folder of a run: {error}") from error


def check_same_run(run: Path, kept: TrainSettings, wanted: TrainSettings) -> None:
    """Raise a ``ValueError`` unless a run with the settings ``kept`` may go on with those that are ``wanted``."""
    resumable = {item.name for item in declared() if item.metadata["resumable"]}
    # A rule that says what happens to old nodes may be the one that leaves it open.
    expected, found = (
        {**one.to_dict(), "graph": one.graph and one.graph.resolved().to_dict()} for one in (kept, wanted)
    )
    different = [name for name in expected if name not in resumable and found[name] != expected[name]]
    if different:
        listed = ", ".join(f"{name} is {found[name]!r}, it has {expected[name]!r}" for name in different)
        raise ValueError(f"the run {run} cannot go on with other settings: {listed}")


def _log_dir() -> Path:
    return Path(os.environ.get("AEGNN_LOG_DIR", "logs"))


def _versions(name: str) -> list[tuple[int, Path]]:
    folders = (_log_dir() / name).glob("version_*")
    found = [(match, folder) for folder in folders if (match := _VERSION.fullmatch(folder.name))]
    return [(int(match[1]), folder) for match, folder in found if (folder / _SETTINGS).is_file()]
