# SPDX-License-Identifier: Apache-2.0
"""The command ``aegnn doctor``, which needs nothing but the standard library."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

__all__ = ["add_doctor_command"]


def add_doctor_command(commands: Any, formatter: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "doctor",
        help="show what is installed, what is missing and what to do about it",
        description="Say which versions, devices, threads, models and parts of ROS 2 are there, what is missing and"
        " what to do about it. The exit status is 1 where something is missing that has to be there.",
        formatter_class=formatter,
    )
    parser.set_defaults(run=_run)
    parser.add_argument("--json", type=Path, default=None, help="also write the findings to this file")


def _run(arguments: argparse.Namespace) -> int:
    from aegnn_core.doctor import diagnose, report

    findings = diagnose()
    print(report(findings))
    missing = [finding for finding in findings if finding.state == "missing"]
    names = ", ".join(finding.name for finding in missing)
    print(f"{len(missing)} missing: {names}" if missing else "Nothing is missing that has to be there.")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(finding) for finding in findings], indent=2) + "\n")
    return 1 if missing else 0
