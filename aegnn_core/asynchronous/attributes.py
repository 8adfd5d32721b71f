# SPDX-License-Identifier: Apache-2.0
"""What modules hold beside their weights and children, and which of it has changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Final

import numpy as np
from torch import Tensor, nn

from aegnn_core.asynchronous.torch_internals import weight_tables

__all__ = ["GONE", "Attributes", "is_code", "unregistered"]

#: In place of the value of an attribute that is not there any more.
GONE: Final = object()
#: Attributes that every module has for itself, and ``module.compile()``, which changes no answer.
_OWN = frozenset((*vars(nn.Module()), "_compiled_call_impl"))
_PLAIN = (bool, int, float, complex, str, bytes)
#: Entries of a list, dictionary or set, those within it too, that are looked at one by one.
_MOST_ENTRIES = 1_000


def _snapshot(value: Any) -> Any:
    """The value; of a list, dictionary, set or tuple a copy that has the same entries, however deep."""
    return _copied(value) if _entries(value) <= _MOST_ENTRIES else value


def _copied(value: Any) -> Any:
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(map(_copied, value))
    if isinstance(value, dict):
        copied = value.copy()
        copied.update((name, _copied(entry)) for name, entry in value.items())
        return copied
    return value


def _entries(value: Any, deep: int = 0) -> int:
    """Number of entries, or more than :data:`_MOST_ENTRIES`, also where a list is in itself."""
    if deep > 8:
        return _MOST_ENTRIES + 1
    if type(value) in (list, tuple, set, frozenset):
        entries: Any = value
    elif isinstance(value, dict):
        entries = value.values()
    else:
        return 1
    count = len(entries)
    for entry in entries:
        if count > _MOST_ENTRIES:
            break
        count += _entries(entry, deep + 1)
    return count


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one object, equal numbers or texts, or collections of the same values."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, _PLAIN):
        return bool(one == other)
    if type(one) in (list, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return len(one) == len(other) and all(name in other and _same(one[name], other[name]) for name in one)
    if type(one) in (set, frozenset):
        return bool(one == other)
    return False


def is_code(value: Any) -> bool:
    """Whether a value is a function, a class, a module or another object that can be called, or has one among it."""
    if type(value) in (list, tuple, set, frozenset):
        return any(map(is_code, value))
    if isinstance(value, dict):
        return any(map(is_code, value.values()))
    return callable(value)


def unregistered(module: nn.Module) -> list[Any]:
    """What attributes of a module hold that can be written to, and that torch knows nothing of.

    Tensors and arrays, also those in collections, and the dictionaries of the weights of modules in collections.
    """
    found: list[Any] = []
    for value in _leaves([value for name, value in vars(module).items() if name not in _OWN]):
        if isinstance(value, (Tensor, np.ndarray)):
            found.append(value)
        elif isinstance(value, nn.Module):
            found += [table for part in value.modules() for table in weight_tables(part)]
    return found


def _leaves(value: Any) -> Iterator[Any]:
    if _entries(value) > _MOST_ENTRIES or not isinstance(value, (list, tuple, set, frozenset, dict)):
        yield value
        return
    for entry in value.values() if isinstance(value, dict) else value:
        yield from _leaves(entry)


class Attributes:
    """The attributes that have been set on modules, and which of them are not as they were.

    Collections of up to 1,000 entries are looked into. Another object that is changed in place is not noticed.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._tables = [vars(module) for module in modules]
        self._seen = [
            {name: _snapshot(value) for name, value in table.items() if name not in _OWN} for table in self._tables
        ]
        self._remember()

    def _remember(self) -> None:
        # The first name twice, so that there are always two or more, of which a tuple comes back.
        self._getters = [
            (itemgetter(next(iter(seen)), *seen), table)
            for table, seen in zip(self._tables, self._seen, strict=True)
            if seen
        ]
        self._collections = [
            (table, name, seen[name])
            for table, seen in zip(self._tables, self._seen, strict=True)
            for name in seen
            if isinstance(seen[name], (list, dict, set))
        ]
        self._glance = self._look()

    def _look(self) -> list[Any]:
        """What is another if an attribute is another object; what was seen is kept, so that no number comes again.

        It is looked at in every update and output, so each microsecond counts.
        """
        try:
            values = [values_of(table) for values_of, table in self._getters]
        except KeyError:  # one is gone
            return []
        return [*map(id, chain.from_iterable(values)), *map(len, self._tables)]

    def changes(self) -> list[tuple[int, str, Any, Any]]:
        """Number of the module, name, value before and value now of all that is not as it was; for none, :data:`GONE`.

        It stays so until :meth:`put` or :meth:`restore`.
        """
        if self._look() == self._glance and all(_same(table[name], seen) for table, name, seen in self._collections):
            return []
        changed = []
        for n, (table, seen) in enumerate(zip(self._tables, self._seen, strict=True)):
            for name in {**seen, **table}:
                before, now = seen.get(name, GONE), table.get(name, GONE)
                if name not in _OWN and not _same(before, now):
                    changed.append((n, name, before, now))
        if not changed:  # another object of the same value
            self._glance = self._look()
        return changed

    def put(self, n: int, name: str, value: Any) -> None:
        """Set an attribute, or remove it: that is how it is from now on."""
        for table in (self._tables[n], self._seen[n]):
            if value is GONE:
                table.pop(name, None)
            elif table.get(name, GONE) is not value:
                table[name] = _snapshot(value)
        self._remember()

    def restore(self) -> None:
        """Take back all changes."""
        for n, name, before, _ in self.changes():
            self.put(n, name, before)
