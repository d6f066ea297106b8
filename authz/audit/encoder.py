"""Encoder: records to JSON, fast: what is the same in two records of one caller is written once and remembered."""

from __future__ import annotations

from binascii import unhexlify
from typing import Final

import orjson

from authz.audit.masking import Masking
from authz.audit.printable import utc
from authz.audit.record import Record
from authz.authn.memory import Memory

_REMEMBERED: Final = 4096
"""Each is some 2 KB, and holds a caller with its claims; the oldest is forgotten first."""
_OWN_LIMIT: Final = 128
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
        self._known: Memory[tuple[object, ...], tuple[str, tuple[object, ...]]] = Memory(_REMEMBERED)
        self._remembers = masking is None or not masking.hides(_OWN)

    def fields(self, record: Record) -> dict[str, object]:
        """The fields of ``record``, masked."""
        fields = record.fields()
        if self._masking is not None:
            principal = record.decision.principal
            self._masking.apply(fields, principal.prefix if principal else "")
        return fields

    def encode(self, record: Record) -> str:
        """The JSON object for ``record``, without its braces: the same text as its masked fields give.

        Raises:
            Exception: the record is not what its types say.
        """
        decision, call, time_ns, elapsed_ns, access = record
        # at once: taking them by name, one by one, takes longer than to look up what is remembered
        effect, reason, rule, revision, principal, claims, audit_id, detail, shadow = decision
        method, namespaces, unreadable, peer, agent, trace, span, message, enforced = call
        own = audit_id + trace + span
        try:
            # what a stranger wrote is put between quotes as it is if it needs no escape: hex digits do not
            unhexlify(own)
        except ValueError:
            return self._slowly(record)
        if shadow is not None or not enforced or not self._remembers or len(own) > _OWN_LIMIT:
            return self._slowly(record)
        key = (
            id(principal), id(claims), id(rule), reason, id(effect), detail, revision,
            method, namespaces, unreadable, message, peer, agent, access,
        )  # fmt: skip
        known = self._known.get(key)
        text = self._remember(record, key, (principal, claims, rule)) if known is None else known[0]
        return (
            f'"event":"decision","id":"{audit_id}","time":"{utc(time_ns)}",{text},"trace_id":"{trace}",'
            f'"span_id":"{span}","eval_us":{elapsed_ns // 1000}'
        )

    def _slowly(self, record: Record) -> str:
        return orjson.dumps(self.fields(record))[1:-1].decode()

    def _remember(self, record: Record, key: tuple[object, ...], held: tuple[object, ...]) -> str:
        fields = self.fields(record)
        for name in _OWN:
            del fields[name]
        text = orjson.dumps(fields)[1:-1].decode()
        call = record.call
        if len(call.method) < 1024 and len(call.user_agent) < 1024 and len(record.decision.detail) < 1024:
            self._known.put(key, (text, held))
        return text
