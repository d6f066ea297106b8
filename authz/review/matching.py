"""Matching: every rule that a recorded call matched. A record names the one that decided; others may say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any, Final

from authz.audit.shelf import find_on_shelf
from authz.call import ApiMethod, Call
from authz.claims.base import Claims
from authz.decision.base import Effect, Rule, Verdict
from authz.decision.bundle import EFFECTS, BundleAuthorizer, request_values, subjects_of
from authz.decision.index import Index
from authz.decision.rules import resolve
from authz.decision.selector import NotCompilable
from authz.errors import EvaluationError, PolicyError
from authz.policy.load import load_bundle
from authz.policy.revision import Revision
from authz.review.replay import claims_of

_NEVER: Final = float("inf")


class Matching(BundleAuthorizer):
    """Finds every rule of a revision that a call matches.

    Raises:
        NotCompilable: some part of the matcher can only be evaluated by Casbin, which tells one rule.
        PolicyError: the revision's model cannot be evaluated at all.
    """

    def __init__(self, revision: Revision) -> None:
        super().__init__(revision)
        self._index = Index(self._rules)
        if self._index.slow:
            raise NotCompilable(self._index.slow)
        self._matched: list[tuple[Effect, Rule]] = []
        self._at = 0.0

    def matched(self, claims: Claims, call: Call, at: float) -> list[Rule]:
        """The rules that say what came out: allows of an allow, denials of a denial.

        Each of them comes once for each of the caller's subjects that lead to it.

        Args:
            claims: who called.
            call: what was asked.
            at: when, in seconds since the epoch: rules that had ended by then do not count.

        Raises:
            EvaluationError: it could not be decided.
        """
        self._matched, self._at = [], at
        effect = self.authorize(claims, call).effect
        return [rule for said, rule in self._matched if said is effect]

    def _ask(self, claims: Claims, method: str, api: ApiMethod, namespace: str | None) -> Verdict:
        values, subjects = request_values(namespace, method, api), subjects_of(claims, namespace)
        found: set[int] = set()
        for subject in subjects:
            request = tuple([{**values, "sub": subject}[name] for name in self._model.request])
            for rule in self._index.found(request):
                if self._index.ends.get(rule, _NEVER) > self._at:
                    found.add(rule)
                    told = self._rule(self._index.lines[rule], (subject,), subject, values["dom"])
                    self._matched.append((EFFECTS[self._index.effects[rule]], told))
        effect, _ = resolve(self._model.effect, sorted(found), self._index.effects)
        return self._answer(EFFECTS[effect], None)


class KeptPolicies:
    """The policies by which recorded decisions were made, as far as they are at hand.

    Args:
        places: files of logs, beside which copies are kept.
        revision: one that is at hand besides.
    """

    def __init__(self, places: Sequence[Path], revision: Revision | None = None) -> None:
        self._places = sorted({place.parent for place in places})
        self._matchings: dict[str, Matching | None] = {}
        self._revisions: dict[str, Revision | None] = {revision.id: revision} if revision else {}

    def find(self, version: str) -> Revision | None:
        """The revision with the id ``version``; None: it is not at hand."""
        if version not in self._revisions:
            kept = find_on_shelf(version, self._places)
            try:
                found = None if kept is None else load_bundle(kept)
            except PolicyError:
                found = None
            # a copy that was changed is another policy
            self._revisions[version] = found if found is not None and found.id == version else None
        return self._revisions[version]

    def matched(self, record: Mapping[str, Any]) -> list[Rule] | None:
        """Every rule that said what the record says; None: nobody can tell.

        Args:
            record: the fields of a decision, and ``last``, the time when it was made.
        """
        matching, claims = self._matching(record["policy_version"] or ""), claims_of(record)
        if matching is None or claims is None:
            return None
        call = Call(str(record["method"]), tuple(record["namespaces"] or ()), record["unreadable"])
        try:
            return matching.matched(claims, call, record["last"].replace(tzinfo=UTC).timestamp())
        except EvaluationError:
            return None

    def _matching(self, version: str) -> Matching | None:
        if version not in self._matchings:
            revision = self.find(version)
            try:
                self._matchings[version] = None if revision is None else Matching(revision)
            except (NotCompilable, PolicyError):
                self._matchings[version] = None
        return self._matchings[version]
