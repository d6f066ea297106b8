"""Memory: a bounded dictionary that forgets its oldest entries; reading it takes no lock."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from authz.forked import renew_in_child

K = TypeVar("K")
V = TypeVar("V")


class Memory(Generic[K, V]):
    """Remembers at most ``limit`` entries. Thread-safe.

    Attributes:
        stored: how many entries were ever put here: what was not found, and had to be worked out.

    Oldest first is what it forgets, whether or not an entry was read lately: keeping count of readings would cost every
    reader more than it costs one of them to work an entry out again.
    """

    __slots__ = ("__weakref__", "_entries", "_limit", "_lock", "get", "stored")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError("a memory holds at least one entry")
        self._limit = limit
        self.stored = 0
        self._entries: dict[K, V] = {}
        self.renew_locks()
        renew_in_child(self)
        # The dictionary's own method: one call, and atomic.
        self.get = self._entries.get

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: K, value: V) -> None:
        """Remember ``value`` for ``key`` as the newest entry."""
        with self._lock:
            self.stored += 1
            self._entries.pop(key, None)
            while len(self._entries) >= self._limit:
                del self._entries[next(iter(self._entries))]
            self._entries[key] = value

    def renew_locks(self) -> None:
        """See :class:`authz.forked.HasLocks`."""
        self._lock = threading.Lock()
