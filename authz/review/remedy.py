"""Remedy: the smallest rule that would allow what was refused, whatever the policy's model looks like.

A rule is made from the model: each field says what the matcher compares it with. Then the policy is asked again, with
the rule: what is told does allow it, or it is said that nothing so small would.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from authz.authn.base import Principal, PrincipalKind
from authz.call import Call, Scope
from authz.claims.base import Claims
from authz.decision import authorizer_for
from authz.decision.base import Effect
from authz.decision.bundle import request_values
from authz.errors import EvaluationError, Place, PolicyError
from authz.policy.ending import NEVER, end_field
from authz.policy.load import MODEL
from authz.policy.matcher import parse_matcher
from authz.policy.model import read_model
from authz.policy.revision import PolicyLine, Revision
from authz.review.named_users import is_hashed
from authz.review.replay import claims_of

UNKNOWN: Final = "unknown: the policy that decided is not at hand; name its folder with --policy"
METHOD_UNKNOWN: Final = "none: the API catalogue does not know the method"
_HASHED: Final = "none: the subject is hashed in the log"
_NOBODY: Final = "none: the caller showed nothing, and a rule for role:everyone would be for all"
_ALLOWED: Final = "none is needed: this policy allows it"
_BEYOND: Final = "none: no rule about this caller, this method and this namespace alone would, by the policy's model"


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
        model = read_model(revision.model, str(revision.path / MODEL))
        tree = parse_matcher(model)
        self._names = model.policies["p"]
        self._compared = _compared(tree)
        self._fixed = {"eft": "allow", "priority": "1", end_field(tree): NEVER}

    def find(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """For each refusal its remedy, or a sentence on why there is none.

        Args:
            rows: the fields of records, of which one stands for many that are alike.
        """
        told = [self._told_at_once(row) for row in rows]
        questions = [self._question(at, row) for at, row in enumerate(rows) if not told[at]]
        more = {line.text: line for each in questions for line in each.lines}
        try:
            # all at once: each names one caller, one method and one namespace, and so helps nobody else
            extended = authorizer_for(replace(self._revision, lines=[*self._revision.lines, *more.values()]))
        except PolicyError:
            return [each or _BEYOND for each in told]
        for each in questions:
            try:
                allowed = extended.authorize(each.claims, each.call).effect is Effect.ALLOW
            except EvaluationError:
                allowed = False
            texts = " and ".join(line.text for line in each.lines)
            told[each.at] = (texts or _ALLOWED) if allowed else _BEYOND
        return told

    def _told_at_once(self, row: Mapping[str, Any]) -> str:
        if is_hashed(row):
            return _HASHED
        if self._revision.catalogue.find(str(row["method"])) is None:
            return METHOD_UNKNOWN
        return _NOBODY if row["authn"] == PrincipalKind.ANONYMOUS else ""

    def _question(self, at: int, row: Mapping[str, Any]) -> _Question:
        """What was asked, and a rule for each namespace in which it is not allowed."""
        sub, method = str(row["sub"]), str(row["method"])
        # what a shortened record does not tell of the caller's roles, the rule makes up for
        bare = Claims(Principal(PrincipalKind.TOKEN, str(row["iss"]), sub.removeprefix("user:")))
        claims = claims_of(row) or bare
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
            asked = {**request_values(place, method, entry), "sub": sub}
            values = [self._fixed.get(name) or asked.get(self._compared.get(name, ""), "*") for name in self._names]
            lines.append(PolicyLine("p", tuple(values), Place("policy.csv")))
        return _Question(at, claims, call, tuple(lines))


def _compared(tree: ast.expr) -> dict[str, str]:
    """Field of the rule -> the field of the request that the matcher compares it with: the first of several."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare | ast.Call):
            parts = [node.left, *node.comparators] if isinstance(node, ast.Compare) else node.args
            names = [part.id for part in parts if isinstance(part, ast.Name)]
            asked = [name[2:] for name in names if name.startswith("r_")]
            for name in names:
                if name.startswith("p_") and asked:
                    found.setdefault(name[2:], asked[0])
    return found
