# SPDX-License-Identifier: Apache-2.0
"""Tables by name that other packages can add to: networks and data sets."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from typing import Any, Generic, TypeVar

__all__ = ["Registry", "Trust", "is_path", "trusts"]

Value = TypeVar("Value")

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def is_path(name: str) -> bool:
    """Whether a name is that of something in a module, ``package.module:Name``."""
    return _PATH.fullmatch(name) is not None


#: Whose code may be imported: of nobody else (False), of all (True), or of these packages.
Trust = bool | str | Collection[str]


def trusts(trust: Trust, path: str) -> bool:
    """Whether the code may be imported that the path ``package.module:Name`` leads to."""
    if isinstance(trust, bool):
        return trust
    module = path.partition(":")[0]
    packages = [trust] if isinstance(trust, str) else trust
    return any(module == package or module.startswith(f"{package}.") for package in packages)


class Registry(Mapping[str, Value], Generic[Value]):
    """What each name stands for: this package's own, and what others add in one of three ways.

    - An installed package names it in its entry points of the ``group``; it is imported when the name is asked for.
    - Code that runs before calls :meth:`register`.
    - Whoever runs the program trusts a path ``package.module:Name``, see :meth:`trust`; the path is then the name.

    Args:
        kind: what is in it, for messages, such as ``"network"``.
        group: of entry points.
        own: this package's, which nobody can replace.
    """

    def __init__(self, kind: str, group: str, own: Mapping[str, Value]) -> None:
        self.kind, self.group = kind, group
        self._values = dict(own)

    @cached_property
    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def __getitem__(self, name: str) -> Value:
        if name not in self._values:
            point = self._entry_points[name]
            self._values[name] = _imported(self.kind, f"{point.module}:{point.attr}")
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values or name in self._entry_points

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._values, *self._entry_points)))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def register(self, name: str) -> Callable[[Value], Value]:
        """A decorator that adds what it stands before; called on a value, ``register("mine")(value)``, it adds that.

        It imports nothing, so that it may also stand before what an entry point of that name leads to. Of a module that
        is run again, such as a cell of a notebook, it takes the new definition.

        Raises:
            ValueError: another one of that name is known already.
        """

        def add(value: Value) -> Value:
            if name in self._values and _origin(self._values[name]) != _origin(value):
                raise ValueError(f"there is a {self.kind} {name} already, expected another name")
            self._values[name] = value
            return value

        return add

    def trust(self, path: str) -> Value:
        """Import what the path ``package.module:Name`` leads to, which runs that module, and know it by this path.

        Raises:
            ValueError: it is no such path, leads to nothing, or the module raises an error.
        """
        if not is_path(path):
            raise ValueError(f"{self.kind} {path[:300]!r} is not a path such as package.module:Name")
        value: Value = _imported(self.kind, path)
        self._values[path] = value  # perhaps anew, of a module that was reloaded
        return value


def _origin(value: object) -> tuple[Any, Any]:
    """Where a class or function is defined; of other values, which one it is."""
    return getattr(value, "__module__", None), getattr(value, "__qualname__", id(value))


def _imported(kind: str, path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        return attrgetter(name)(import_module(module))
    except Exception as error:  # what a module raises as it runs can be anything
        reason = f"{type(error).__name__}: {error}"
        where = f"; expected {module} to be installed, or in a folder of PYTHONPATH"
        hint = where if isinstance(error, ModuleNotFoundError) else ""
        raise ValueError(f"{kind} {path} cannot be imported, {reason}{hint}") from error
