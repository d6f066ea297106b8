"""An audit sink: records and events on the standard output, for a platform that collects what its processes print."""

from __future__ import annotations

import os
import secrets
import threading

from authz.audit.base import Entry
from authz.document import Section
from authz.errors import AuditError


class Console:
    """Writes each entry as one line to a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._writer = secrets.token_hex(6)
        self._seq = 0
        self._lock = threading.Lock()

    def write(self, record: Entry) -> None:
        """See :class:`authz.AuditSink`."""
        with self._lock:
            self._seq += 1
            line = record.to_json(self._seq, self._writer)
            try:
                written = os.write(self._descriptor, line)
            except OSError as exc:
                raise AuditError(f"the console took no record: {exc.strerror}") from None
            if written != len(line):
                raise AuditError(f"the console took {written} of {len(line)} bytes")


def make(options: Section) -> Console:
    """The entry point: ``options: {stream: stdout}`` or ``stderr``."""
    return Console({"stdout": 1, "stderr": 2}[options.choice("stream", ["stdout", "stderr"], "stdout")])
