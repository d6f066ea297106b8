"""AuditSink: where entries go: the records of decisions, and the events of the system itself."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from authz.audit.event import Event
from authz.audit.record import Record

Entry: TypeAlias = Record | Event
"""What a log holds: each has ``fields()``, a flat mapping of names to what JSON can say."""


class AuditSink(Protocol):
    """Takes entries. Thread-safe, no network I/O.

    A sink may have two more methods, which the engine uses if they are there: ``close()``, and
    ``async write_async(entry)``, which does the same as ``write`` and lets an event loop go on while it waits. One that
    has it and will not wait says so by an attribute ``waits`` that is false: then ``write`` is called everywhere.
    """

    def write(self, record: Entry) -> None:
        """Take one entry; on return it is as durable as the sink promises.

        Raises:
            AuditError: the entry is not in the log.
        """
        ...
