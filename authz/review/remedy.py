"""Remedy: the smallest rule that would allow what was refused, whatever the policy's model looks like.

The policy is asked again, with the rule: what is told does allow it, or it is said that nothing so small would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from authz.authn.base import PrincipalKind
from authz.call import Call, Scope
from authz.claims.base import Claims
from authz.decision import authorizer_for
from authz.decision.base import Effect
from authz.errors import EvaluationError, PolicyError
from authz.policy.revision import PolicyLine, Revision
from authz.review.named_users import is_hashed
from authz.review.narrow_rules import (
    BEYOND,
    HASHED,
    METHOD_UNKNOWN,
    NOBODY,
    UNWRITABLE,
    NarrowRules,
    without_roles,
)
from authz.review.replay import claims_of

UNKNOWN: Final = "unknown: the policy that decided is not at hand; name its folder with --policy"
_ALLOWED: Final = "none is needed: this policy allows it"


@dataclass(frozen=True, slots=True)
class _Question:
    at: int
    claims: Claims
    call: Call
    lines: tuple[PolicyLine, ...]


class Remedies:
    """Finds remedies for refusals for which there was no rule.

    Args:
        revision: the policy that is to allow them.

    Raises:
        PolicyError: it cannot be evaluated at all.
    """

    def __init__(self, revision: Revision) -> None:
        self._revision = revision
        self._authorizer = authorizer_for(revision)
        self._rules = NarrowRules(revision)

    def find(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """For each refusal its remedy, or a sentence on why there is none.

        Args:
            rows: the fields of records, of which one stands for many that are alike.
        """
        told = [self._told_at_once(row) for row in rows]
        questions = [self._question(at, row) for at, row in enumerate(rows) if not told[at]]
        writable = self._rules.writable(line for each in questions for line in each.lines)
        more = {line.text: line for each in questions for line in each.lines}
        try:
            # all at once: each names one caller, one method and one namespace, and so helps nobody else
            extended = authorizer_for(replace(self._revision, lines=[*self._revision.lines, *more.values()]))
        except PolicyError:
            return [each or BEYOND for each in told]
        for each in questions:
            try:
                allowed = extended.authorize(each.claims, each.call).effect is Effect.ALLOW
            except EvaluationError:
                allowed = False
            texts = " and ".join(line.text for line in each.lines)
            could = (texts or _ALLOWED) if writable.issuperset(each.lines) else UNWRITABLE
            told[each.at] = could if allowed else BEYOND
        return told

    def _told_at_once(self, row: Mapping[str, Any]) -> str:
        if is_hashed(row):
            return HASHED
        if self._revision.catalogue.find(str(row["method"])) is None:
            return METHOD_UNKNOWN
        return NOBODY if row["authn"] == PrincipalKind.ANONYMOUS else ""

    def _question(self, at: int, row: Mapping[str, Any]) -> _Question:
        """What was asked, and a rule for each namespace in which it is not allowed."""
        sub, method = str(row["sub"]), str(row["method"])
        # what a shortened record does not tell of the caller's roles, the rule makes up for
        claims = claims_of(row) or without_roles(sub, str(row["iss"]))
        call = Call(method, tuple(row["namespaces"] or ()))
        entry = self._revision.catalogue.find(method)
        assert entry is not None
        places = (None,) if entry.scope is Scope.CLUSTER else call.namespaces or (None,)
        lines = []
        for place in places:
            try:
                if self._authorizer.authorize(claims, Call(method, (place,))).effect is Effect.ALLOW:
                    continue
            except EvaluationError:
                pass
            lines.append(self._rules.make(sub, place, method, entry))
        return _Question(at, claims, call, tuple(lines))
