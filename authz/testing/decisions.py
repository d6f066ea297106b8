"""Decisions: an audit sink that a test asks what was decided. RecordingSink: one that keeps its records."""

from __future__ import annotations

import json
from typing import Any

from authz.audit.base import Entry
from authz.audit.record import Record
from authz.decision.base import Decision
from authz.reason import Reason


class RecordingSink:
    """An audit sink that keeps its records in a list, as the objects that a log would hold as lines.

    Attributes:
        records: one dictionary for each decision, oldest first.
        events: one for each event of the system itself.
        fail: set it to an exception, and every further write raises that.
    """

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.fail: Exception | None = None

    def write(self, record: Entry) -> None:
        """Keep ``record``."""
        if self.fail is not None:
            raise self.fail
        kept = self.records if isinstance(record, Record) else self.events
        kept.append(json.loads(record.to_json(len(self.records) + len(self.events) + 1, "test")))


class Decisions(RecordingSink):
    """What was decided, oldest first, with assertions about the last decision.

    A decision is here before the caller has its answer.

    Attributes:
        all: the decisions.
        records: the same as the log would hold them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Decision] = []

    def write(self, record: Entry) -> None:
        """Keep ``record`` and its decision."""
        super().write(record)
        if isinstance(record, Record):
            self.all.append(record.decision)

    @property
    def last(self) -> Decision:
        """The last decision.

        Raises:
            AssertionError: nothing was decided.
        """
        assert self.all, "nothing was decided: no call came as far as the engine"
        return self.all[-1]

    def clear(self) -> None:
        """Forget what was decided."""
        self.all.clear()
        self.records.clear()

    def assert_allowed(self, *, rule: str | None = None) -> Decision:
        """The last decision, which must be an allow.

        Args:
            rule: text of the rule that must have allowed it, e.g. ``p, role:reader, *, *, read, allow``.

        Raises:
            AssertionError: telling what was decided, and why.
        """
        decision = self.last
        assert decision, f"expected an allow, but {self._told()}"
        self._assert_rule(rule)
        return decision

    def assert_denied(self, *, reason: Reason | str | None = None, rule: str | None = None) -> Decision:
        """The last decision, which must not be an allow.

        Args:
            reason: its reason, e.g. ``"no_rule"``.
            rule: text of the rule that must have denied it.

        Raises:
            AssertionError: telling what was decided, and why.
        """
        decision = self.last
        # a reason that does not exist is a mistake in the test, and would never be found
        assert reason is None or reason in list(Reason), f"there is no reason `{reason}`"
        assert not decision, f"expected a denial, but {self._told()}"
        assert reason is None or decision.reason == reason, f"expected {reason}, but {self._told()}"
        self._assert_rule(rule)
        return decision

    def _assert_rule(self, rule: str | None) -> None:
        found = self.last.rule.text if self.last.rule else None
        assert rule is None or found == rule, f"expected the rule `{rule}`, but {self._told()}"

    def _told(self) -> str:
        record, rule = self.records[-1], self.last.rule
        caller = record["sub"] or "a caller who is not proven"
        where = ", ".join(str(name) for name in record["namespaces"]) or "no namespace"
        by = f"by `{rule.text}` ({rule})" if rule else self.last.detail or "by no rule"
        return f"{caller} calling {record['method']} in {where} was answered {self.last.reason}: {by}"
