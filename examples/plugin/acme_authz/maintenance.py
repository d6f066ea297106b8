"""An authorizer: while maintenance is under way, only those who do it may call."""

from __future__ import annotations

import time
from collections.abc import Callable

from authz.call import Call
from authz.claims.base import Claims
from authz.decision.base import Effect, Rule, Verdict
from authz.document import Section
from authz.errors import Place
from authz.reason import Reason

# verdicts hold nothing of the caller, so they are made once and shared
CLOSED = Verdict(Effect.DENY, Reason.DENIED_BY_RULE, Rule("maintenance is under way", Place("acme-maintenance")))
NO_OPINION = Verdict(Effect.NO_OPINION, Reason.NO_RULE)


class Maintenance:
    """Denies everyone without a system-wide role, from one hour of the day (UTC) to another; else it has no opinion.

    Args:
        begins, ends: hours, 0 to 24.
        role: who may call all the same.
        clock: seconds since the epoch.
    """

    def __init__(self, begins: int, ends: int, role: str, clock: Callable[[], float] = time.time) -> None:
        self._begins = begins
        self._ends = ends
        self._role = role
        self._clock = clock

    def authorize(self, claims: Claims, call: Call) -> Verdict:
        """See :class:`authz.Authorizer`."""
        hour = int(self._clock()) // 3600 % 24
        if self._begins <= hour < self._ends and self._role not in claims.system:
            return CLOSED
        return NO_OPINION


def make(options: Section) -> Maintenance:
    """The entry point: ``options: {begins: 2, ends: 4, role: operator}``."""
    begins = options.integer("begins", least=0, most=23)
    ends = options.integer("ends", least=1, most=24)
    if begins >= ends:
        raise options.refuse("ends", f"maintenance cannot end at {ends} if it begins at {begins}", "end it later")
    return Maintenance(begins, ends, options.text("role"))
