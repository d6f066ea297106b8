"""QueuedLog: for those to whom a fast answer is worth more than its record: a bounded queue before an audit log."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import Final

from authz.audit.base import Entry
from authz.audit.writer import AuditLog
from authz.errors import AuditError
from authz.forked import renew_in_child

_CAUSE: Final = "the queue was full"


class QueuedLog:
    """Hands entries to a thread that writes them. What does not fit into the queue is dropped, and counted in the log.

    What a killed process had in its queue is lost without a trace: use it only where that is acceptable.

    Args:
        log: where they are written.
        limit: the most entries that wait.
    """

    def __init__(self, log: AuditLog, limit: int) -> None:
        self._log = log
        self._limit = limit
        self._closed = False
        self.renew_locks()
        renew_in_child(self)
        self._start()

    def renew_locks(self) -> None:
        """See :class:`authz.forked.HasLocks`. What is in the queue is the parent's to write."""
        self._queue: deque[Entry] = deque()
        self._dropped = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="authz-audit-queue", daemon=True)
        thread.start()
        self._thread = thread

    def write(self, record: Entry) -> None:
        """Put an entry into the queue, or drop and count it."""
        if self._closed:
            raise AuditError(f"the audit log {self._log.path} is closed")
        with self._lock:
            if self._thread is None:
                self._start()
            if len(self._queue) >= self._limit:
                self._dropped += 1
                return
            self._queue.append(record)
        self._wake.set()

    def close(self) -> None:
        """Write what is in the queue, and close the log."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(10)
        self._log.close()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while True:
                with self._lock:
                    dropped, self._dropped = self._dropped, 0
                    entry = self._queue.popleft() if self._queue else None
                if dropped:
                    self._log.lose(dropped, _CAUSE)
                if entry is None:
                    break
                # the log has counted it as lost, and said so
                with contextlib.suppress(AuditError):
                    self._log.write(entry)
            if self._closed:
                return
