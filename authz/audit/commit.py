"""GroupCommit: calls that wait for the disk at the same time share one sync."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from authz.errors import AuditError

_LOST_REMEMBERED: Final = 1000


class GroupCommit:
    """Makes what was appended last. Thread-safe.

    Whoever finds no sync under way does it, for everyone who has appended by then; the others wait for that. On an
    event loop a thread does it, and the loop goes on.

    Args:
        sync: syncs the file, and returns how many appends (counted from 1) are on the disk now.
        failed: told of a sync that failed; returns the number of the last append by then.
    """

    def __init__(self, sync: Callable[[], int], failed: Callable[[OSError], int]) -> None:
        self._sync = sync
        self._failed = failed
        self._changed = threading.Condition()
        self._done = 0
        self._syncing = False
        # a kernel that could not write pages forgets them: a later sync that succeeds says nothing of them
        self._lost: deque[tuple[int, int]] = deque(maxlen=_LOST_REMEMBERED)
        self._waiting: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._thread: ThreadPoolExecutor | None = None

    def wait(self, ticket: int) -> None:
        """Return when append number ``ticket`` is on the disk.

        Raises:
            AuditError: it may not be: the sync failed.
        """
        changed = self._changed
        with changed:
            while self._done < ticket:
                if self._syncing:
                    changed.wait()
                    continue
                self._syncing = True
                changed.release()
                try:
                    done = self._once()
                finally:
                    changed.acquire()
                    self._finish(done)
        self._check(ticket)

    async def wait_async(self, ticket: int) -> None:
        """As :meth:`wait`, without holding up the event loop."""
        if self._done < ticket:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()
            with self._changed:
                self._waiting.append((ticket, loop, future))
                if len(self._waiting) == 1:
                    if self._thread is None:
                        self._thread = ThreadPoolExecutor(1, "authz-audit-commit")
                    self._thread.submit(self._drain)
            await future
        self._check(ticket)

    def close(self) -> None:
        """Stop the thread, when nobody waits any more."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _once(self) -> int:
        """Sync; how many appends are settled then, for better or worse."""
        try:
            return self._sync()
        except OSError as exc:
            last = self._failed(exc)
            self._lost.append((self._done, last))
            return last

    def _finish(self, done: int) -> None:
        self._syncing = False
        self._done = max(self._done, done)
        self._changed.notify_all()

    def _check(self, ticket: int) -> None:
        if self._lost and any(after < ticket <= last for after, last in self._lost):
            raise AuditError("the audit log cannot be synced: the record may not be on the disk")

    def _drain(self) -> None:
        """On the thread: sync until no coroutine waits."""
        while True:
            with self._changed:
                while self._syncing:
                    self._changed.wait()
                if not self._waiting:
                    return
                self._syncing = True
            done = self._once()
            with self._changed:
                self._finish(done)
                ready = [each for each in self._waiting if each[0] <= self._done]
                self._waiting = [each for each in self._waiting if each[0] > self._done]
                empty = not self._waiting
            loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
            for _, loop, future in ready:
                loops.setdefault(loop, []).append(future)
            for loop, futures in loops.items():
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_resolve, futures)
            if empty:
                return


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
