"""GroupCommit: calls that wait for the disk at the same time share one sync."""

from __future__ import annotations

import asyncio
import contextlib
import threading
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
        sync: syncs the file, and returns how many appends (counted from 1) are settled now: they are on the disk, or
            were given up.
    """

    def __init__(self, sync: Callable[[], int]) -> None:
        self._sync = sync
        self._changed = threading.Condition()
        self._done = 0
        self._syncing = False
        # a kernel that could not write pages forgets them: a later sync that succeeds says nothing of them
        self._lost: tuple[tuple[int, int], ...] = ()
        self._waiters: _Waiters | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._closed = False

    def wait(self, ticket: int) -> None:
        """Return when append number ``ticket`` is on the disk.

        Raises:
            AuditError: it may not be: the sync failed.
        """
        self.reach(ticket)
        self._check(ticket)

    async def wait_async(self, ticket: int) -> None:
        """As :meth:`wait`, without holding up the event loop."""
        if self._done < ticket:
            loop = asyncio.get_running_loop()
            waiters = self._waiters
            # a second loop at the same time has waiters of its own, and shares no sync with the first
            if waiters is None or waiters.loop is not loop:
                waiters = self._waiters = _Waiters(self, loop)
            await waiters.add(ticket)
        self._check(ticket)

    def give_up(self, after: int, last: int) -> None:
        """Tell nobody that the appends after number ``after`` up to ``last`` are on the disk: a sync failed.

        To be called by one thread at a time, before that sync returns.
        """
        self._lost = (*self._lost[1 - _LOST_REMEMBERED :], (after, last))

    def close(self) -> None:
        """Stop the thread, when what it was given is done."""
        with self._changed:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown()

    def beside(self, work: Callable[[], None]) -> None:
        """Do ``work``, which waits for the disk, on the thread; at once where there can be none any more."""
        with self._changed:
            if not self._closed:
                if self._thread is None:
                    self._thread = ThreadPoolExecutor(1, "authz-audit-commit")
                # the process may be ending, or may have no room for a thread
                with contextlib.suppress(RuntimeError):
                    self._thread.submit(work)
                    return
        work()

    def reach(self, ticket: int) -> None:
        """Sync, or wait for who does, until append number ``ticket`` is settled, for better or worse."""
        changed = self._changed
        with changed:
            while self._done < ticket:
                if self._syncing:
                    changed.wait()
                    continue
                self._syncing = True
                done = 0
                changed.release()
                try:
                    done = self._sync()
                finally:
                    changed.acquire()
                    self._syncing = False
                    self._done = max(self._done, done)
                    changed.notify_all()

    def _check(self, ticket: int) -> None:
        if self._lost and any(after < ticket <= last for after, last in self._lost):
            raise AuditError("the audit log cannot be synced: the record may not be on the disk")


class _Waiters:
    """The coroutines of one event loop that wait. Used on that loop alone.

    A sync begins when everybody who could run has run, and has appended what there was to append: many small syncs
    would cost the loop more than they save anybody.
    """

    def __init__(self, commit: GroupCommit, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._commit = commit
        self._waiting: list[asyncio.Future[None]] = []
        self._ticket = 0
        self._busy = False

    def add(self, ticket: int) -> asyncio.Future[None]:
        """What is done when append number ``ticket`` is settled."""
        future: asyncio.Future[None] = self.loop.create_future()
        self._waiting.append(future)
        self._ticket = max(self._ticket, ticket)
        if not self._busy:
            self._busy = True
            self.loop.call_soon(self._begin)
        return future

    def _begin(self) -> None:
        batch, self._waiting, ticket = self._waiting, [], self._ticket
        self._commit.beside(lambda: self._settle(batch, ticket))

    def _settle(self, batch: list[asyncio.Future[None]], ticket: int) -> None:
        """On the thread."""
        failure: BaseException | None = None
        try:
            self._commit.reach(ticket)
        except BaseException as exc:
            failure = exc
        # a loop that has ended has nobody who waits
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._end, batch, failure)

    def _end(self, batch: list[asyncio.Future[None]], failure: BaseException | None) -> None:
        for future in batch:
            if future.done():
                continue
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)
        self._busy = bool(self._waiting)
        if self._busy:
            self.loop.call_soon(self._begin)
