"""Memory: a dictionary that never grows beyond a bound, and that is read without a lock."""

from __future__ import annotations

import threading
from typing import Final, Generic, TypeVar

from authz.forked import renew_in_child

_AT_A_TIME: Final = 8

K = TypeVar("K")
V = TypeVar("V")


class Memory(Generic[K, V]):
    """Two generations of at most ``limit`` entries each: when the young one is full, it becomes the former one.

    Whatever is used in the meantime is carried over, so that a burst of what is asked once does not push out what is
    asked all the time. A generation that is given up is taken apart a few entries at a time, so that no single call
    pays for it.

    Attributes:
        young: the entries to look into first, with a plain ``get``. Replaced as a whole: do not hold on to it.
        former: what is carried over from by :meth:`recall`, if it is not empty.
    """

    __slots__ = ("__weakref__", "_before", "_given_up", "_limit", "_lock", "former", "young")

    def __init__(self, limit: int) -> None:
        self.young: dict[K, V] = {}
        self.former: dict[K, V] = {}
        self._given_up: dict[K, V] = {}
        self._limit = limit
        self._before = 0
        self.renew_locks()
        renew_in_child(self)

    def __len__(self) -> int:
        return len(self.young) + len(self.former) + len(self._given_up)

    @property
    def stored(self) -> int:
        """How many entries were ever kept: what was not found, and had to be worked out."""
        with self._lock:
            return self._before + len(self.young)

    def recall(self, key: K) -> V | None:
        """What is kept for ``key``."""
        value = self.young.get(key)
        if value is None and self.former:
            value = self.former.get(key)
            if value is not None:
                with self._lock:
                    self._before -= key not in self.young
                    self._put(key, value)
        return value

    def keep(self, key: K, value: V) -> None:
        """Keep ``value`` for ``key``, for a while."""
        young = self.young
        if len(young) < self._limit and not self._given_up:
            # One step, so no lock: at worst, it goes into what has become the former generation just now.
            young[key] = value
        else:
            with self._lock:
                self._put(key, value)

    def renew_locks(self) -> None:
        """See :class:`authz.forked.HasLocks`."""
        self._lock = threading.Lock()

    def _put(self, key: K, value: V) -> None:
        if len(self.young) >= self._limit:
            self._before += len(self.young)
            self._given_up = self.former
            self.former = self.young
            self.young = {}
        self.young[key] = value
        if self._given_up:
            for _ in range(min(_AT_A_TIME, len(self._given_up))):
                self._given_up.popitem()
