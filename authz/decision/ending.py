"""EndingAuthorizer: a compiled policy whose rules end by themselves, each at its moment.

A rule that has ended keeps its place in the index and loses its effect. Whatever was remembered until then is forgotten
with it, so that no answer outlives the rule that gave it.
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
        self._ending = threading.Lock()
        # the next to end is the last
        self._left = sorted(((end, rule) for rule, end in self._index.ends.items()), reverse=True)
        self._next = self._left[-1][0] if self._left else float("inf")

    def authorize(self, claims: Claims, call: Call) -> Verdict:
        """Whether the caller with ``claims`` may make ``call`` now, in every namespace that it names.

        Raises:
            EvaluationError: it could not be decided.
        """
        now = self._clock()
        if now >= self._next:
            self._end(now)
        return super().authorize(claims, call)

    def _end(self, now: float) -> None:
        with self._ending:
            if now < self._next:
                return
            effects = bytearray(self._index.effects)
            while self._left and self._left[-1][0] <= now:
                effects[self._left.pop()[1]] = NEITHER
            # The effects first: whoever begins to remember anew must decide by them. Who is deciding by the old ones
            # remembers it where nobody looks again.
            self._index.effects = bytes(effects)
            self._forget()
            self._next = self._left[-1][0] if self._left else float("inf")
