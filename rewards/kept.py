"""A memory of what was encoded last."""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Any


class Kept:
    """What was used last, up to `capacity` vectors in all."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._size = 0
        self._entries: OrderedDict[tuple[str, Hashable], tuple[Any, int]] = OrderedDict()

    def look_up(self, kind: str, names: Iterable[Any]) -> tuple[dict[Any, Any], list[Any]]:
        """What is kept of the distinct names, by name, and the names that are not."""
        found: dict[Any, Any] = {}
        missing: list[Any] = []
        for name in dict.fromkeys(names):
            entry = self._entries.get((kind, name))
            if entry is None:
                missing.append(name)
                continue
            self._entries.move_to_end((kind, name))
            found[name] = entry[0]
        return found, missing

    def put(self, kind: str, name: Hashable, value: Any, size: int = 1) -> None:
        """Keeps a value, which is `size` vectors and was missing; the ones used longest ago make room."""
        self._entries[kind, name] = value, size
        self._size += size
        while self._size > self._capacity:
            _, (_, freed) = self._entries.popitem(last=False)
            self._size -= freed
