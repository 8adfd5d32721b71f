# SPDX-License-Identifier: Apache-2.0
"""The node's reference in docs/node.md, made from what the node declares: `python docs/node_reference.py`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

from aegnn_ros.detector.diagnostics import VALUES
from aegnn_ros.detector.parameters import DetectorParameters, parameter_name
from aegnn_ros.detector.topics import INTERFACES

__all__ = ["main", "reference"]

_BEGIN = "<!-- made by python docs/node_reference.py, from the code: changes between these lines are lost -->"
_END = "<!-- end of what is made from the code -->"


def reference() -> str:
    """Tables of parameters, topics, services and diagnostics in Markdown."""
    parts = ["### Parameters", *_parameters(), "", "### Topics and services", *_interfaces(), ""]
    parts += ["### Values in diagnostics", *_table(("value", "meaning"), ((f"`{k}`", v) for k, v in VALUES.items()))]
    return "\n".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Write the reference into the page, or with ``--check`` say whether it is there; returns 0 or 1."""
    parser = argparse.ArgumentParser(prog="python docs/node_reference.py", description=main.__doc__)
    parser.add_argument("page", type=Path, nargs="?", default=Path("docs/node.md"))
    parser.add_argument("--check", action="store_true", help="change nothing")
    parsed = parser.parse_args(arguments)
    text = parsed.page.read_text()
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        print(f"{parsed.page}: expected the lines {_BEGIN!r} and {_END!r}", file=sys.stderr)
        return 1
    current = f"{before}{_BEGIN}\n{reference()}\n{_END}{after}"
    if parsed.check and current != text:
        print(f"{parsed.page} is not what the code says: run python docs/node_reference.py", file=sys.stderr)
        return 1
    if not parsed.check:
        parsed.page.write_text(current)
    return 0


def _parameters() -> list[str]:
    rows = []
    for parameter in fields(DetectorParameters):
        limits, choices = parameter.metadata["limits"], parameter.metadata["choices"]
        default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        values = f"{limits[0]} to {limits[1]}" if limits else ", ".join(f"`{choice}`" for choice in choices)
        kind = "int[4]" if isinstance(default, list) else type(default).__name__
        shown = str(default).lower() if isinstance(default, bool) else str(default) or '""'
        text = parameter.metadata["description"]
        rows.append(
            (f"`{parameter_name(parameter)}`", kind, f"`{shown}`", values, parameter.metadata["change"].value, text)
        )
    return _table(("name", "type", "default", "values", "may change", "meaning"), rows)


def _interfaces() -> list[str]:
    rows = []
    for interface in INTERFACES:
        package, folder = interface.kind.__module__.split(".")[:2]
        kind = f"{package}/{folder}/{interface.kind.__name__}"
        rows.append((f"`{interface.name}`", f"`{kind}`", interface.way, interface.meaning))
    return _table(("name", "type", "way", "meaning"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


if __name__ == "__main__":
    sys.exit(main())
