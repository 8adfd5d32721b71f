# SPDX-License-Identifier: Apache-2.0
"""YAML from anywhere: what would take without end to read is refused before it is read."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["load_yaml"]

#: Lists and mappings in each other; the time that YAML takes grows with the square of this.
_DEEPEST = 50


def load_yaml(text: str, loader: Any, most_references: int) -> Any:
    """The content of a text in YAML.

    Args:
        text: from anywhere, of bounded length.
        loader: what reads it.
        most_references: of anchors (``*name``); each can multiply what the text unfolds to.

    Raises:
        yaml.YAMLError: it is no YAML.
        ValueError: it has more references, or is nested too deeply; the message is to be put behind the file's name.
    """
    depth = references = 0
    for event in yaml.parse(text, loader):
        references += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"has lists within lists, more than {_DEEPEST} deep")
        if references > most_references:
            raise ValueError(f"has more than {most_references} references (*)")
    return yaml.load(text, loader)
