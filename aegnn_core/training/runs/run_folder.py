# SPDX-License-Identifier: Apache-2.0
"""Where a run keeps its log, its checkpoints and its settings: a numbered folder below ``AEGNN_LOG_DIR``."""

from __future__ import annotations

import os
import re
from pathlib import Path

import yaml

from aegnn_core.training.settings import TrainSettings, declared

__all__ = ["BEST", "LAST", "check_same_run", "find_run", "new_run", "read_run", "write_settings"]

#: Names of the checkpoints in a run's folder.
LAST, BEST = "last.ckpt", "best.ckpt"

_SETTINGS = "settings.yaml"
_VERSION = re.compile(r"version_(\d+)")


def new_run(name: str) -> Path:
    """The folder of the next run of that name, which is not there yet."""
    numbers = [number for number, _ in _versions(name)]
    return _log_dir() / name / f"version_{max(numbers, default=-1) + 1}"


def find_run(name: str) -> Path:
    """The folder of the last run of that name.

    Raises:
        ValueError: there is no run of that name.
    """
    versions = _versions(name)
    if not versions:
        raise ValueError(f"no run to resume: found no folder {_log_dir() / name / 'version_*'} with {_SETTINGS}")
    return max(versions)[1]


def write_settings(run: Path, settings: TrainSettings) -> None:
    """Keep a run's settings in its folder, which is made."""
    run.mkdir(parents=True, exist_ok=True)
    part = run / f"{_SETTINGS}.part"
    part.write_text(str(settings), "utf8")
    part.replace(run / _SETTINGS)


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
