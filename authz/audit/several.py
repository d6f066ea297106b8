"""SeveralSinks: sinks that each take every record."""

from __future__ import annotations

from collections.abc import Sequence

from authz.audit.base import AuditSink, Entry
from authz.errors import AuditError


class SeveralSinks:
    """Gives each record to every sink, in their order. A record that one of them does not take is not recorded.

    A failing sink keeps no record from the others: a denial is wherever it can be.

    Args:
        sinks: where the records go.
    """

    def __init__(self, sinks: Sequence[AuditSink]) -> None:
        self._sinks = tuple(sinks)

    def write(self, record: Entry) -> None:
        """See :class:`authz.audit.base.AuditSink`."""
        failures: list[Exception] = []
        for sink in self._sinks:
            try:
                sink.write(record)
            except Exception as exc:
                failures.append(exc)
        if failures:
            raise AuditError(_told("took no record", failures)) from failures[0]

    @property
    def waits(self) -> bool:
        """Whether any of the sinks does."""
        return any(hasattr(sink, "write_async") and getattr(sink, "waits", True) for sink in self._sinks)

    async def write_async(self, record: Entry) -> None:
        """As :meth:`write`, with the sinks that know how to let an event loop go on."""
        failures: list[Exception] = []
        for sink in self._sinks:
            write_async = getattr(sink, "write_async", None)
            try:
                if write_async is None:
                    sink.write(record)
                else:
                    await write_async(record)
            except Exception as exc:
                failures.append(exc)
        if failures:
            raise AuditError(_told("took no record", failures)) from failures[0]

    def close(self) -> None:
        """Close every sink that has a ``close``, also after one could not be closed.

        Raises:
            AuditError: a sink could not be closed.
        """
        failures: list[Exception] = []
        for sink in self._sinks:
            close = getattr(sink, "close", None)
            try:
                if close is not None:
                    close()
            except Exception as exc:
                failures.append(exc)
        if failures:
            raise AuditError(_told("could not be closed", failures)) from failures[0]


def _told(what: str, failures: Sequence[Exception]) -> str:
    reasons = "; ".join(f"{type(failure).__name__}: {failure}" for failure in failures)
    return f"{len(failures)} of the audit sinks {what}: {reasons}"
