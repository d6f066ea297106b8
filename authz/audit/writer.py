"""FileSink: an append-only file of JSON lines, one for each decision."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import threading
from pathlib import Path

from authz.audit.record import Record
from authz.errors import AuditError


class FileSink:
    """Appends records to a file, each in the kernel when :meth:`write` returns: it survives the death of the process.

    One process writes to a file at a time (an exclusive lock says so). A record is written whole or not at all: what a
    full disk cut short is taken back.

    Args:
        path: the file; made with mode 0600 if it does not exist.

    Raises:
        AuditError: the file cannot be opened, or another process writes to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = secrets.token_hex(6)
        self._seq = 0
        self._lock = threading.Lock()
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise AuditError(f"the audit log {path} cannot be opened: {exc.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._start_on_a_fresh_line()
        except OSError as exc:
            os.close(self._fd)
            why = "another process writes to it" if isinstance(exc, BlockingIOError) else exc.strerror
            raise AuditError(f"the audit log {path} cannot be used: {why}") from None

    def _start_on_a_fresh_line(self) -> None:
        """After a crash the last line may be torn: keep it, as evidence, and do not write onto its end."""
        size = os.fstat(self._fd).st_size
        with self.path.open("rb") as file:
            file.seek(max(size - 1, 0))
            if file.read(1) not in (b"", b"\n"):
                os.write(self._fd, b"\n")

    def write(self, record: Record) -> None:
        """Append ``record``. See :class:`authz.audit.base.AuditSink`."""
        with self._lock:
            if self._fd < 0:
                raise AuditError(f"the audit log {self.path} is closed")
            # a number is used up by the attempt, so that a record that was lost leaves a gap
            self._seq += 1
            line = record.to_json(self._seq, self.writer)
            try:
                written = os.write(self._fd, line)
            except OSError as exc:
                raise AuditError(f"the audit log {self.path} cannot be written: {exc.strerror}") from None
            if written != len(line):
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
                raise AuditError(f"the audit log {self.path} took {written} of {len(line)} bytes")

    def close(self) -> None:
        """Close the file. Writing to a closed sink is an AuditError."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> FileSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
