"""AuditSink: where records go."""

from __future__ import annotations

from typing import Protocol

from authz.audit.record import Record


class AuditSink(Protocol):
    """Takes records. Thread-safe, no network I/O."""

    def write(self, record: Record) -> None:
        """Take one record; on return it is as durable as the sink promises.

        Raises:
            AuditError: the record is not in the log.
        """
        ...
