"""Selection: which allows are recorded, and at which detail. Denials always are, whole."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from authz.audit.record import Record
from authz.decision.base import Effect
from authz.forked import renew_in_child

_REMEMBERED: Final = 10_000
_BRIEF: Final = (
    "roles", "claims_used", "request", "rule_chain", "reason_text", "user_agent", "cert_fp", "key_id", "span_id",
)  # fmt: skip


class Detail(StrEnum):
    """How an allow is recorded."""

    FULL = "full"
    BRIEF = "brief"
    """Who, what, where, by which rule; it cannot be replayed on another policy."""
    SAMPLED = "sampled"
    """One in so many, whole; the others are counted in the next checkpoint."""
    COUNTED = "counted"
    """Counted in the next checkpoint."""


@dataclass(frozen=True, slots=True)
class SelectionRule:
    """How some allows are recorded.

    Attributes:
        methods: patterns (``*``, ``?``) of gRPC full methods.
        detail: how.
        namespaces: patterns of namespaces, all of a call's must match one; empty: every call's do.
        one_in: for ``sampled``, how many calls have one record.
    """

    methods: tuple[str, ...]
    detail: Detail
    namespaces: tuple[str, ...] = ()
    one_in: int = 1


class Selection:
    """Some rules: the first that matches an allow says how it is recorded; if none does, whole. Thread-safe."""

    def __init__(self, rules: Sequence[SelectionRule]) -> None:
        self._rules = tuple(rules)
        self._by_method: dict[str, tuple[SelectionRule, ...]] = {}
        self._seen = dict.fromkeys(range(len(self._rules)), 0)
        self.renew_locks()
        renew_in_child(self)

    def detail(self, record: Record) -> Detail:
        """How ``record`` is to be recorded: FULL, BRIEF or COUNTED."""
        if record.decision.effect is not Effect.ALLOW:
            return Detail.FULL
        for rule in self._of(record.call.method):
            if rule.namespaces and not all(_any(rule.namespaces, name or "") for name in record.call.namespaces):
                continue
            if rule.detail is Detail.SAMPLED:
                return Detail.FULL if self._is_due(rule) else Detail.COUNTED
            return rule.detail
        return Detail.FULL

    def renew_locks(self) -> None:
        """See :class:`authz.forked.HasLocks`."""
        self._lock = threading.Lock()

    def _of(self, method: str) -> tuple[SelectionRule, ...]:
        found = self._by_method.get(method)
        if found is None:
            found = tuple(rule for rule in self._rules if _any(rule.methods, method))
            if len(self._by_method) < _REMEMBERED:
                self._by_method[method] = found
        return found

    def _is_due(self, rule: SelectionRule) -> bool:
        index = self._rules.index(rule)
        with self._lock:
            self._seen[index] += 1
            return self._seen[index] % rule.one_in == 1 or rule.one_in == 1


def shorten(fields: dict[str, object]) -> None:
    """Make a whole record a brief one, in place."""
    for name in _BRIEF:
        fields[name] = None
    fields["truncated"] = True


def _any(patterns: Sequence[str], text: str) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)
