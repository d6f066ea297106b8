"""EndingAuthorizer: a compiled policy whose rules end by themselves, each at its moment.

A rule that has ended keeps its place in the index and loses its effect. Whatever was remembered until then is forgotten
with it, so that no answer outlives the rule that gave it; and a clock that is set right brings back what a wrong one
had ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from authz.call import Call
from authz.claims.base import Claims
from authz.decision.base import Verdict
from authz.decision.compiled import CompiledAuthorizer
from authz.decision.rules import NEITHER
from authz.forked import renew_in_child
from authz.policy.revision import Revision


class EndingAuthorizer(CompiledAuthorizer):
    """Decides as :class:`CompiledAuthorizer`, and looks at the clock first.

    Args:
        revision: what to decide by.
        clock: now, in seconds since the epoch.

    Raises:
        NotCompilable: some part of the matcher can only be evaluated by Casbin.
        PolicyError: the revision's model cannot be evaluated at all.
    """

    def __init__(self, revision: Revision, clock: Callable[[], float] = time.time) -> None:
        super().__init__(revision)
        self._clock = clock
        self.renew_locks()
        renew_in_child(self)
        self._effects = self._index.effects
        self._ends = sorted((end, rule) for rule, end in self._index.ends.items())
        self._since, self._until = float("-inf"), self._ends[0][0] if self._ends else float("inf")

    def authorize(self, claims: Claims, call: Call) -> Verdict:
        """Whether the caller with ``claims`` may make ``call`` now, in every namespace that it names.

        Raises:
            EvaluationError: it could not be decided.
        """
        now = self._clock()
        if not self._since <= now < self._until:
            self._turn(now)
        return super().authorize(claims, call)

    def renew_locks(self) -> None:
        """See :class:`authz.forked.HasLocks`."""
        self._turning = threading.Lock()

    def _turn(self, now: float) -> None:
        with self._turning:
            if self._since <= now < self._until:
                return
            # From the beginning each time: a clock that is set back gives back what it had taken too early.
            effects = bytearray(self._effects)
            since, until = float("-inf"), float("inf")
            for end, rule in self._ends:
                if now < end:
                    until = end
                    break
                since, effects[rule] = end, NEITHER
            # The effects first: whoever begins to remember anew must decide by them. Who is deciding by the old ones
            # remembers it where nobody looks again.
            self._index.effects = bytes(effects)
            self._forget()
            self._since, self._until = since, until
