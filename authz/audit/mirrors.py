"""Mirrors: the lines of a log, sent to further places by a thread. None of them ever makes a call wait.

What a mirror cannot take is dropped and counted; the next batch that gets through says how many. The log itself is
whole without them.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from authz.forked import renew_in_child

_log = logging.getLogger("authz")
_BATCH: Final = 500
_TIMEOUT_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.2
_RETRY_SECONDS: Final = 5.0
_QUIET_SECONDS: Final = 60.0


class QueuedMirror(ABC):
    """What all mirrors have in common: a bounded queue, and a thread that sends from it in batches.

    Args:
        limit: the most lines that wait; more are dropped.

    Attributes:
        dropped: how many lines were dropped so far.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._complained = -_QUIET_SECONDS
        self.renew_locks()
        renew_in_child(self)
        self._start()

    def renew_locks(self) -> None:
        """See :class:`authz.forked.HasLocks`. What is queued and what was dropped is for the parent to tell."""
        self.dropped = self._told = 0
        self._queue: deque[bytes] = deque()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"authz-{type(self).__name__}", daemon=True)
        thread.start()
        self._thread = thread

    def offer(self, line: bytes) -> None:
        """Take a line, or drop and count it. Returns at once."""
        if self._thread is None:
            # without room for a thread, what does not fit into the queue is dropped as ever
            with contextlib.suppress(RuntimeError):
                self._start()
        if len(self._queue) >= self._limit:
            self.dropped += 1
        else:
            self._queue.append(line)

    def close(self) -> None:
        """Send what is left, within a moment, and stop."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_TIMEOUT_SECONDS)

    def _run(self) -> None:
        while True:
            stopping = self._stop.is_set()
            batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
            if not batch:
                if stopping:
                    return
                self._stop.wait(_PAUSE_SECONDS)
                continue
            try:
                self.send(batch, self.dropped - self._told)
                self._told = self.dropped
            except Exception as exc:
                self._complain(exc)
                if stopping:
                    self.dropped += len(batch) + len(self._queue)
                    return
                # what there is room for is tried again, in its order
                kept = batch[: max(0, self._limit - len(self._queue))]
                self.dropped += len(batch) - len(kept)
                self._queue.extendleft(reversed(kept))
                self._stop.wait(_RETRY_SECONDS)

    def _complain(self, failure: Exception) -> None:
        now = time.monotonic()
        if now - self._complained >= _QUIET_SECONDS:
            self._complained = now
            _log.warning(
                "%s does not get through, %d lines dropped so far: %s: %s (said at most once a minute)",
                type(self).__name__, self.dropped, type(failure).__name__, failure,
            )  # fmt: skip

    @abstractmethod
    def send(self, lines: list[bytes], dropped: int) -> None:
        """Send some lines, in order, and how many were dropped before them."""


def _note(dropped: int) -> bytes:
    return orjson.dumps({"event": "mirror.dropped", "count": dropped}) + b"\n"


class FileMirror(QueuedMirror):
    """Appends to a file, best on another disk."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        super().__init__(limit)

    def send(self, lines: list[bytes], dropped: int) -> None:
        """Append the lines."""
        with self._path.open("ab") as file:
            file.write((_note(dropped) if dropped else b"") + b"".join(lines))


class SyslogMirror(QueuedMirror):
    """Sends each line to syslog, as facility authpriv, severity info: a socket's path, or ``host:port`` for UDP."""

    _PRIORITY: Final = 10 * 8 + 6

    def __init__(self, address: str, limit: int) -> None:
        self._address = address
        super().__init__(limit)

    def send(self, lines: list[bytes], dropped: int) -> None:
        """Send the lines, one datagram each."""
        if self._address.startswith("/"):
            family, target = socket.AF_UNIX, self._address
        else:
            host, _, port = self._address.rpartition(":")
            family, *_, target = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]  # type: ignore[assignment]
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.settimeout(_TIMEOUT_SECONDS)
            sender.connect(target)
            for line in [_note(dropped), *lines] if dropped else lines:
                sender.send(b"<%d>authz: %s" % (self._PRIORITY, line.rstrip(b"\n")))


class HttpMirror(QueuedMirror):
    """Posts batches of lines (``application/x-ndjson``) to an address. A batch counts as taken with a status of 2xx."""

    def __init__(self, url: str, limit: int) -> None:
        self._url = urlsplit(url)
        super().__init__(limit)

    def send(self, lines: list[bytes], dropped: int) -> None:
        """Post the lines."""
        host = self._url.netloc
        connection = (
            http.client.HTTPSConnection(host, timeout=_TIMEOUT_SECONDS, context=ssl.create_default_context())
            if self._url.scheme == "https"
            else http.client.HTTPConnection(host, timeout=_TIMEOUT_SECONDS)
        )
        target = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        headers = {"Content-Type": "application/x-ndjson", "X-Authz-Dropped": str(dropped)}
        try:
            connection.request("POST", target, b"".join(lines), headers)
            status = connection.getresponse().status
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise OSError(f"the address answered {status}")


class OpenTelemetryMirror(QueuedMirror):
    """Emits each line as an OpenTelemetry log record, through the logger provider that the application has set.

    Needs the application's own ``opentelemetry-api``; its SDK decides where the records go.
    """

    def __init__(self, limit: int, logger: Any = None) -> None:
        if logger is None:
            from opentelemetry._logs import get_logger

            from authz.audit.otel import SCOPE

            logger = get_logger(SCOPE)
        self._logger = logger
        super().__init__(limit)

    def send(self, lines: list[bytes], dropped: int) -> None:
        """Emit the lines."""
        from authz.audit.otel import log_record

        for line in [_note(dropped), *lines] if dropped else lines:
            self._logger.emit(log_record(line))
