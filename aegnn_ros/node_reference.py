# SPDX-License-Identifier: Apache-2.0
"""The node's reference in docs/node.md, made from what the node declares: `python -m aegnn_ros.node_reference`."""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from aegnn_ros import detector_node, outputs
from aegnn_ros.diagnostics import VALUES
from aegnn_ros.parameters import DetectorParameters

__all__ = ["main", "reference"]

_BEGIN = "<!-- made by python -m aegnn_ros.node_reference, from the code: changes between these lines are lost -->"
_END = "<!-- end of what is made from the code -->"

#: What the names of topics and services say in the code of the node; their descriptions.
_DESCRIPTIONS = {
    "~/events": "events of one camera, best effort; of the type that the parameter events_type says",
    "~/camera_info": "calibration of the camera, for markers in its true geometry and for undistort; not needed",
    "~/detections": "boxes in the camera's pixels, best first; detectors only",
    "~/classification": "the score of every class, best first",
    "~/label_info": "names of the classes and the score threshold; latched",
    "~/markers": "boxes with captions on the image plane, or the class as text; made while somebody subscribes",
    "~/triggers": "edges on the camera's trigger inputs, with ROS time and sensor time; made while somebody subscribes",
    "~/annotated_image": "events, boxes and captions; made while somebody subscribes",
    "~/annotated_image/compressed": "the same as JPEG",
    "/diagnostics": "one status per node and second, in every state",
    "~/enable": "pauses the node and lets it go on, without a change of state",
    "~/reload_model": "loads what the parameters model and device say, and swaps; the old model runs until then",
}
#: Calls that make a topic or service, with the positions of type and name among their arguments.
_CALLS = {
    "create_subscription": "in",
    "create_publisher": "out",
    "_publisher": "out",
    "create_service": "service",
}


def reference() -> str:
    """Tables of parameters, topics, services and diagnostics in Markdown."""
    parts = ["### Parameters", *_parameters(), "", "### Topics and services", *_interfaces(), ""]
    parts += ["### Values in diagnostics", *_table(("value", "meaning"), ((f"`{k}`", v) for k, v in VALUES.items()))]
    return "\n".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Write the reference into the page, or with ``--check`` say whether it is there; returns 0 or 1."""
    parser = argparse.ArgumentParser(prog="python -m aegnn_ros.node_reference", description=main.__doc__)
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
        print(f"{parsed.page} is not what the code says: run python -m aegnn_ros.node_reference", file=sys.stderr)
        return 1
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
        rows.append((f"`{parameter.name}`", kind, f"`{shown}`", values, parameter.metadata["change"].value, text))
    return _table(("name", "type", "default", "values", "may change", "meaning"), rows)


def _interfaces() -> list[str]:
    found = {name: (kind, way) for module in (detector_node, outputs) for name, kind, way in _created(module)}
    if unknown := set(found) ^ set(_DESCRIPTIONS):
        raise ValueError(f"topics and services without a description, or the other way round: {sorted(unknown)}")
    rows = ((f"`{name}`", f"`{found[name][0]}`", found[name][1], text) for name, text in _DESCRIPTIONS.items())
    return _table(("name", "type", "way", "meaning"), rows)


def _created(module: object) -> Iterator[tuple[str, str, str]]:
    """Name, type and way of every topic and service that a module's code makes."""
    for call in ast.walk(ast.parse(inspect.getsource(module))):  # type: ignore[arg-type]
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr not in _CALLS:
            continue
        kind, name = call.args[:2]
        if isinstance(kind, ast.Name) and isinstance(name, ast.Constant) and isinstance(name.value, str):
            message = getattr(module, kind.id)
            package, folder = message.__module__.split(".")[:2]
            yield name.value, f"{package}/{folder}/{kind.id}", _CALLS[call.func.attr]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


if __name__ == "__main__":
    sys.exit(main())
