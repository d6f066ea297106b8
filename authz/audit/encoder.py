"""Encoder: records to JSON, fast: what is the same in two records of one caller is written once and remembered."""

from __future__ import annotations

from typing import Final

import orjson

from authz.audit.masking import Masking
from authz.audit.printable import utc
from authz.audit.record import Record

_REMEMBERED: Final = 4096
_OWN: Final = ("event", "id", "time", "trace_id", "span_id", "eval_us")
"""The fields that each record has for itself; the others depend on who asks what, and on the answer."""


class Encoder:
    """Makes the JSON objects of records. Thread-safe.

    A caller who does the same twice has two records that differ in their ids and times. Callers, rules and claims are
    known by identity, as everywhere in the corridor; what is remembered holds them, so that none is taken for another.

    Args:
        masking: what is left out or replaced.
    """

    def __init__(self, masking: Masking | None = None) -> None:
        self._masking = masking
        self._known: dict[tuple[object, ...], tuple[str, tuple[object, ...]]] = {}
        self._remembers = masking is None or not masking.hides(_OWN)

    def fields(self, record: Record) -> dict[str, object]:
        """The fields of ``record``, masked."""
        fields = record.fields()
        if self._masking is not None:
            principal = record.decision.principal
            self._masking.apply(fields, principal.prefix if principal else "")
        return fields

    def encode(self, record: Record) -> bytes:
        """The JSON object for ``record``: the same bytes as its masked fields give.

        Raises:
            Exception: the record is not what its types say.
        """
        decision, call = record.decision, record.call
        audit_id, trace, span = decision.audit_id, call.trace_id, call.span_id
        # what a stranger wrote is remembered if it is short, and put between quotes as it is if it needs no escape
        own = audit_id + trace + span
        usual = decision.shadow is None and call.enforced
        if not (usual and own.isalnum() and own.isascii() and self._remembers) or len(own) > 128:
            return orjson.dumps(self.fields(record))
        held = (decision.principal, decision.claims, decision.rule)
        key = (
            id(held[0]),
            id(held[1]),
            id(held[2]),
            decision.reason,
            id(decision.effect),
            decision.detail,
            decision.revision,
            call.method,
            call.namespaces,
            call.unreadable,
            call.message,
            call.peer,
            call.user_agent,
            record.access,
        )
        known = self._known.get(key)
        if known is None:
            known = self._remember(record, key, held)
        return (
            f'{{"event":"decision","id":"{audit_id}","time":"{utc(record.time_ns)}",{known[0]},"trace_id":"{trace}",'
            f'"span_id":"{span}","eval_us":{record.elapsed_ns // 1000}}}'
        ).encode()

    def _remember(
        self, record: Record, key: tuple[object, ...], held: tuple[object, ...]
    ) -> tuple[str, tuple[object, ...]]:
        fields = self.fields(record)
        for name in _OWN:
            del fields[name]
        text = orjson.dumps(fields)[1:-1].decode()
        known = (text, held)
        if len(record.call.method) < 1024 and len(record.call.user_agent) < 1024 and len(record.decision.detail) < 1024:
            if len(self._known) >= _REMEMBERED:
                self._known = {}
            self._known[key] = known
        return known
